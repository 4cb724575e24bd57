package vxlan

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// canonical returns a deep copy of s in the order that Read and Resolve use.
func canonical(s State) State {
	out := State{Devices: slices.Clone(s.Devices)}
	slices.SortFunc(out.Devices, func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
	for i := range out.Devices {
		d := &out.Devices[i]
		d.Addrs = slices.Clone(d.Addrs)
		slices.SortFunc(d.Addrs, comparePrefixes)
		d.Peers = slices.Clone(d.Peers)
		for j := range d.Peers {
			p := &d.Peers[j]
			p.Tunnel, p.Subnets, p.Hosts = slices.Clone(p.Tunnel), slices.Clone(p.Subnets), slices.Clone(p.Hosts)
			p.Via, p.Stations = slices.Clone(p.Via), slices.Clone(p.Stations)
		}
		canonicalPeers(d.Peers)
	}
	return out
}

// canonicalPeers sorts peers and what they hold, in place.
func canonicalPeers(peers []Peer) {
	for i := range peers {
		p := &peers[i]
		slices.SortFunc(p.Tunnel, netip.Addr.Compare)
		slices.SortFunc(p.Subnets, comparePrefixes)
		slices.SortFunc(p.Stations, MAC.Compare)
		canonicalHops(p.Via)
	}
	slices.SortStableFunc(peers, func(a, b Peer) int {
		return cmp.Or(a.VTEP.Compare(b.VTEP), a.MAC.Compare(b.MAC), slices.CompareFunc(a.Tunnel, b.Tunnel, netip.Addr.Compare), slices.CompareFunc(a.Subnets, b.Subnets, comparePrefixes))
	})
}

func canonicalHops(hops []Hop) {
	slices.SortFunc(hops, func(a, b Hop) int { return a.Addr.Compare(b.Addr) })
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
