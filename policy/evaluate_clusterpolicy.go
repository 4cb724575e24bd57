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

// closed is the peer index of a rule that matches because something in it is unknown.
const closed = -2

// clusterRule reports whether r matches, and by which of its peers.
func (q *query) clusterRule(r clusterRule) (matched bool, peer int) {
	unknown := false
	protocolOK := len(r.protocols) == 0
	for i := range r.protocols {
		ok, known := q.protocol(&r.protocols[i])
		protocolOK, unknown = protocolOK || ok, unknown || !known
	}
	found := -1
	for i := range r.peers {
		ok, known := q.clusterPeer(&r.peers[i], r.action)
		unknown = unknown || !known
		if ok && found < 0 {
			found = i
		}
	}
	if unknown {
		return r.action != Accept, closed
	}
	return protocolOK && found >= 0, found
}

// protocol reports whether the packet is of protocol p; known is false when p sets nothing that this version knows.
func (q *query) protocol(p *ClusterProtocol) (ok, known bool) {
	match := func(proto Protocol, port *ProtocolPort) (bool, bool) {
		if proto != q.packet.Protocol {
			return false, true
		}
		switch d := port.DestinationPort; {
		case d == nil:
			return true, true
		case d.Range != nil:
			return int32(q.packet.Port) >= d.Range.Start && int32(q.packet.Port) <= d.Range.End, true
		case d.Number != 0:
			return int32(q.packet.Port) == d.Number, true
		}
		return false, false
	}
	switch {
	case p.TCP != nil:
		return match(TCP, p.TCP)
	case p.UDP != nil:
		return match(UDP, p.UDP)
	case p.SCTP != nil:
		return match(SCTP, p.SCTP)
	case p.DestinationNamedPort != "":
		return q.namedPort(p.DestinationNamedPort, q.packet.Protocol), true
	}
	return false, false
}

func (q *query) clusterPeer(p *ClusterEgressPeer, action Action) (ok, known bool) {
	switch {
	case p.Namespaces != nil:
		return q.peerIs(func(pod *Pod) bool { return p.Namespaces.Matches(q.e.namespace(pod.Meta.Namespace)) }), true
	case p.Pods != nil:
		return q.peerIs(func(pod *Pod) bool { return q.e.isPod(p.Pods, pod) }), true
	case p.Nodes != nil:
		for _, n := range q.e.nodes[q.peer] {
			if p.Nodes.Matches(n.Meta.Labels) {
				return true, true
			}
		}
		return false, true
	case p.Networks != nil:
		for _, s := range p.Networks {
			in, err := netip.ParsePrefix(s)
			if err != nil {
				return false, false
			}
			ok = ok || in.Contains(q.peer)
		}
		return ok, true
	case p.DomainNames != nil:
		for _, name := range p.DomainNames {
			ok = ok || q.e.resolves(name, q.peer)
		}
		// Names decide only what is accepted: to deny by a list that may be incomplete would leave the rest open.
		return ok, action == Accept
	}
	return false, false
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
