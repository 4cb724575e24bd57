package policy

import (
	"cmp"
	"net/netip"
	"slices"
)

// Evaluate says whether p may pass in s, and why. It is the specification in code: it knows nothing of Compile and asks every object
// anew. For many packets of one State use an Evaluator.
//
// Faulty objects fail closed: a selector, address or port that cannot be read matches nothing where it allows, and a rule of a
// ClusterNetworkPolicy that has one and does not accept denies everything. Validate names such faults.
func Evaluate(s State, p Packet) Verdict { return NewEvaluator(s).Evaluate(p) }

// Evaluator answers for one State. It is safe for concurrent use.
type Evaluator struct {
	pods       map[netip.Addr][]*Pod
	nodes      map[netip.Addr][]*Node
	nodeByName map[string]*Node
	labels     map[string]map[string]string // of namespaces
	policies   map[string][]*NetworkPolicy  // by namespace, sorted by name
	tiers      map[Tier][]*ClusterNetworkPolicy
	domains    map[string][]netip.Addr
}

// NewEvaluator indexes s, which must not change while the Evaluator is in use.
func NewEvaluator(s State) *Evaluator {
	e := &Evaluator{
		pods:       map[netip.Addr][]*Pod{},
		nodes:      map[netip.Addr][]*Node{},
		nodeByName: map[string]*Node{},
		labels:     map[string]map[string]string{},
		policies:   map[string][]*NetworkPolicy{},
		tiers:      map[Tier][]*ClusterNetworkPolicy{},
		domains:    s.Domains,
	}
	for i := range s.Namespaces {
		e.labels[s.Namespaces[i].Meta.Name] = namespaceLabels(&s.Namespaces[i])
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		e.nodeByName[n.Meta.Name] = n
		for _, a := range n.addrs() {
			e.nodes[a] = append(e.nodes[a], n)
		}
	}
	for i := range s.Pods {
		for _, a := range s.Pods[i].Addrs() {
			e.pods[a] = append(e.pods[a], &s.Pods[i])
		}
	}
	for i := range s.Policies {
		p := &s.Policies[i]
		e.policies[p.Meta.Namespace] = append(e.policies[p.Meta.Namespace], p)
	}
	for _, list := range e.policies {
		slices.SortFunc(list, func(a, b *NetworkPolicy) int { return cmp.Compare(a.Meta.Name, b.Meta.Name) })
	}
	for i := range s.ClusterPolicies {
		p := &s.ClusterPolicies[i]
		e.tiers[p.Spec.Tier] = append(e.tiers[p.Spec.Tier], p)
	}
	for _, list := range e.tiers {
		slices.SortFunc(list, func(a, b *ClusterNetworkPolicy) int {
			return cmp.Or(cmp.Compare(a.Spec.Priority, b.Spec.Priority), cmp.Compare(a.Meta.Name, b.Meta.Name))
		})
	}
	return e
}

// namespaceLabels adds the label that the API server gives every namespace.
func namespaceLabels(n *Namespace) map[string]string {
	if _, ok := n.Meta.Labels[LabelName]; ok {
		return n.Meta.Labels
	}
	labels := map[string]string{LabelName: n.Meta.Name}
	for k, v := range n.Meta.Labels {
		labels[k] = v
	}
	return labels
}

// namespace returns the labels of a namespace; one that is not in the State has only its name.
func (e *Evaluator) namespace(name string) map[string]string {
	if labels, ok := e.labels[name]; ok {
		return labels
	}
	return map[string]string{LabelName: name}
}

func (n *Node) addrs() []netip.Addr {
	var out []netip.Addr
	for _, a := range n.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil {
			out = append(out, ip.Unmap())
		}
	}
	return out
}

// Evaluate says whether p may pass, and why. Both ends must allow it. Two live pods that claim one address, as happens for a moment
// when an address is reused, must both allow it.
func (e *Evaluator) Evaluate(p Packet) Verdict {
	p.Src, p.Dst = p.Src.Unmap(), p.Dst.Unmap()
	senders, receivers := e.pods[p.Src], e.pods[p.Dst]
	for _, pod := range senders {
		if len(senders) == 1 && len(receivers) == 1 && receivers[0] == pod {
			self := Decision{Allowed: true, Reason: SamePod, Pod: pod.Meta.Key()}
			return Verdict{Allowed: true, By: self, Egress: self, Ingress: self}
		}
	}
	v := Verdict{Egress: e.end(Egress, senders, &p)}
	if v.By = v.Egress; !v.Egress.Allowed {
		return v
	}
	v.Ingress = e.end(Ingress, receivers, &p)
	// Of two that allow, a rule tells more than the absence of one.
	if !v.Ingress.Allowed || v.Egress.Reason != ByRule || v.Ingress.Reason == ByRule {
		v.By = v.Ingress
	}
	if v.By.Reason == NoPod {
		v.By = v.Egress
	}
	v.Allowed = v.Ingress.Allowed
	return v
}

// end decides one direction at all pods of one address.
func (e *Evaluator) end(d Direction, pods []*Pod, p *Packet) Decision {
	last := Decision{Allowed: true, Reason: NoPod, Direction: d}
	for _, pod := range pods {
		if last = e.pod(d, pod, p); !last.Allowed {
			return last
		}
	}
	return last
}

// pod asks the tiers in their order.
func (e *Evaluator) pod(d Direction, pod *Pod, p *Packet) Decision {
	q := query{e: e, d: d, subject: pod, packet: p, peer: p.Src, peers: e.pods[p.Src]}
	if d == Egress {
		q.peer, q.peers = p.Dst, e.pods[p.Dst]
	}
	base := Decision{Direction: d, Pod: pod.Meta.Key()}
	own := e.ownNode(pod, q.peer)
	if own && d == Ingress {
		base.Allowed, base.Reason = true, OwnNode
		return base
	}
	if out, final := q.clusterTier(Admin, base); final {
		return out
	}
	// Egress to the own node escapes the isolation of NetworkPolicies, but not the administrator's rules: they have a Nodes peer.
	if own {
		if out, final := q.clusterTier(Baseline, base); final {
			return out
		}
		base.Allowed, base.Reason = true, OwnNode
		return base
	}
	if out, final := q.networkPolicies(base); final {
		return out
	}
	if out, final := q.clusterTier(Baseline, base); final {
		return out
	}
	base.Allowed, base.Reason = true, ByDefault
	return base
}

// ownNode reports whether a is an address of the node that pod runs on.
func (e *Evaluator) ownNode(pod *Pod, a netip.Addr) bool {
	if host, err := netip.ParseAddr(pod.Status.HostIP); err == nil && host.Unmap() == a {
		return true
	}
	for _, h := range pod.Status.HostIPs {
		if host, err := netip.ParseAddr(h.IP); err == nil && host.Unmap() == a {
			return true
		}
	}
	if pod.Spec.NodeName == "" {
		return false
	}
	for _, n := range e.nodes[a] {
		if n.Meta.Name == pod.Spec.NodeName {
			return true
		}
	}
	return false
}

// query is one direction at one pod.
type query struct {
	e       *Evaluator
	d       Direction
	subject *Pod
	packet  *Packet
	peer    netip.Addr // the other end
	peers   []*Pod     // its pods, usually one or none
}

// peerIs reports whether the other end is a pod and satisfies ok; of several pods with its address all must.
func (q *query) peerIs(ok func(*Pod) bool) bool {
	for _, pod := range q.peers {
		if !ok(pod) {
			return false
		}
	}
	return len(q.peers) > 0
}

// peerMayBe reports whether one of the pods at the other end satisfies ok.
func (q *query) peerMayBe(ok func(*Pod) bool) bool { return slices.ContainsFunc(q.peers, ok) }

// namedPort reports whether the destination pod calls the packet's port by this name; of several pods with its address all must, or
// with maybe one of them.
func (q *query) namedPort(name string, proto Protocol, maybe bool) bool {
	holders := q.peers
	if q.d == Ingress {
		holders = []*Pod{q.subject}
	}
	found := 0
	for _, pod := range holders {
		if n, ok := pod.port(name, proto); ok && n == q.packet.Port {
			found++
		}
	}
	return found > 0 && (maybe || found == len(holders))
}
