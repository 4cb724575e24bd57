package layout

import (
	"fmt"
	"maps"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (a *arranger) arrangeNodes(count int) {
	if len(a.set.Nodes) == 0 {
		for i := range count {
			a.set.Nodes = append(a.set.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(i)}})
		}
		a.cluster.Warnings = append(a.cluster.Warnings, fmt.Sprintf("no document declares a Node: %d are made up", count))
	}
	for i, object := range a.set.Nodes {
		labels := map[string]string{corev1.LabelHostname: object.Name, corev1.LabelOSStable: "linux"} // a kubelet's own labels
		maps.Copy(labels, object.Labels)
		object.Labels = labels
		a.nodeNames[object.Name] = i
		a.cluster.Nodes = append(a.cluster.Nodes, Node{Object: object, Addrs: make([]netip.Addr, 2), PodNets: make([]Network, 2)})
	}
	a.nodeAddresses()
	a.podRanges()
}

// nodeName numbers made-up nodes with letters: node-a to node-z, then node-26.
func nodeName(i int) string {
	if i < 26 {
		return "node-" + string(rune('a'+i))
	}
	return fmt.Sprintf("node-%d", i)
}

// nodeAddresses takes the addresses that the manifests name and gives the others the next free ones of the same network.
func (a *arranger) nodeAddresses() {
	owners := map[netip.Addr]string{}
	for i := range a.cluster.Nodes {
		node := &a.cluster.Nodes[i]
		for j, address := range node.Object.Status.Addresses {
			if address.Type != corev1.NodeInternalIP {
				continue
			}
			addr := netip.MustParseAddr(address.Address)
			field := fmt.Sprintf("status.addresses[%d].address", j)
			if owner, ok := owners[addr]; ok {
				a.fault(a.set.Fault(&node.Object, field, "%s is also an address of node %s", addr, owner))
				continue
			}
			if node.Addrs[is6(addr)].IsValid() {
				a.fault(a.set.Fault(&node.Object, field, "second InternalIP of the same address family"))
				continue
			}
			owners[addr] = node.Name()
			node.Addrs[is6(addr)] = addr
		}
	}
	for family, preferred := range NodeRanges {
		network, err := spanning(a.cluster.Nodes, family, preferred)
		if err != nil {
			a.fault(err)
			network = preferred
		}
		free := allocator{network: network, taken: owners}
		underlay := Network{Range: network, Router: free.router()}
		for i := range a.cluster.Nodes {
			node := &a.cluster.Nodes[i]
			if node.Addrs[family].IsValid() {
				continue
			}
			addr, ok := free.next(node.Name())
			if !ok {
				a.fault(a.set.Fault(&node.Object, "", "no address is left for the node in %s", network))
			}
			node.Addrs[family] = addr
			node.Object.Status.Addresses = append(node.Object.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: addr.String()})
		}
		a.cluster.Underlay = append(a.cluster.Underlay, underlay)
	}
}

// spanning returns the smallest network, not smaller than preferred's size, that holds every named node address.
func spanning(nodes []Node, family int, preferred netip.Prefix) (netip.Prefix, error) {
	var network netip.Prefix
	for _, node := range nodes {
		addr := node.Addrs[family]
		if !addr.IsValid() {
			continue
		}
		if !network.IsValid() {
			network = netip.PrefixFrom(addr, preferred.Bits()).Masked()
		}
		for !network.Contains(addr) {
			network = netip.PrefixFrom(network.Addr(), network.Bits()-1).Masked()
		}
		if network.Bits() < 8 {
			return netip.Prefix{}, fmt.Errorf("the node addresses are too far apart to lie in one network: %s is not in %s/8 of the others",
				addr, network.Addr())
		}
	}
	if !network.IsValid() {
		return preferred, nil
	}
	return network, nil
}

// podRanges takes spec.podCIDRs and gives nodes without one the next free range.
func (a *arranger) podRanges() {
	type owned struct {
		cidr netip.Prefix
		by   string
	}
	var taken []owned
	for _, underlay := range a.cluster.Underlay {
		taken = append(taken, owned{underlay.Range, "the nodes' own network"})
	}
	clash := func(cidr netip.Prefix) *owned {
		for i := range taken {
			if taken[i].cidr.Overlaps(cidr) {
				return &taken[i]
			}
		}
		return nil
	}
	for i := range a.cluster.Nodes {
		node := &a.cluster.Nodes[i]
		for j, text := range node.Object.Spec.PodCIDRs {
			cidr := netip.MustParsePrefix(text)
			if other := clash(cidr); other != nil {
				a.fault(a.set.Fault(&node.Object, fmt.Sprintf("spec.podCIDRs[%d]", j), "%s overlaps %s of %s", cidr, other.cidr, other.by))
			}
			taken = append(taken, owned{cidr, "node " + node.Name()})
			node.PodNets[is6(cidr.Addr())] = Network{Range: cidr, Router: cidr.Addr().Next()}
		}
	}
	for family, whole := range PodRanges {
		a.cluster.PodRanges = append(a.cluster.PodRanges, whole)
		candidate := netip.PrefixFrom(whole.Addr(), []int{24, 64}[family])
		for i := range a.cluster.Nodes {
			node := &a.cluster.Nodes[i]
			if cidr := node.PodNets[family].Range; cidr.IsValid() {
				if !whole.Contains(cidr.Addr()) || cidr.Bits() < whole.Bits() {
					a.cluster.PodRanges = append(a.cluster.PodRanges, cidr)
				}
				continue
			}
			for candidate = following(candidate); clash(candidate) != nil; {
				candidate = following(candidate)
			}
			if !whole.Contains(candidate.Addr()) {
				a.fault(a.set.Fault(&node.Object, "spec.podCIDRs", "no range is left in %s", whole))
				return
			}
			taken = append(taken, owned{candidate, "node " + node.Name()})
			node.PodNets[family] = Network{Range: candidate, Router: candidate.Addr().Next()}
		}
	}
	for i := range a.cluster.Nodes {
		node := &a.cluster.Nodes[i]
		if len(node.Object.Spec.PodCIDRs) < len(node.PodNets) {
			node.Object.Spec.PodCIDR = node.PodNets[0].Range.String()
			node.Object.Spec.PodCIDRs = []string{node.PodNets[0].Range.String(), node.PodNets[1].Range.String()}
		}
	}
}

// following returns the network of the same size right behind cidr.
func following(cidr netip.Prefix) netip.Prefix {
	addr := cidr.Addr().AsSlice()
	last := cidr.Bits() - 1
	for i, step := last/8, 1<<(7-last%8); i >= 0 && step > 0; i, step = i-1, 1 {
		sum := int(addr[i]) + step
		addr[i] = byte(sum)
		if sum < 256 {
			break
		}
	}
	next, _ := netip.AddrFromSlice(addr)
	return netip.PrefixFrom(next, cidr.Bits())
}
