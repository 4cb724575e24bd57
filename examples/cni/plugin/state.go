package plugin

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/examples/cni/conf"
	"github.com/podplumb/podplumb/examples/cni/ipam"
	"github.com/podplumb/podplumb/veth"
)

// state is the links of the attachment: the bridge, if there is one, and the pair.
func (r *request) state(sets []ipam.Set, addrs []address) veth.State {
	n := r.net
	p := veth.Pair{
		Host: veth.Host{Name: linkName(r.key), MAC: hostMAC(r.key), MTU: n.MTU, DAD: n.EnableDAD},
		Pod:  veth.Pod{NetNS: r.netns, Name: r.key.IfName, MAC: r.mac, MTU: n.MTU, Routes: r.podRoutes(addrs), DAD: n.EnableDAD},
	}
	if p.Pod.MAC == (veth.MAC{}) {
		p.Pod.MAC = podMAC(r.key, addrs)
	}
	if n.Mode == conf.RoutedMode {
		routed(&p, addrs)
		return veth.State{Pairs: []veth.Pair{p}}
	}
	p.Host.Bridge, p.Host.Port = n.Bridge, veth.Port{Hairpin: n.HairpinMode, Isolated: n.PortIsolation, VLANs: r.vlans()}
	p.Pod.Down = n.DisableContainerInterface
	p.Host.DAD = false // a port has no addresses
	for _, a := range addrs {
		p.Pod.Addresses = append(p.Pod.Addresses, a.prefix)
	}
	return veth.State{Bridges: []veth.Bridge{r.bridgeState(gateways(sets, addrs))}, Pairs: []veth.Pair{p}}
}

// routed makes a point-to-point link of a pair: each end has only its own address, and the container reaches its gateway, and through
// it the rest of its subnet, over the link.
func routed(p *veth.Pair, addrs []address) {
	for _, a := range addrs {
		single := func(x netip.Addr) netip.Prefix { return netip.PrefixFrom(x, x.BitLen()) }
		p.Pod.Addresses = append(p.Pod.Addresses, single(a.prefix.Addr()))
		p.Host.Addresses = append(p.Host.Addresses, single(a.gateway))
		implied := []veth.Route{{To: single(a.gateway)}}
		if subnet := a.prefix.Masked(); !subnet.IsSingleIP() {
			implied = append(implied, veth.Route{To: subnet, Via: a.gateway})
		}
		for _, route := range implied {
			if !slices.ContainsFunc(p.Pod.Routes, func(o veth.Route) bool { return o.To == route.To }) {
				p.Pod.Routes = append(p.Pod.Routes, route)
			}
		}
	}
}

// bridgeState is what the network wants of its bridge: gateways holds one address for each subnet.
func (r *request) bridgeState(gateways []netip.Prefix) veth.Bridge {
	n := r.net
	b := veth.Bridge{Name: n.Bridge, MTU: n.MTU, Promiscuous: n.PromiscMode, DAD: n.EnableDAD, VLANFiltering: r.filters()}
	if n.IsGateway && n.VLAN == 0 {
		b.Addresses = gateways
	}
	return b
}

// gateways are those of all ranges of the network, so that each container wants the same of the bridge, and of the given addresses.
func gateways(sets []ipam.Set, addrs []address) []netip.Prefix {
	var out []netip.Prefix
	for _, set := range sets {
		for _, x := range set {
			out = append(out, netip.PrefixFrom(x.Gateway, x.Subnet.Bits()))
		}
	}
	for _, a := range addrs {
		if a.gateway.IsValid() {
			out = append(out, netip.PrefixFrom(a.gateway, a.prefix.Bits()))
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return slices.Compact(out)
}

// withGateways fills in the first address of the subnet as the gateway where the node is to be one and none is given.
func (r *request) withGateways(addrs []address) []address {
	if !r.net.IsGateway && r.net.Mode == conf.BridgeMode {
		return addrs
	}
	for i := range addrs {
		a := &addrs[i]
		switch {
		case a.gateway.IsValid():
		case a.prefix.Bits() < a.prefix.Addr().BitLen()-1:
			a.gateway = a.prefix.Masked().Addr().Next()
		case r.net.Mode == conf.RoutedMode && a.prefix.Addr().Is4():
			a.gateway = netip.AddrFrom4([4]byte{169, 254, 1, 1})
		case r.net.Mode == conf.RoutedMode:
			a.gateway = netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 1})
		}
	}
	return addrs
}

// podRoutes are the routes of the container's main table. A route without a gateway goes through that of an address of its family; one
// of a family that the container has no address of is left out, as the stock plugins' configurations often name both families.
func (r *request) podRoutes(addrs []address) (out []veth.Route) {
	if r.net.SourceRouting {
		return nil // they are in a table of their own
	}
	for _, c := range r.routesOf(addrs) {
		if x := r.route(c, addrs); !special(c) {
			out = append(out, veth.Route{To: x.To, Via: x.Via, Metric: uint32(x.Priority), MTU: uint32(x.MTU)})
		}
	}
	if !r.net.IsDefaultGateway {
		return out
	}
	for _, is4 := range []bool{true, false} {
		if via := gatewayOf(addrs, is4); via.IsValid() {
			d := veth.DefaultVia(via)
			if !slices.ContainsFunc(out, func(o veth.Route) bool { return o.To == d.To }) {
				out = append(out, d)
			}
		}
	}
	return out
}
