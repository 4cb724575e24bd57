package vxlan

import (
	"cmp"
	"net/netip"

	"github.com/podplumb/podplumb/internal/plan"
)

// kind orders the objects of the kernel as a plan prints them.
type kind uint8

const (
	kindDevice kind = iota
	kindAddr
	kindFDB
	kindFlood
	kindNeigh
	kindRoute
)

// key is what the kernel tells objects of one kind apart by. Fields that a kind does not use are zero.
type key struct {
	kind   kind
	dev    string       // not of a route: a subnet has one next hop on whatever link
	prefix netip.Prefix // route: destination; address and neighbour: the address with all its bits
	mac    MAC          // FDB
	dst    netip.Addr   // flood list
	metric uint32       // route; an own route with a metric is never wanted
}

func compareKeys(a, b key) int {
	return cmp.Or(
		cmp.Compare(a.kind, b.kind),
		cmp.Compare(a.dev, b.dev),
		cmp.Compare(a.prefix.Addr().BitLen(), b.prefix.Addr().BitLen()),
		a.prefix.Addr().Compare(b.prefix.Addr()),
		cmp.Compare(a.prefix.Bits(), b.prefix.Bits()),
		a.mac.Compare(b.mac),
		a.dst.Compare(b.dst),
		cmp.Compare(a.metric, b.metric),
	)
}

// entry is one object of the kernel: a state is a set of them.
type entry struct {
	key
	bits   int        // address: prefix length
	to     netip.Addr // FDB and flood: VTEP; route: next hop
	mac    MAC        // neighbour: link-layer address
	link   string     // route: outgoing link
	onlink bool       // route
	odd    string     // what makes an entry read from the kernel none that is ever wanted
	device *Device    // device: its settings, without Addrs and Peers
	down   bool       // device: not administratively up
}

func entryKey(e *entry) key { return e.key }

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// expand lists the objects that s stands for.
func expand(s State) []entry {
	n := 0
	for i := range s.Devices {
		n += 1 + len(s.Devices[i].Addrs) + 5*len(s.Devices[i].Peers)
	}
	out := make([]entry, 0, n)
	for i := range s.Devices {
		d := &s.Devices[i]
		if d.Name != "" {
			settings := *d
			settings.Addrs, settings.Peers = nil, nil
			out = append(out, entry{key: key{kind: kindDevice, dev: d.Name}, device: &settings})
		}
		for _, a := range d.Addrs {
			out = append(out, entry{key: key{kind: kindAddr, dev: d.Name, prefix: host(a.Addr())}, bits: a.Bits()})
		}
		for j := range d.Peers {
			out = expandPeer(out, d.Name, &d.Peers[j])
		}
	}
	return out
}

// expandPeer appends the objects of one peer of the device to out.
func expandPeer(out []entry, dev string, p *Peer) []entry {
	mac := p.mac()
	if p.VTEP.IsValid() {
		if len(p.Tunnel) > 0 && !mac.IsZero() {
			out = append(out, entry{key: key{kind: kindFDB, dev: dev, mac: mac}, to: p.VTEP})
		}
		for _, m := range p.Stations {
			out = append(out, entry{key: key{kind: kindFDB, dev: dev, mac: m}, to: p.VTEP})
		}
		if p.Flood {
			out = append(out, entry{key: key{kind: kindFlood, dev: dev, dst: p.VTEP}, to: p.VTEP})
		}
	}
	if !mac.IsZero() {
		for _, t := range p.Tunnel {
			out = append(out, entry{key: key{kind: kindNeigh, dev: dev, prefix: host(t)}, mac: mac})
		}
	}
	for _, s := range p.Subnets {
		e := entry{key: key{kind: kindRoute, prefix: s}, link: dev, onlink: true}
		if hop, ok := p.via(s.Addr()); ok {
			e.to, e.link, e.onlink = hop.Addr, hop.Link, false
		} else {
			e.to = p.tunnel(s.Addr())
		}
		if !e.to.IsValid() {
			e.odd = "no next hop"
		}
		out = append(out, e)
	}
	return out
}

// same reports whether the kernel's entry is what is wanted. Settings of a wanted device that only the kernel can fill in match anything.
func same(have, want *entry) bool {
	if have.device != nil {
		return have.odd == "" && have.down == want.down && len(have.device.changes(want.device)) == 0
	}
	return have.odd == want.odd && have.bits == want.bits && have.to == want.to && have.mac == want.mac && have.link == want.link && have.onlink == want.onlink
}

// compareEntries pairs both sides by key. Most entries of a large state are equal, so those are dropped before the ordered diff.
func compareEntries(have, want []entry) []plan.Change[key, entry] {
	index := make(map[key]int, len(have))
	for i := range have {
		index[have[i].key] = i
	}
	var before, after []entry
	equal := make([]bool, len(have))
	for i := range want {
		j, ok := index[want[i].key]
		if ok && same(&have[j], &want[i]) {
			equal[j] = true
		} else {
			after = append(after, want[i])
		}
	}
	for j := range have {
		if !equal[j] {
			before = append(before, have[j])
		}
	}
	if len(before)+len(after) == 0 {
		return nil
	}
	return plan.Diff(before, after, entryKey, compareKeys, same)
}

// prefixOf returns an address entry as the address with its prefix length.
func prefixOf(e *entry) netip.Prefix { return netip.PrefixFrom(e.prefix.Addr(), e.bits) }
