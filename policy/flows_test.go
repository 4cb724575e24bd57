package policy_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/policy"
)

func lines[T interface{ String() string }](items []T) string {
	var b strings.Builder
	for _, item := range items {
		b.WriteString(item.String() + "\n")
	}
	return b.String()
}

func TestFlows(t *testing.T) {
	t.Parallel()
	const deny = `{"metadata":{"namespace":"db","name":"deny"},"spec":{"podSelector":{}}}`
	const sql = `{"metadata":{"namespace":"db","name":"sql"},"spec":{"podSelector":{"matchLabels":{"app":"pg"}},"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"front"}},"namespaceSelector":{}}],"ports":[{"port":"sql"}]}]}}`
	tests := []struct {
		name          string
		before, after []string
		want          string
	}{
		{"nothing", []string{deny}, []string{deny}, ""},
		{"the name of a policy changes nothing", []string{deny}, []string{strings.Replace(deny, `"deny"`, `"other"`, 1)}, ""},
		{"default deny closes all", nil, []string{deny}, `closed every protocol  every pod, every node, outside -> db/*: was open for want of a policy, now isolated for ingress by db/deny
`},
		{"a rule opens one port, which may differ by pod", []string{deny}, []string{deny, sql}, `opened TCP 5432  web/front -> db/pg-0: was isolated for ingress by db/deny, now allowed by NetworkPolicy db/sql, ingress[0]
opened TCP 6432  web/front -> db/pg-1: was isolated for ingress by db/deny, now allowed by NetworkPolicy db/sql, ingress[0]
`},
		{"ranges", []string{`{"metadata":{"namespace":"db","name":"x"},"spec":{"podSelector":{"matchLabels":{"app":"pg"}},"ingress":[{"from":[{"ipBlock":{"cidr":"192.0.2.0/24"}}],"ports":[{"port":100,"endPort":200}]}]}}`},
			[]string{`{"metadata":{"namespace":"db","name":"x"},"spec":{"podSelector":{"matchLabels":{"app":"pg"}},"ingress":[{"from":[{"ipBlock":{"cidr":"192.0.2.0/24","except":["192.0.2.128/25"]}}],"ports":[{"port":150,"endPort":250},{"protocol":"UDP"}]}]}}`},
			`closed TCP 100-149 over IPv4  192.0.2.0/24 except 192.0.2.128/25 -> db/*: was allowed by NetworkPolicy db/x, ingress[0], now isolated for ingress by db/x
opened TCP 201-250, UDP over IPv4  192.0.2.0/24 except 192.0.2.128/25 -> db/*: was isolated for ingress by db/x, now allowed by NetworkPolicy db/x, ingress[0]
closed TCP 100-200 over IPv4  192.0.2.128/25 -> db/*: was allowed by NetworkPolicy db/x, ingress[0], now isolated for ingress by db/x
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			state := func(texts []string) policy.State {
				s := world(t)
				s.Nodes[1].Status.Addresses = append(s.Nodes[1].Status.Addresses, policy.NodeAddress{Address: "fd00:0::2"})
				for _, text := range texts {
					var p policy.NetworkPolicy
					parse(t, &p, text)
					s.Policies = append(s.Policies, p)
				}
				return s
			}
			flows, complete := policy.Flows(state(tt.before), state(tt.after))
			require.True(t, complete)
			require.Equal(t, tt.want, lines(flows))
		})
	}
}

func TestFlowsToOwnNode(t *testing.T) {
	t.Parallel()
	before, after := world(t), world(t)
	after.ClusterPolicies = make([]policy.ClusterNetworkPolicy, 1)
	parse(t, &after.ClusterPolicies[0], `{"metadata":{"name":"no-nodes"},"spec":{"tier":"Baseline","priority":1,"subject":{"namespaces":{"matchLabels":{"team":"front"}}},"egress":[{"action":"Deny","to":[{"nodes":{}}]}]}}`)
	flows, _ := policy.Flows(before, after)
	require.Contains(t, lines(flows), "web/* -> the own node: was open to the own node, now denied by Baseline no-nodes, egress[0]\n")
}

// TestFlowsAreTheDifference asks for every connection of random worlds whether it is in exactly one flow when its verdict changes, and in none when not.
func TestFlowsAreTheDifference(t *testing.T) {
	t.Parallel()
	deadline := time.Now().Add(*oracleTime)
	changed, flowsSeen := 0, 0
	for seed := uint64(0); seed < 20 || time.Now().Before(deadline); seed++ {
		d := newDice(seed, seed%4 == 3)
		before := d.state(6, 3, int(seed%3))
		after := before
		after.Policies, after.ClusterPolicies = slices.Clone(before.Policies), slices.Clone(before.ClusterPolicies)
		after.Policies = append(after.Policies, d.networkPolicy("new"))
		if len(after.Policies) > 1 && d.oneIn(2) {
			after.Policies = after.Policies[1:]
		}
		if d.oneIn(3) {
			after.ClusterPolicies = append(after.ClusterPolicies, d.clusterPolicy("new"))
		}
		if d.oneIn(3) {
			after.Pods = slices.Clone(before.Pods)
			after.Pods[2].Meta.Labels, after.Pods[3].Meta.Labels = d.labels(), d.labels()
		}
		flows, complete := policy.Flows(before, after)
		require.True(t, complete)
		d.Shuffle(len(after.Policies), func(i, j int) { after.Policies[i], after.Policies[j] = after.Policies[j], after.Policies[i] })
		again, _ := policy.Flows(before, after)
		require.Equal(t, lines(flows), lines(again), "world %d: the order of policies", seed)
		flowsSeen += len(flows)
		was, is := policy.NewEvaluator(before), policy.NewEvaluator(after)
		o := newOracle(before)
		for _, src := range o.peers {
			for _, dst := range o.peers {
				if src.Is4() != dst.Is4() || src == dst || len(o.pods(src)) > 1 || len(o.pods(dst)) > 1 { // pods that share an address have a flow each
					continue
				}
				for _, proto := range worldProtocols {
					for _, port := range []uint16{1, 53, 79, 80, 81, 82, 85, 99, 100, 30000, 65534, 65535} {
						p := policy.Packet{Protocol: proto, Src: src, Dst: dst, Port: port}
						a, b := was.Evaluate(p), is.Evaluate(p)
						n := 0
						for _, f := range flows {
							if f.Opened == b.Allowed && covers(o, f, p) {
								n++
							}
						}
						want := 0
						if a.Allowed != b.Allowed {
							want, changed = 1, changed+1
						}
						if n != want {
							t.Fatalf("world %d: %s is in %d flows, not %d: %s, then %s\n%s", seed, p, n, want, a, b, lines(flows)+dump(before))
						}
					}
				}
			}
		}
	}
	require.Greater(t, changed, 1000)
	t.Logf("%d changes in %d flows", changed, flowsSeen)
}

func covers(o *oracle, f policy.Flow, p policy.Packet) bool {
	if p.Src.Is4() && !f.IPv4 || p.Src.Is6() && !f.IPv6 {
		return false
	}
	proto := p.Protocol
	if proto == "ICMP" {
		proto = "other"
	}
	if !slices.ContainsFunc(f.Ports, func(at policy.Ports) bool {
		return at.Protocol == "" || at.Protocol == proto && (at.Last == 0 || p.Port >= at.First && p.Port <= at.Last)
	}) {
		return false
	}
	if len(o.pods(p.Dst)) > 0 && o.hosts(o.pods(p.Dst)[0], p.Src) {
		return false
	}
	own := len(o.pods(p.Src)) > 0 && o.hosts(o.pods(p.Src)[0], p.Dst)
	if own {
		return f.To.OwnNode && among2(o, f.From, p.Src)
	}
	return among2(o, f.From, p.Src) && among2(o, f.To, p.Dst)
}

func among2(o *oracle, e policy.Ends, a netip.Addr) bool {
	pods := o.pods(a)
	for _, i := range pods {
		if slices.Contains(e.Pods, o.s.Pods[i].Meta.Key()) {
			return true
		}
	}
	node := false
	for i := range o.s.Nodes {
		for _, at := range o.s.Nodes[i].Status.Addresses {
			if among([]string{at.Address}, a) {
				node = true
				if slices.Contains(e.Nodes, o.s.Nodes[i].Meta.Name) {
					return true
				}
			}
		}
	}
	if node || len(pods) > 0 {
		return false
	}
	return slices.ContainsFunc(e.Networks, func(n policy.Network) bool {
		return n.Prefix.Contains(a) && !slices.ContainsFunc(n.Except, func(p netip.Prefix) bool { return p.Contains(a) })
	})
}

func dump(s policy.State) string { b, _ := json.MarshalIndent(s, "", " "); return string(b) }
