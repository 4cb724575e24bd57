package policy_test

import (
	"maps"
	"slices"

	"github.com/podplumb/podplumb/policy"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (d dice) networkPolicy(name string) policy.NetworkPolicy {
	p := policy.NetworkPolicy{Meta: policy.Meta{Namespace: pick(d, worldNamespaces), Name: name}}
	p.Spec.PodSelector = d.selector()
	p.Spec.PolicyTypes = pick(d, [][]policy.Direction{nil, {}, {policy.Ingress}, {policy.Egress}, {policy.Egress, policy.Ingress}})
	p.Spec.Ingress = some(d, 2, func() policy.IngressRule { return policy.IngressRule{From: d.peers(), Ports: d.ports()} })
	p.Spec.Egress = some(d, 2, func() policy.EgressRule { return policy.EgressRule{To: d.peers(), Ports: d.ports()} })
	if d.oneIn(4) { // networks and ports that share what the kernel looks up
		for range 1 + d.IntN(4) {
			p.Spec.Ingress = append(p.Spec.Ingress, policy.IngressRule{From: d.blocks(), Ports: d.numbers()})
			p.Spec.Egress = append(p.Spec.Egress, policy.EgressRule{To: d.blocks(), Ports: d.numbers()})
		}
	}
	if d.oneIn(3) { // selectors and ports, of which some are for several selectors
		for range 3 + d.IntN(8) {
			p.Spec.Ingress = append(p.Spec.Ingress, policy.IngressRule{From: d.selected(), Ports: d.numbers()[:1]})
			p.Spec.Egress = append(p.Spec.Egress, policy.EgressRule{To: d.selected(), Ports: d.numbers()[:1]})
		}
	}
	return p
}

func (d dice) selected() []policy.Peer {
	s := d.selector()
	list := []policy.Peer{{PodSelector: &s, NamespaceSelector: d.maybeSelector(3)}}
	if d.oneIn(4) {
		list = append(list, d.peer())
	}
	return list
}

func (d dice) blocks() []policy.Peer {
	return append(some(d, 2, func() policy.Peer { return policy.Peer{IPBlock: &policy.IPBlock{CIDR: pick(d, worldSpellings)}} }),
		policy.Peer{IPBlock: &policy.IPBlock{CIDR: pick(d, worldSpellings)}})
}

func (d dice) numbers() []policy.Port {
	number := func() policy.Port {
		proto := pick(d, worldProtocols[:3])
		return policy.Port{Protocol: &proto, Port: &policy.PortRef{Number: int32(pick(d, worldPorts[1:]))}}
	}
	return append(some(d, 2, number), number())
}

func (d dice) peers() []policy.Peer {
	if d.oneIn(6) {
		return pick(d, [][]policy.Peer{nil, {}})
	}
	return append(some(d, 2, d.peer), d.peer())
}

func (d dice) peer() policy.Peer {
	var p policy.Peer
	if d.oneIn(3) {
		p.IPBlock = &policy.IPBlock{CIDR: pick(d, worldSpellings), Except: some(d, 2, func() string { return pick(d, worldSpellings) })}
		if d.faulty && d.oneIn(15) {
			p.IPBlock.Except = append(p.IPBlock.Except, "nonsense")
		}
		if !d.faulty || !d.oneIn(10) {
			return p
		}
	}
	p.PodSelector, p.NamespaceSelector = d.maybeSelector(3), d.maybeSelector(3)
	if p.PodSelector == nil && p.NamespaceSelector == nil && !d.faulty {
		p.PodSelector = &policy.Selector{}
	}
	return p
}

func (d dice) ports() []policy.Port {
	if d.oneIn(3) {
		return pick(d, [][]policy.Port{nil, {}})
	}
	return append(some(d, 1, d.port), d.port())
}

func (d dice) port() policy.Port {
	var p policy.Port
	if !d.oneIn(3) {
		proto := pick(d, worldProtocols[:3])
		p.Protocol = &proto
	}
	switch d.IntN(6) {
	case 0:
		return p
	case 1:
		p.Port = &policy.PortRef{Name: pick(d, []string{"web", "web", "dns", "none"})}
	case 2:
		first := pick(d, worldPorts[1:])
		last := min(65535, int32(first)+d.Int32N(20))
		if d.oneIn(4) {
			last = 65535
		}
		p.Port, p.EndPort = &policy.PortRef{Number: int32(first)}, &last
	default:
		p.Port = &policy.PortRef{Number: int32(pick(d, worldPorts[1:]))}
	}
	if d.faulty && d.oneIn(8) {
		last := int32(80)
		p.Port, p.EndPort = pick(d, []*policy.PortRef{nil, {Name: "web"}, {Name: "web"}, {Number: 81}}), &last
	}
	return p
}

func (d dice) namespacedPod() *policy.NamespacedPod {
	return &policy.NamespacedPod{NamespaceSelector: d.selector(), PodSelector: d.selector()}
}

func (d dice) clusterPolicy(name string) policy.ClusterNetworkPolicy {
	p := policy.ClusterNetworkPolicy{Meta: policy.Meta{Name: name}}
	p.Spec.Tier = pick(d, []policy.Tier{policy.Admin, policy.Baseline})
	p.Spec.Priority = d.Int32N(3)
	if d.oneIn(2) {
		p.Spec.Subject.Pods = d.namespacedPod()
	} else {
		s := d.selector()
		p.Spec.Subject.Namespaces = &s
	}
	p.Spec.Ingress = some(d, 2, func() policy.ClusterIngressRule {
		r := policy.ClusterIngressRule{Action: d.action(), Protocols: d.clusterProtocols(true)}
		for range 1 + d.IntN(2) {
			egress := d.clusterPeer(2, r.Action)
			r.From = append(r.From, policy.ClusterIngressPeer{Namespaces: egress.Namespaces, Pods: egress.Pods})
		}
		return r
	})
	p.Spec.Egress = some(d, 2, func() policy.ClusterEgressRule {
		r := policy.ClusterEgressRule{Action: d.action()}
		pods := true
		for range 1 + d.IntN(2) {
			r.To = append(r.To, d.clusterPeer(5, r.Action))
			last := r.To[len(r.To)-1]
			pods = pods && (last.Namespaces != nil || last.Pods != nil)
		}
		r.Protocols = d.clusterProtocols(pods || d.faulty)
		return r
	})
	return p
}

func (d dice) action() policy.Action {
	if d.faulty && d.oneIn(40) {
		return "Log"
	}
	return pick(d, []policy.Action{policy.Accept, policy.Deny, policy.Pass})
}

func (d dice) clusterPeer(kinds int, action policy.Action) (p policy.ClusterEgressPeer) {
	if d.faulty && d.oneIn(30) {
		return p // of a later version
	}
	switch d.IntN(kinds) {
	case 0:
		s := d.selector()
		p.Namespaces = &s
	case 1:
		p.Pods = d.namespacedPod()
	case 2:
		s := d.selector()
		p.Nodes = &s
	case 3:
		p.Networks = append(p.Networks, pick(d, []string{"10.244.0.0/16", "0.0.0.0/0", "::/0", "10.244.1.9/24", "fd00:244::/32", "192.0.2.0/25", "10.0.0.0/24"}))
		if d.faulty && d.oneIn(10) {
			p.Networks = append(p.Networks, pick(d, []string{"::ffff:10.0.0.0/104", "010.0.0.0/8", ""}))
		}
	case 4:
		if action != policy.Accept && !d.faulty {
			p.Networks = []string{"2001:db8::/32"}
			return p
		}
		p.DomainNames = []string{pick(d, []string{"example.com", "*.EXAMPLE.com", "a.example.com."})}
	}
	if d.faulty && d.oneIn(40) {
		p.Pods = d.namespacedPod()
	}
	return p
}

func (d dice) clusterProtocols(named bool) []policy.ClusterProtocol {
	if d.oneIn(3) {
		return nil
	}
	return append(some(d, 1, func() policy.ClusterProtocol { return d.clusterProtocol(named) }), d.clusterProtocol(named))
}

func (d dice) clusterProtocol(named bool) (p policy.ClusterProtocol) {
	if named && d.oneIn(4) {
		p.DestinationNamedPort = pick(d, []string{"web", "dns", "none"})
		return p
	}
	port := &policy.ProtocolPort{DestinationPort: &policy.ClusterPort{Number: int32(pick(d, worldPorts[1:]))}}
	if d.oneIn(3) {
		start := 1 + d.Int32N(100)
		port.DestinationPort = &policy.ClusterPort{Range: &policy.PortRange{Start: start, End: start + 1 + d.Int32N(9000)}}
	}
	if d.faulty && d.oneIn(40) {
		port.DestinationPort = pick(d, []*policy.ClusterPort{nil, {}})
	}
	switch d.IntN(3) {
	case 0:
		p.TCP = port
	case 1:
		p.UDP = port
	default:
		p.SCTP = port
	}
	if d.faulty && d.oneIn(60) {
		p.UDP = port
	}
	return p
}
