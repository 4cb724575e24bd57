package service

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/ipvs"
)

// routes are the addresses that packets come in for: the service ranges, and the virtual servers' addresses outside of them.
type routes struct {
	ranges []netip.Prefix // service ranges that the client owns, sorted
	made   []netip.Prefix // in the kernel or of the node's own, sorted
}

// changed returns the service ranges after a Plan.
func (r *routes) changed(full bool, part *natChange, owns ipvs.Owns) []netip.Prefix {
	var out []netip.Prefix
	if !full {
		out = slices.DeleteFunc(slices.Clone(r.ranges), func(p netip.Prefix) bool { return slices.Contains(part.dropRange, p) })
	}
	for _, v := range part.setRange {
		p := v.Prefix.Masked()
		owned := slices.ContainsFunc(owns.Prefixes, func(o netip.Prefix) bool { return o.Bits() <= p.Bits() && o.Contains(p.Addr()) })
		if owned && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, comparePrefix)
	return out
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits())
}

func covered(ranges []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

// routesFor are the routes that ranges and virtual servers need, sorted.
func routesFor(ranges []netip.Prefix, services map[ipvs.Key]ipvs.Service) []netip.Prefix {
	out := slices.Clone(ranges)
	for k := range services {
		if a := k.Address.Addr(); !covered(ranges, a) {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	slices.SortFunc(out, comparePrefix)
	return slices.Compact(out)
}

// apart leaves out what lies inside of others of a sorted list.
func apart(list []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		if n := len(out); n == 0 || !out[n-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}

// make has the kernel make exactly these routes.
func (r *routes) make(ctx context.Context, c *ipvs.Client, want []netip.Prefix) error {
	ranges := make([]ipvs.Range, len(want))
	for i, p := range want {
		ranges[i] = ipvs.Range{Prefix: p}
	}
	if err := c.SyncRanges(ctx, ranges); err != nil {
		return err
	}
	r.made = want
	return nil
}

// outside returns the parts of a list of networks that lie in none of the holes; an empty list is everything.
func outside(list, holes []netip.Prefix, v6 bool) []netip.Prefix {
	if len(list) == 0 {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if v6 {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		list = []netip.Prefix{all}
	}
	for _, h := range holes {
		var rest []netip.Prefix
		for _, p := range list {
			rest = append(rest, cut(p, h)...)
		}
		list = rest
	}
	return list
}

// cut returns the parts of p that are not in hole.
func cut(p, hole netip.Prefix) []netip.Prefix {
	switch {
	case !p.Overlaps(hole):
		return []netip.Prefix{p}
	case hole.Bits() <= p.Bits():
		return nil
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1).Masked()
	high := p.Masked().Addr().AsSlice()
	high[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	a, _ := netip.AddrFromSlice(high)
	return append(cut(low, hole), cut(netip.PrefixFrom(a, p.Bits()+1), hole)...)
}

// loopbacks serve no node ports.
var loopbacks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// nodePorts keeps node ports off the virtual addresses, which are local to the node as its own are.
func nodePorts(part *natChange, ranges []netip.Prefix) {
	for fam, ports := range part.ports {
		v6 := fam == 1
		holes := slices.DeleteFunc(slices.Clone(ranges), func(p netip.Prefix) bool { return p.Addr().Is6() != v6 })
		if !ports || len(holes) == 0 {
			continue
		}
		for _, p := range loopbacks {
			if p.Addr().Is6() == v6 {
				holes = append(holes, p)
			}
		}
		part.on[fam] = outside(part.on[fam], holes, v6)
	}
}
