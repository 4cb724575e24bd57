package policy

import (
	"fmt"
	"net/netip"
)

// networkPolicies decides by the NetworkPolicies that isolate the pod; final is false when there are none.
func (q *query) networkPolicies(base Decision) (out Decision, final bool) {
	out = base
	out.Tier, out.Reason = NetworkPolicyTier, ByIsolation
	nearness := -1
	for _, p := range q.e.policies[q.subject.Meta.Namespace] {
		if !p.isolates(q.d) || !p.Spec.PodSelector.Matches(q.subject.Meta.Labels) {
			continue
		}
		out.Isolating = append(out.Isolating, p.Meta.Key())
		for i := range q.rules(p) {
			peer, peerOK, portOK := q.rule(p, i)
			if peerOK && portOK {
				out = base
				out.Allowed, out.Reason, out.Tier = true, ByRule, NetworkPolicyTier
				out.Policy, out.Rule, out.Peer = p.Meta.Key(), i, peer
				return out, true
			}
			near, text := 0, fmt.Sprintf("no rule of %s matches", p.Meta.Key())
			switch {
			case peerOK:
				near, text = 2, fmt.Sprintf("no rule of %s matches %s port %d", p.Meta.Key(), q.packet.Protocol, q.packet.Port)
			case portOK:
				near, text = 1, fmt.Sprintf("no rule of %s matches %s", p.Meta.Key(), q.peerName())
			}
			if near > nearness {
				nearness, out.Nearest = near, text
			}
		}
	}
	return out, len(out.Isolating) > 0
}

func (q *query) peerName() string {
	if len(q.peers) > 0 {
		return q.peers[0].Meta.Key().String()
	}
	return q.peer.String()
}

// rules returns the number of p's rules of the query's direction.
func (q *query) rules(p *NetworkPolicy) int {
	if q.d == Ingress {
		return len(p.Spec.Ingress)
	}
	return len(p.Spec.Egress)
}

// rule tells whether the peers and the ports of rule i match, and which peer does (-1: the rule has none, so everyone).
func (q *query) rule(p *NetworkPolicy, i int) (peer int, peerOK, portOK bool) {
	var peers []Peer
	var ports []Port
	if q.d == Ingress {
		peers, ports = p.Spec.Ingress[i].From, p.Spec.Ingress[i].Ports
	} else {
		peers, ports = p.Spec.Egress[i].To, p.Spec.Egress[i].Ports
	}
	portOK = len(ports) == 0
	for j := range ports {
		portOK = portOK || q.port(&ports[j])
	}
	if len(peers) == 0 {
		return -1, true, portOK
	}
	for j := range peers {
		if q.matchesPeer(p.Meta.Namespace, &peers[j]) {
			return j, true, portOK
		}
	}
	return -1, false, portOK
}

func (q *query) matchesPeer(namespace string, peer *Peer) bool {
	if peer.IPBlock != nil {
		// A block beside selectors is refused by the API server; it allows nothing here.
		return peer.PodSelector == nil && peer.NamespaceSelector == nil && peer.IPBlock.contains(q.peer)
	}
	if peer.PodSelector == nil && peer.NamespaceSelector == nil {
		return false
	}
	return q.peerIs(func(pod *Pod) bool {
		if peer.NamespaceSelector == nil {
			if pod.Meta.Namespace != namespace {
				return false
			}
		} else if !peer.NamespaceSelector.Matches(q.e.namespace(pod.Meta.Namespace)) {
			return false
		}
		return peer.PodSelector == nil || peer.PodSelector.Matches(pod.Meta.Labels)
	})
}

// contains reports whether a is in the block and in none of its own exceptions.
func (b *IPBlock) contains(a netip.Addr) bool {
	if in, ok := parseBlock(b.CIDR); !ok || !in.Contains(a) {
		return false
	}
	for _, s := range b.Except {
		// An exception that cannot be read might be for this address.
		if out, ok := parseBlock(s); !ok || out.Contains(a) {
			return false
		}
	}
	return true
}

func (q *query) port(p *Port) bool {
	proto := TCP
	if p.Protocol != nil {
		proto = p.Protocol.orTCP()
	}
	switch {
	case proto != q.packet.Protocol:
		return false
	case p.Port == nil:
		return p.EndPort == nil
	case p.Port.Name != "":
		return p.EndPort == nil && q.namedPort(p.Port.Name, proto, false)
	case p.EndPort != nil:
		return int32(q.packet.Port) >= p.Port.Number && int32(q.packet.Port) <= *p.EndPort
	}
	return int32(q.packet.Port) == p.Port.Number
}
