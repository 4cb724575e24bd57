package policy

import (
	"net/netip"
	"strings"
)

// clusterTier asks the ClusterNetworkPolicies of one tier in their order; final is false when none decides or one passes.
func (q *query) clusterTier(tier Tier, base Decision) (out Decision, final bool) {
	for _, p := range q.e.tiers[tier] {
		if !q.e.isSubject(&p.Spec.Subject, q.subject) {
			continue
		}
		for i, r := range clusterRules(p, q.d) {
			matched, peer := q.clusterRule(r)
			if !matched {
				continue
			}
			action := r.action
			if peer == closed && action == Pass {
				action = Deny
			}
			switch action {
			case Pass:
				return base, false
			case Accept, Deny:
			default: // of a later version of the API
				action = Deny
			}
			out = base
			out.Allowed, out.Reason, out.Tier = action == Accept, ByRule, tier
			out.Policy, out.Rule, out.RuleName, out.Peer = p.Meta.Key(), i, r.name, max(peer, -1)
			return out, true
		}
	}
	return base, false
}

// clusterRule is a rule of either direction.
type clusterRule struct {
	name      string
	action    Action
	peers     []ClusterEgressPeer
	protocols []ClusterProtocol
}

func clusterRules(p *ClusterNetworkPolicy, d Direction) []clusterRule {
	var out []clusterRule
	if d == Egress {
		for _, r := range p.Spec.Egress {
			out = append(out, clusterRule{r.Name, r.Action, r.To, r.Protocols})
		}
		return out
	}
	for _, r := range p.Spec.Ingress {
		peers := make([]ClusterEgressPeer, len(r.From))
		for i, f := range r.From {
			peers[i] = ClusterEgressPeer{Namespaces: f.Namespaces, Pods: f.Pods}
		}
		out = append(out, clusterRule{r.Name, r.Action, peers, r.Protocols})
	}
	return out
}

// isSubject reports whether a policy with this subject is for pod. A subject without any field is of a later version; it is for none.
func (e *Evaluator) isSubject(s *Subject, pod *Pod) bool {
	switch {
	case s.Namespaces != nil:
		return s.Namespaces.Matches(e.namespace(pod.Meta.Namespace))
	case s.Pods != nil:
		return e.isPod(s.Pods, pod)
	}
	return false
}

func (e *Evaluator) isPod(s *NamespacedPod, pod *Pod) bool {
	return s.NamespaceSelector.Matches(e.namespace(pod.Meta.Namespace)) && s.PodSelector.Matches(pod.Meta.Labels)
}

// closed is the peer index of a rule that matches because something in it cannot be read.
const closed = -2

// clusterRule reports whether r matches, and by which of its peers.
func (q *query) clusterRule(r clusterRule) (matched bool, peer int) {
	if !r.readable() {
		return r.action != Accept, closed
	}
	protocolOK := len(r.protocols) == 0
	for i := range r.protocols {
		protocolOK = protocolOK || q.protocol(&r.protocols[i], r.action)
	}
	for i := range r.peers {
		if protocolOK && q.clusterPeer(&r.peers[i], r.action) {
			return true, i
		}
	}
	return false, -1
}

// readable reports whether every peer and protocol of the rule says something that this version knows. It does not depend on the packet.
func (r *clusterRule) readable() bool {
	for i := range r.peers {
		if !r.peers[i].readable(r.action) {
			return false
		}
	}
	for i := range r.protocols {
		if !r.protocols[i].readable() {
			return false
		}
	}
	return true
}

func (p *ClusterEgressPeer) readable(action Action) bool {
	if count(p.Namespaces != nil, p.Pods != nil, p.Nodes != nil, p.Networks != nil, p.DomainNames != nil) != 1 {
		return false
	}
	for _, s := range p.Networks {
		if _, ok := parseNetwork(s); !ok {
			return false
		}
	}
	// Names decide only what is accepted: to deny by a list that may be incomplete would leave the rest open.
	return (p.Namespaces == nil || p.Namespaces.readable()) &&
		(p.Pods == nil || p.Pods.NamespaceSelector.readable() && p.Pods.PodSelector.readable()) &&
		(p.Nodes == nil || p.Nodes.readable()) &&
		(p.DomainNames == nil || action == Accept)
}

func (p *ClusterProtocol) readable() bool {
	if count(p.TCP != nil, p.UDP != nil, p.SCTP != nil, p.DestinationNamedPort != "") != 1 {
		return false
	}
	for _, port := range []*ProtocolPort{p.TCP, p.UDP, p.SCTP} {
		if port == nil {
			continue
		}
		if d := port.DestinationPort; d == nil || count(d.Number != 0, d.Range != nil) != 1 {
			return false
		}
	}
	return true
}

// count returns how many are true.
func count(set ...bool) (n int) {
	for _, is := range set {
		if is {
			n++
		}
	}
	return n
}

// protocol reports whether the packet is of protocol p, which is readable.
func (q *query) protocol(p *ClusterProtocol, action Action) bool {
	var proto Protocol
	var port *ProtocolPort
	switch {
	case p.TCP != nil:
		proto, port = TCP, p.TCP
	case p.UDP != nil:
		proto, port = UDP, p.UDP
	case p.SCTP != nil:
		proto, port = SCTP, p.SCTP
	default:
		return q.namedPort(p.DestinationNamedPort, q.packet.Protocol, action == Deny)
	}
	if proto != q.packet.Protocol {
		return false
	}
	n := int32(q.packet.Port)
	if r := port.DestinationPort.Range; r != nil {
		return n >= r.Start && n <= r.End
	}
	return n == port.DestinationPort.Number
}

// clusterPeer reports whether the other end is p, which is readable. A rule that denies is for an address as soon as one of the pods
// that claim it is selected.
func (q *query) clusterPeer(p *ClusterEgressPeer, action Action) (ok bool) {
	is := q.peerIs
	if action == Deny {
		is = q.peerMayBe
	}
	switch {
	case p.Namespaces != nil:
		return is(func(pod *Pod) bool { return p.Namespaces.Matches(q.e.namespace(pod.Meta.Namespace)) })
	case p.Pods != nil:
		return is(func(pod *Pod) bool { return q.e.isPod(p.Pods, pod) })
	case p.Nodes != nil:
		for _, n := range q.e.nodes[q.peer] {
			ok = ok || p.Nodes.Matches(n.Meta.Labels)
		}
		return ok
	case p.Networks != nil:
		for _, s := range p.Networks {
			in, _ := parseNetwork(s)
			ok = ok || in.Contains(q.peer)
		}
		return ok
	}
	for _, name := range p.DomainNames {
		ok = ok || q.e.resolves(name, q.peer)
	}
	return ok
}

// resolves reports whether a is among the known addresses of a domain name or, for "*.parent", of any name below the parent.
func (e *Evaluator) resolves(pattern string, a netip.Addr) bool {
	pattern = strings.TrimSuffix(strings.ToLower(pattern), ".")
	parent, wildcard := strings.CutPrefix(pattern, "*.")
	if !wildcard {
		return holds(e.domains[pattern], a)
	}
	for name, addrs := range e.domains {
		if strings.HasSuffix(name, "."+parent) && holds(addrs, a) {
			return true
		}
	}
	return false
}

func holds(addrs []netip.Addr, a netip.Addr) bool {
	for _, have := range addrs {
		if have.Unmap() == a {
			return true
		}
	}
	return false
}
