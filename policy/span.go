package policy

import (
	"net/netip"
	"slices"
)

// span is the addresses from lo to hi, both included, of one family.
type span struct{ lo, hi netip.Addr }

func spanOf(p netip.Prefix) span {
	p = p.Masked()
	hi := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(hi); i++ {
		hi[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(hi)
	return span{p.Addr(), last}
}

// spans returns the addresses of a block without its exceptions; none when it cannot be read.
func (b *IPBlock) spans() []span {
	in, ok := parseBlock(b.CIDR)
	if !ok {
		return nil
	}
	list := []span{spanOf(in)}
	for _, s := range b.Except {
		out, ok := parseBlock(s)
		if !ok {
			return nil
		}
		if addrFamily(out.Addr()) == addrFamily(in.Addr()) {
			list = without(list, spanOf(out))
		}
	}
	return list
}

func without(list []span, out span) []span {
	var left []span
	for _, s := range list {
		if out.hi.Less(s.lo) || s.hi.Less(out.lo) {
			left = append(left, s)
			continue
		}
		if s.lo.Less(out.lo) {
			left = append(left, span{s.lo, out.lo.Prev()})
		}
		if out.hi.Less(s.hi) {
			left = append(left, span{out.hi.Next(), s.hi})
		}
	}
	return left
}

// merged sorts spans and joins those that overlap or touch.
func merged(list []span) []span {
	slices.SortFunc(list, func(a, b span) int { return a.lo.Compare(b.lo) })
	var out []span
	for _, s := range list {
		if n := len(out) - 1; n >= 0 && (!out[n].hi.Less(s.lo) || out[n].hi.Next() == s.lo) {
			if out[n].hi.Less(s.hi) {
				out[n].hi = s.hi
			}
			continue
		}
		out = append(out, s)
	}
	return out
}

// prefix returns the span as a prefix, if it is one.
func (s span) prefix() (netip.Prefix, bool) {
	lo, hi := s.lo.AsSlice(), s.hi.AsSlice()
	bits := 0
	for bits < 8*len(lo) && (lo[bits/8]^hi[bits/8])&(0x80>>(bits%8)) == 0 {
		bits++
	}
	p := netip.PrefixFrom(s.lo, bits)
	return p, spanOf(p) == s
}
