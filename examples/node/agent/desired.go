package agent

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/vxlan"
)

// member is what the overlay needs to know of a Node.
type member struct {
	name   string
	addrs  []netip.Addr   // InternalIPs, the primary one first
	ranges []netip.Prefix // of its pods, at most one of each family
}

// memberOf reads a Node. The error says what it lacks; a Node that has just registered has no range yet.
func memberOf(node *corev1.Node) (member, error) {
	m := member{name: node.Name}
	for _, address := range node.Status.Addresses {
		if address.Type != corev1.NodeInternalIP {
			continue
		}
		addr, err := netip.ParseAddr(address.Address)
		if err != nil || addr.Zone() != "" {
			return m, fmt.Errorf("InternalIP %q is no IP address", address.Address)
		}
		m.addrs = append(m.addrs, addr.Unmap())
	}
	texts := node.Spec.PodCIDRs
	if len(texts) == 0 && node.Spec.PodCIDR != "" {
		texts = []string{node.Spec.PodCIDR}
	}
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || prefix != prefix.Masked() {
			return m, fmt.Errorf("podCIDR %q is no address range", text)
		}
		m.ranges = append(m.ranges, prefix)
	}
	switch {
	case len(m.ranges) == 0:
		return m, errors.New("has no podCIDR yet")
	case len(m.addrs) == 0:
		return m, errors.New("has no InternalIP yet")
	}
	return m, nil
}

// tunnel returns the addresses of the node's overlay device: the first of each range, which no pod has.
func (m *member) tunnel() []netip.Addr {
	var addrs []netip.Addr
	for _, prefix := range m.ranges {
		addrs = append(addrs, prefix.Addr())
	}
	return addrs
}

// clash reports a range or an address that both have.
func (m *member) clash(o *member) error {
	for _, a := range m.ranges {
		for _, b := range o.ranges {
			if a.Overlaps(b) {
				return fmt.Errorf("podCIDR %s overlaps %s of node %s", a, b, o.name)
			}
		}
	}
	for _, a := range m.addrs {
		if slices.Contains(o.addrs, a) {
			return fmt.Errorf("InternalIP %s is node %s's too", a, o.name)
		}
	}
	return nil
}

// desired is what a node should have in its kernel and in its CNI configuration.
type desired struct {
	overlay vxlan.Device
	ranges  []netip.Prefix // of this node's pods
	nat     nat.State
}

// desire says what this node should have when the cluster has these nodes. A fault of another node leaves that one out and is told as a
// warning: the others are not to suffer from it. Without this node itself there is nothing to do: the error says why.
func desire(o *options, nodes []corev1.Node) (want desired, warnings []string, err error) {
	var members []member
	var self *member
	for i := range nodes {
		m, err := memberOf(&nodes[i])
		switch {
		case m.name == o.name && err != nil:
			return want, nil, fmt.Errorf("this node, %s, %w", o.name, err)
		case err != nil:
			warnings = append(warnings, fmt.Sprintf("node %s is left out: %v", m.name, err))
		case m.name == o.name:
			self = &m
		default:
			members = append(members, m)
		}
	}
	if self == nil {
		return want, nil, fmt.Errorf("no Node has the name %q (-name says which one this is)", o.name)
	}
	slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.name, b.name) })

	source := self.addrs[0]
	want.ranges = self.ranges
	want.overlay = vxlan.Device{Name: o.device, VNI: uint32(o.vni), Port: uint16(o.port), MTU: o.mtu, Source: source, DirectRouting: o.direct}
	for _, addr := range self.tunnel() {
		want.overlay.Addrs = append(want.overlay.Addrs, netip.PrefixFrom(addr, addr.BitLen()))
	}
	exclude := slices.Concat(o.keep, self.ranges)
	taken := []*member{self}
	for i := range members {
		m := &members[i]
		peer, err := m.peer(source, taken)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("node %s is left out: %v", m.name, err))
			continue
		}
		taken = append(taken, m)
		want.overlay.Peers = append(want.overlay.Peers, peer)
		exclude = append(exclude, m.ranges...)
	}
	if o.masquerade {
		for _, prefix := range self.ranges {
			want.nat.Networks = append(want.nat.Networks, nat.Network{Prefix: prefix, Name: o.network})
		}
		slices.SortFunc(exclude, netip.Prefix.Compare)
		want.nat.Exclude = slices.Compact(exclude)
	}
	return want, warnings, nil
}

// peer makes m the other end of a tunnel from source, unless it clashes with a node that is in the cluster already.
func (m *member) peer(source netip.Addr, taken []*member) (vxlan.Peer, error) {
	for _, other := range taken {
		if err := m.clash(other); err != nil {
			return vxlan.Peer{}, err
		}
	}
	at := slices.IndexFunc(m.addrs, func(a netip.Addr) bool { return a.Is4() == source.Is4() })
	if at < 0 {
		return vxlan.Peer{}, fmt.Errorf("has no InternalIP of the family of %s, from which this node sends", source)
	}
	hosts := slices.Delete(slices.Clone(m.addrs), at, at+1)
	return vxlan.Peer{VTEP: m.addrs[at], Tunnel: m.tunnel(), Subnets: m.ranges, Hosts: hosts}, nil
}
