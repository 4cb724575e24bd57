package nat

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/internal/nft"
)

// captures reads the capture and the redirects, which have elements in many
// sets: what is read from one of each has to account for all of them.
func (r *reader) captures(ctx context.Context) error {
	lay := r.c.lay
	have, err := r.items(ctx, lay.interception.sets())
	if err != nil {
		return err
	}
	r.redirects(have)
	want := map[*nft.Set][]nft.Element{}
	for a := range r.w.capture {
		for _, el := range lay.itemElements(a) {
			want[el.set] = append(want[el.set], el.Element)
			if el.rest != nil {
				want[el.set] = append(want[el.set], *el.rest)
			}
		}
	}
	for _, s := range lay.interception.sets() {
		switch s {
		case lay.redirects, lay.redirected, lay.redirectOwn:
		default:
			r.bad = r.bad || !sameElements(have[s], want[s])
		}
	}
	return nil
}

// items reads sets and adds what they say to the capture.
func (r *reader) items(ctx context.Context, sets []*nft.Set) (map[*nft.Set][]nft.Element, error) {
	have := map[*nft.Set][]nft.Element{}
	for _, s := range sets {
		err := r.elements(ctx, s, func() { have[s] = nil }, func(e *nft.Element) {
			have[s] = append(have[s], nft.Element{
				Key: slices.Clone(e.Key), End: e.End, Data: slices.Clone(e.Data), Comment: e.Comment,
			})
		})
		if err != nil {
			return nil, err
		}
	}
	for _, a := range r.c.lay.itemsOf(have) {
		r.w.capture[a] = a
	}
	return have, nil
}

// someCapture reads what a change is about, and the marks, which rules have.
func (r *reader) someCapture(ctx context.Context, change Change) error {
	sets := []*nft.Set{r.c.lay.marks}
	if len(change.Capture)+len(change.Release) > 0 {
		sets = append(sets, r.c.lay.listed)
	}
	_, err := r.items(ctx, sets)
	return err
}

func sameElements(a, b []nft.Element) bool {
	for _, list := range [][]nft.Element{a, b} {
		slices.SortFunc(list, func(a, b nft.Element) int {
			switch c := bytes.Compare(a.Key, b.Key); {
			case c != 0:
				return c
			case a.End == b.End:
				return 0
			case a.End:
				return -1
			}
			return 1
		})
	}
	return slices.EqualFunc(a, b, func(a, b nft.Element) bool {
		return bytes.Equal(a.Key, b.Key) && a.End == b.End && bytes.Equal(a.Data, b.Data)
	})
}

// itemsOf finds what the elements say. Elements that fit nothing are left
// over when itemElements is asked for those of the result.
func (l *layout) itemsOf(have map[*nft.Set][]nft.Element) []item {
	var list []item
	for kind, s := range map[itemKind]*nft.Set{itemOutbound: l.outbound, itemInbound: l.inbound, itemDNS: l.dns} {
		for _, e := range have[s] {
			if len(e.Data) < 2 || len(e.Key) != 1 || e.Key[0] != byte(TCP) {
				continue
			}
			a := item{kind: kind, n: uint32(binary.BigEndian.Uint16(e.Data))}
			if kind == itemInbound && len(have[l.takesAll]) > 0 {
				a.m = 1
			}
			list = append(list, a)
		}
	}
	if len(have[l.strict]) > 0 {
		list = append(list, item{kind: itemStrict})
	}
	if len(have[l.closed]) > 0 {
		list = append(list, item{kind: itemClosed})
	}
	list = append(list, portItems(have[l.listed])...)
	for kind, s := range map[itemKind]*nft.Set{itemUser: l.users, itemGroup: l.groups, itemMark: l.marks} {
		for _, e := range have[s] {
			a := item{kind: kind}
			switch {
			case kind == itemMark && len(e.Key) == 8:
				a.m = binary.NativeEndian.Uint32(e.Key[4:])
				fallthrough
			case len(e.Key) == 4:
				a.n = binary.NativeEndian.Uint32(e.Key)
				list = append(list, a)
			}
		}
	}
	for n := range l.families() {
		for kind, s := range map[itemKind]*nft.Set{itemFrom: l.from[n], itemTo: l.to[n]} {
			for _, p := range prefixesOf(have[s]) {
				list = append(list, item{kind: kind, prefix: p})
			}
		}
	}
	for kind, s := range map[itemKind]*nft.Set{itemPassInbound: l.passInbound, itemPassOutbound: l.passOutbound} {
		for _, p := range portsOf(have[s]) {
			list = append(list, item{kind: kind, n: uint32(p.First), m: uint32(p.Last)})
		}
	}
	return list
}

// portItems finds the ports of a set of families and ports.
func portItems(have []nft.Element) []item {
	families := map[uint16]uint32{} // 4, 6, or their sum
	for _, e := range have {
		if len(e.Key) != 8 {
			continue
		}
		family := map[byte]uint32{byte(nft.FamilyIPv4): 4, byte(nft.FamilyIPv6): 6}[e.Key[0]]
		families[binary.BigEndian.Uint16(e.Key[4:])] += family
	}
	list := make([]item, 0, len(families))
	for port, m := range families {
		list = append(list, item{kind: itemPort, n: uint32(port), m: m % 10})
	}
	return list
}

// prefixesOf finds the prefixes of an interval set of addresses.
func prefixesOf(list []nft.Element) []netip.Prefix {
	ends := map[netip.Addr]bool{}
	for _, e := range list {
		if a, ok := netip.AddrFromSlice(e.Key); ok && e.End {
			ends[a] = true
		}
	}
	var out []netip.Prefix
	for _, e := range list {
		if a, ok := netip.AddrFromSlice(e.Key); ok && !e.End {
			if p, ok := rangeFrom(a, ends); ok {
				out = append(out, p)
			}
		}
	}
	return out
}

// portsOf finds the ranges of an interval set of ports: each ends before the
// next end, or with the last port.
func portsOf(list []nft.Element) []Ports {
	var out []Ports
	for _, e := range list {
		if e.End || len(e.Key) != 2 {
			continue
		}
		p := Ports{binary.BigEndian.Uint16(e.Key), 1<<16 - 1}
		for _, end := range list {
			if !end.End || len(end.Key) != 2 {
				continue
			}
			if last := binary.BigEndian.Uint16(end.Key) - 1; last >= p.First && last < p.Last {
				p.Last = last
			}
		}
		out = append(out, p)
	}
	return out
}

// redirects finds the redirects in their map; the two sets must have their
// keys.
func (r *reader) redirects(have map[*nft.Set][]nft.Element) {
	lay := r.c.lay
	parse := func(b []byte) (listen, bool) {
		if len(b) != 8 {
			return listen{}, false
		}
		return listen{proto: Proto(b[0]), port: binary.BigEndian.Uint16(b[4:])}, true
	}
	for _, e := range have[lay.redirects] {
		l, ok := parse(e.Key)
		if !ok || len(e.Data) < 2 {
			r.bad = true
			continue
		}
		r.w.redirects[l] = Redirect{Port: l.port, Proto: l.proto, To: binary.BigEndian.Uint16(e.Data), Name: e.Comment}
	}
	for _, s := range []*nft.Set{lay.redirected, lay.redirectOwn} {
		for _, e := range have[s] {
			l, ok := parse(e.Key)
			rd, known := r.w.redirects[l]
			r.bad = r.bad || !ok || !known
			if s == lay.redirectOwn && known {
				rd.Own = true
				r.w.redirects[l] = rd
			}
		}
	}
	r.bad = r.bad || len(have[lay.redirected]) != len(have[lay.redirects])
}

// pools reads what networks leave under.
func (r *reader) pools(ctx context.Context, f *family) error {
	addrs, ports := map[netip.Prefix][]byte{}, map[netip.Prefix][]byte{}
	found := 0
	for s, m := range map[*nft.Set]map[netip.Prefix][]byte{f.pools.addrs: addrs, f.pools.ports: ports} {
		err := r.prefixes(ctx, s, func(p netip.Prefix, e *nft.Element) { m[p] = e.Data })
		if err != nil {
			return err
		}
	}
	err := r.prefixes(ctx, f.pools.choice, func(p netip.Prefix, e *nft.Element) {
		n, ok := r.w.networks[p]
		pool, fits := f.parsePool(e.Verdict, addrs[p], ports[p])
		if !ok || !fits {
			r.bad = true
			return
		}
		found++
		if pool.Ports != (Ports{}) {
			found++
		}
		n.To = pool
		r.w.networks[p] = n
	})
	for _, m := range []map[netip.Prefix][]byte{addrs, ports} {
		found -= len(m)
	}
	r.bad = r.bad || found != 0
	return err
}

// parsePool is the inverse of Pool.elements.
func (f *family) parsePool(verdict *nft.Verdict, addrs, ports []byte) (Pool, bool) {
	var p Pool
	size := f.addrSize()
	if verdict == nil || len(addrs) != 2*size {
		return p, false
	}
	for _, o := range []Pool{{}, {Random: true}, {Persistent: true}, {Random: true, Persistent: true}} {
		if o.chainName(f.suffix) == verdict.Chain {
			p = o
		}
	}
	p.First, _ = netip.AddrFromSlice(addrs[:size])
	p.Last, _ = netip.AddrFromSlice(addrs[size:])
	if len(ports) == 2*size+8 {
		p.Ports = Ports{binary.BigEndian.Uint16(ports[size:]), binary.BigEndian.Uint16(ports[2*size+4:])}
	}
	if ports != nil && (p.Ports == (Ports{}) || !bytes.Equal(p.elements(f.pools.ports, f, netip.PrefixFrom(p.First, 0))[0].Data, ports)) {
		return p, false
	}
	return p, p.chainName(f.suffix) == verdict.Chain
}
