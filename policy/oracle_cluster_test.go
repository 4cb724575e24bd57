package policy_test

import (
	"flag"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/policy"
)

// paintTier lays the ClusterNetworkPolicies of a tier over what is below, the last one first.
func (o *oracle) paintTier(canvas []bool, tier policy.Tier, pod int, in bool) {
	below := slices.Clone(canvas)
	var order []int
	for i := range o.s.ClusterPolicies {
		if o.s.ClusterPolicies[i].Spec.Tier == tier {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := &o.s.ClusterPolicies[i], &o.s.ClusterPolicies[j]
		if a.Spec.Priority != b.Spec.Priority {
			return int(b.Spec.Priority - a.Spec.Priority)
		}
		return strings.Compare(b.Meta.Name, a.Meta.Name)
	})
	meta := o.s.Pods[pod].Meta
	for _, i := range order {
		spec := &o.s.ClusterPolicies[i].Spec
		if n := spec.Subject.Namespaces; n != nil && !selects(*n, o.namespace(meta.Namespace)) {
			continue
		}
		if p := spec.Subject.Pods; p != nil && !(selects(p.NamespaceSelector, o.namespace(meta.Namespace)) && selects(p.PodSelector, meta.Labels)) {
			continue
		}
		if in {
			for _, r := range slices.Backward(spec.Ingress) {
				var peers []policy.ClusterEgressPeer
				for _, p := range r.From {
					peers = append(peers, policy.ClusterEgressPeer{Namespaces: p.Namespaces, Pods: p.Pods})
				}
				o.paintRule(canvas, below, pod, true, r.Action, peers, r.Protocols)
			}
			continue
		}
		for _, r := range slices.Backward(spec.Egress) {
			o.paintRule(canvas, below, pod, false, r.Action, r.To, r.Protocols)
		}
	}
}

func (o *oracle) paintRule(canvas, below []bool, pod int, in bool, action policy.Action, peers []policy.ClusterEgressPeer, protocols []policy.ClusterProtocol) {
	if broken(action, peers, protocols) {
		if action != policy.Accept {
			clear(canvas)
		}
		return
	}
	enough := func(n, of int) bool { return n > 0 && (n == of || action == policy.Deny) }
	o.paint(canvas, func(peer netip.Addr, proto policy.Protocol, port uint16) (bool, bool) {
		on := protocols == nil
		for _, p := range protocols {
			receivers := o.receivers(pod, in, peer)
			switch m := map[policy.Protocol]*policy.ProtocolPort{policy.TCP: p.TCP, policy.UDP: p.UDP, policy.SCTP: p.SCTP}[proto]; {
			case p.DestinationNamedPort != "":
				on = on || enough(o.isNamed(p.DestinationNamedPort, proto, port, receivers), len(receivers))
			case m != nil && m.DestinationPort.Range != nil:
				on = on || !(int32(port) < m.DestinationPort.Range.Start || int32(port) > m.DestinationPort.Range.End)
			case m != nil:
				on = on || int32(port) == m.DestinationPort.Number
			}
		}
		if !on || !slices.ContainsFunc(peers, func(p policy.ClusterEgressPeer) bool { return o.isClusterPeer(p, peer, enough) }) {
			return false, false
		}
		if action == policy.Pass {
			return below[o.cell(peer, proto, port)], true
		}
		return action == policy.Accept, true
	})
}

func (o *oracle) isClusterPeer(p policy.ClusterEgressPeer, a netip.Addr, enough func(n, of int) bool) bool {
	pods, n := o.pods(a), 0
	for _, i := range pods {
		meta := o.s.Pods[i].Meta
		if p.Namespaces != nil && selects(*p.Namespaces, o.namespace(meta.Namespace)) ||
			p.Pods != nil && selects(p.Pods.NamespaceSelector, o.namespace(meta.Namespace)) && selects(p.Pods.PodSelector, meta.Labels) {
			n++
		}
	}
	if enough(n, len(pods)) {
		return true
	}
	for i := range o.s.Nodes {
		for _, at := range o.s.Nodes[i].Status.Addresses {
			if p.Nodes != nil && among([]string{at.Address}, a) && selects(*p.Nodes, o.s.Nodes[i].Meta.Labels) {
				return true
			}
		}
	}
	for _, s := range p.Networks {
		if netip.MustParsePrefix(s).Contains(a) {
			return true
		}
	}
	for _, name := range p.DomainNames {
		for known, addrs := range o.s.Domains {
			want := strings.Split(strings.ToLower(strings.TrimSuffix(name, ".")), ".")
			have := strings.Split(known, ".")
			if want[0] == "*" && len(have) >= len(want) {
				have = append([]string{"*"}, have[len(have)-len(want)+1:]...)
			}
			if slices.Equal(want, have) && slices.Contains(addrs, a) {
				return true
			}
		}
	}
	return false
}

// broken reports whether the rule has something that no implementation of this version of the API can know the meaning of.
func broken(action policy.Action, peers []policy.ClusterEgressPeer, protocols []policy.ClusterProtocol) bool {
	bad := false
	selector := func(s *policy.Selector) int {
		if s == nil {
			return 0
		}
		for _, r := range s.MatchExpressions {
			list := map[policy.Operator]int{policy.In: 1, policy.NotIn: 1, policy.Exists: 2, policy.DoesNotExist: 2}[r.Operator]
			bad = bad || list == 0 || list == 1 && len(r.Values) == 0 || list == 2 && len(r.Values) != 0
		}
		return 1
	}
	for _, p := range peers {
		n := selector(p.Namespaces) + selector(p.Nodes) + min(1, len(p.Networks)) + min(1, len(p.DomainNames))
		if p.Pods != nil {
			n += selector(&p.Pods.NamespaceSelector)
			selector(&p.Pods.PodSelector)
		}
		bad = bad || n != 1 || p.DomainNames != nil && action != policy.Accept
		for _, s := range p.Networks {
			bad = bad || slices.Contains([]string{"", "010.0.0.0/8", "::ffff:10.0.0.0/104"}, s)
		}
	}
	for _, p := range protocols {
		n := 0
		if p.DestinationNamedPort != "" {
			n++
		}
		for _, port := range []*policy.ProtocolPort{p.TCP, p.UDP, p.SCTP} {
			if port != nil {
				n++
				bad = bad || port.DestinationPort == nil || (port.DestinationPort.Number == 0) == (port.DestinationPort.Range == nil)
			}
		}
		bad = bad || n != 1
	}
	return bad
}

var oracleTime = flag.Duration("oracle", time.Second, "how long to ask the oracle about random worlds")

// TestOracle holds Evaluate to the oracle, on every cell of as many random worlds as there is time for.
func TestOracle(t *testing.T) {
	t.Parallel()
	deadline := time.Now().Add(*oracleTime)
	cells, denied, worlds := 0, 0, 0
	for seed := uint64(0); seed < 20 || time.Now().Before(deadline); seed++ {
		s := newDice(seed, seed%4 == 3).state(6, 4, int(seed%3)*3)
		if seed%4 != 3 {
			faultless(t, s)
		}
		o, e := newOracle(s), policy.NewEvaluator(s)
		for _, src := range o.peers {
			for _, dst := range o.peers {
				if src.Is4() != dst.Is4() {
					continue
				}
				for _, proto := range worldProtocols {
					for _, port := range worldPorts {
						p := policy.Packet{Protocol: proto, Src: src, Dst: dst, Port: port}
						v := e.Evaluate(p)
						if want := o.allowed(p); v.Allowed != want {
							t.Fatalf("world %d: %s: the oracle says %v, not %s", seed, p, want, v)
						}
						cells++
						if !v.Allowed {
							denied++
						}
					}
				}
			}
		}
		worlds++
	}
	require.Greater(t, denied, cells/20, "worlds in which nearly all is allowed prove little")
	require.Less(t, denied, cells*3/4, "worlds in which nearly all is denied prove little")
	t.Logf("%d cells of %d worlds, %d%% denied", cells, worlds, 100*denied/cells)
}

// faultless requires that Validate finds nothing in a world but what the dice do on purpose: exceptions that are not in their block.
func faultless(t *testing.T, s policy.State) {
	t.Helper()
	err := s.Validate()
	if err == nil {
		return
	}
	for _, fault := range err.(interface{ Unwrap() []error }).Unwrap() {
		require.ErrorContains(t, fault, ".except[")
	}
}
