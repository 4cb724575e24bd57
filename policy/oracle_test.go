package policy_test

import (
	"net"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/podplumb/podplumb/policy"
)

// oracle answers as Evaluate should, and goes about it in another way: it paints. For every pod and direction there is a canvas with a
// cell for each peer, protocol and port. It begins all allowed; then the layers are laid upon it from the weakest to the strongest, and
// within each the rules from the last to the first, so that what counts most is painted last. It was written from the text of the API.
type oracle struct {
	s        policy.State
	peers    []netip.Addr
	claims   map[netip.Addr][]int // pods
	canvases map[canvasKey][]bool
}

type canvasKey struct {
	pod int
	in  bool
}

func newOracle(s policy.State) *oracle {
	o := &oracle{s: s, claims: map[netip.Addr][]int{}, canvases: map[canvasKey][]bool{}}
	seen := map[netip.Addr]bool{}
	add := func(texts ...string) {
		for _, text := range texts {
			if a, err := netip.ParseAddr(text); err == nil && !seen[a] {
				seen[a] = true
				o.peers = append(o.peers, a)
			}
		}
	}
	for i := range s.Pods {
		add(s.Pods[i].Status.PodIP)
		for _, ip := range s.Pods[i].Status.PodIPs {
			add(ip.IP)
		}
	}
	for i := range s.Nodes {
		for _, a := range s.Nodes[i].Status.Addresses {
			add(a.Address)
		}
	}
	for _, a := range worldOutside {
		add(a.String())
	}
	for _, a := range o.peers {
		o.claims[a] = o.claimants(a)
	}
	return o
}

func (o *oracle) pods(a netip.Addr) []int { return o.claims[a] }

// claimants returns the pods that have an address.
func (o *oracle) claimants(a netip.Addr) (claimants []int) {
	for i := range o.s.Pods {
		p := &o.s.Pods[i]
		if p.Spec.HostNetwork || p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
			continue
		}
		ips := []string{p.Status.PodIP}
		if len(p.Status.PodIPs) > 0 {
			ips = nil
			for _, ip := range p.Status.PodIPs {
				ips = append(ips, ip.IP)
			}
		}
		if among(ips, a) {
			claimants = append(claimants, i)
		}
	}
	return claimants
}

func (o *oracle) allowed(p policy.Packet) bool {
	from, to := o.pods(p.Src), o.pods(p.Dst)
	if len(from) == 1 && slices.Equal(from, to) {
		return true
	}
	for _, pod := range from {
		if !o.canvas(pod, false)[o.cell(p.Dst, p.Protocol, p.Port)] {
			return false
		}
	}
	for _, pod := range to {
		if !o.canvas(pod, true)[o.cell(p.Src, p.Protocol, p.Port)] {
			return false
		}
	}
	return true
}

func (o *oracle) cell(peer netip.Addr, proto policy.Protocol, port uint16) int {
	return (slices.Index(o.peers, peer)*len(worldProtocols)+slices.Index(worldProtocols, proto))*len(worldPorts) + slices.Index(worldPorts, port)
}

// paint sets all cells that the brush says yes to.
func (o *oracle) paint(canvas []bool, brush func(peer netip.Addr, proto policy.Protocol, port uint16) (color, ok bool)) {
	for i := range canvas {
		peer, proto, port := o.peers[i/len(worldPorts)/len(worldProtocols)], worldProtocols[i/len(worldPorts)%len(worldProtocols)], worldPorts[i%len(worldPorts)]
		if color, ok := brush(peer, proto, port); ok {
			canvas[i] = color
		}
	}
}

func (o *oracle) canvas(pod int, in bool) []bool {
	key := canvasKey{pod, in}
	if done, ok := o.canvases[key]; ok {
		return done
	}
	canvas := make([]bool, len(o.peers)*len(worldProtocols)*len(worldPorts))
	for i := range canvas {
		canvas[i] = true
	}
	o.paintTier(canvas, policy.Baseline, pod, in)
	o.paintNetworkPolicies(canvas, pod, in)
	o.paintTier(canvas, policy.Admin, pod, in)
	if in {
		o.paint(canvas, func(peer netip.Addr, _ policy.Protocol, _ uint16) (bool, bool) { return true, o.hosts(pod, peer) })
	}
	o.canvases[key] = canvas
	return canvas
}

// hosts reports whether the address is one of the pod's own node.
func (o *oracle) hosts(pod int, a netip.Addr) bool {
	p := &o.s.Pods[pod]
	own := []string{p.Status.HostIP}
	for _, ip := range p.Status.HostIPs {
		own = append(own, ip.IP)
	}
	for i := range o.s.Nodes {
		if p.Spec.NodeName == o.s.Nodes[i].Meta.Name {
			for _, at := range o.s.Nodes[i].Status.Addresses {
				own = append(own, at.Address)
			}
		}
	}
	return among(own, a)
}

// among reports whether one of the texts is the address, however it is spelled.
func among(texts []string, a netip.Addr) bool {
	return slices.ContainsFunc(texts, func(text string) bool { return net.ParseIP(text).Equal(a.AsSlice()) })
}

func (o *oracle) namespace(name string) map[string]string {
	labels := map[string]string{policy.LabelName: name}
	for i := range o.s.Namespaces {
		if o.s.Namespaces[i].Meta.Name == name {
			for k, v := range o.s.Namespaces[i].Meta.Labels {
				labels[k] = v
			}
		}
	}
	return labels
}

func (o *oracle) paintNetworkPolicies(canvas []bool, pod int, in bool) {
	subject := &o.s.Pods[pod]
	type rule struct {
		namespace string
		peers     []policy.Peer
		ports     []policy.Port
	}
	var rules []rule
	isolated := false
	for i := range o.s.Policies {
		p := &o.s.Policies[i]
		ingress, egress := slices.Contains(p.Spec.PolicyTypes, policy.Ingress), slices.Contains(p.Spec.PolicyTypes, policy.Egress)
		if !ingress && !egress {
			ingress, egress = true, len(p.Spec.Egress) != 0
		}
		if p.Meta.Namespace != subject.Meta.Namespace || !selects(p.Spec.PodSelector, subject.Meta.Labels) || in && !ingress || !in && !egress {
			continue
		}
		isolated = true
		for _, r := range p.Spec.Ingress {
			if in {
				rules = append(rules, rule{p.Meta.Namespace, r.From, r.Ports})
			}
		}
		for _, r := range p.Spec.Egress {
			if !in {
				rules = append(rules, rule{p.Meta.Namespace, r.To, r.Ports})
			}
		}
	}
	if !isolated {
		return
	}
	o.paint(canvas, func(peer netip.Addr, proto policy.Protocol, port uint16) (bool, bool) {
		if o.hosts(pod, peer) {
			return false, false
		}
		for _, r := range rules {
			from := len(r.peers) == 0
			for _, p := range r.peers {
				from = from || o.isPeer(r.namespace, p, peer)
			}
			on := len(r.ports) == 0
			for _, p := range r.ports {
				on = on || o.isPort(p, proto, port, o.receivers(pod, in, peer))
			}
			if from && on {
				return true, true
			}
		}
		return false, true
	})
}

func (o *oracle) receivers(subject int, in bool, peer netip.Addr) []int {
	if in {
		return []int{subject}
	}
	return o.pods(peer)
}

func (o *oracle) isPeer(namespace string, p policy.Peer, a netip.Addr) bool {
	pods := o.pods(a)
	switch {
	case p.IPBlock != nil && p.PodSelector == nil && p.NamespaceSelector == nil:
		if !inBlock(p.IPBlock.CIDR, a, false) {
			return false
		}
		for _, s := range p.IPBlock.Except {
			if inBlock(s, a, true) {
				return false
			}
		}
		return true
	case p.IPBlock != nil || p.PodSelector == nil && p.NamespaceSelector == nil || len(pods) == 0:
		return false
	}
	for _, i := range pods {
		meta := o.s.Pods[i].Meta
		if p.NamespaceSelector == nil && meta.Namespace != namespace ||
			p.NamespaceSelector != nil && !selects(*p.NamespaceSelector, o.namespace(meta.Namespace)) ||
			p.PodSelector != nil && !selects(*p.PodSelector, meta.Labels) {
			return false
		}
	}
	return true
}

// isPort asks each receiver for names.
func (o *oracle) isPort(p policy.Port, proto policy.Protocol, port uint16, receivers []int) bool {
	want := policy.TCP
	if p.Protocol != nil {
		want = *p.Protocol
	}
	if want != proto {
		return false
	}
	first, last := int32(0), int32(65535)
	if p.Port != nil && p.Port.Name == "" {
		first, last = p.Port.Number, p.Port.Number
		if p.EndPort != nil {
			last = *p.EndPort
		}
	} else if p.EndPort != nil {
		return false
	}
	if p.Port != nil && p.Port.Name != "" {
		return o.isNamed(p.Port.Name, proto, port, receivers) == len(receivers) && len(receivers) > 0
	}
	return int32(port) >= first && int32(port) <= last
}

// isNamed counts the receivers that call the port so.
func (o *oracle) isNamed(name string, proto policy.Protocol, port uint16, receivers []int) (n int) {
	for _, i := range receivers {
		all := slices.Clone(o.s.Pods[i].Spec.Containers)
		for _, c := range o.s.Pods[i].Spec.InitContainers {
			if c.RestartPolicy == "Always" {
				all = append(all, c)
			}
		}
		var named []uint16
		for _, c := range all {
			for _, has := range c.Ports {
				if has.Name == name && (has.Protocol == proto || has.Protocol == "" && proto == policy.TCP) {
					named = append(named, has.ContainerPort)
				}
			}
		}
		if len(named) > 0 && named[0] == port {
			n++
		}
	}
	return n
}

// inBlock reports whether a is in the block; a block that cannot be read is taken for unreadable.
func inBlock(spelling string, a netip.Addr, unreadable bool) bool {
	_, n, err := net.ParseCIDR(worldBlocks[spelling])
	if err != nil {
		return unreadable
	}
	return n.Contains(a.AsSlice())
}

// selects finds a requirement that the labels do not meet.
func selects(s policy.Selector, labels map[string]string) bool {
	for k, v := range s.MatchLabels {
		s.MatchExpressions = append(slices.Clone(s.MatchExpressions), policy.Requirement{Key: k, Operator: policy.In, Values: []string{v}})
	}
	unmet := sort.Search(len(s.MatchExpressions), func(n int) bool { // the first requirement with which it is too many
		return slices.ContainsFunc(s.MatchExpressions[:n+1], func(r policy.Requirement) bool { return !meets(r, labels) })
	})
	return unmet == len(s.MatchExpressions)
}

func meets(r policy.Requirement, labels map[string]string) bool {
	have, there := labels[r.Key]
	among := there && strings.Contains("\x00"+strings.Join(r.Values, "\x00")+"\x00", "\x00"+have+"\x00")
	switch {
	case r.Operator == policy.In && r.Values != nil:
		return among
	case r.Operator == policy.NotIn && r.Values != nil:
		return !among
	case r.Operator == policy.Exists && r.Values == nil:
		return there
	case r.Operator == policy.DoesNotExist && r.Values == nil:
		return !there
	}
	return false
}
