package ipvs

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/rtnl"
)

// resolveRanges leaves out the addresses that the machine has, and fills in the sources that are not given.
func resolveRanges(ctx context.Context, c *rtnl.Conn, ranges []Range) ([]Range, error) {
	if len(ranges) == 0 {
		return nil, nil
	}
	addrs, err := c.Addrs(ctx, 0)
	if err != nil {
		return nil, err
	}
	own := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		own[a.Prefix.Addr()] = true
	}
	var sources [2]netip.Addr
	out := make([]Range, 0, len(ranges))
	for _, r := range ranges {
		if r.Prefix.IsSingleIP() && own[r.Prefix.Addr()] {
			continue
		}
		if !r.Source.IsValid() {
			v4 := r.Prefix.Addr().Is4()
			source := &sources[0]
			if !v4 {
				source = &sources[1]
			}
			if !source.IsValid() {
				if *source, err = outward(ctx, c, addrs, v4); err != nil {
					return nil, err
				}
			}
			r.Source = *source
		}
		out = append(out, r)
	}
	return out, nil
}

// outward is the address that the machine has for others: towards its default route, else the first one. It is invalid when there is none:
// the machine then cannot connect to anybody.
func outward(ctx context.Context, c *rtnl.Conn, addrs []rtnl.Addr, v4 bool) (netip.Addr, error) {
	family, everywhere := uint8(unix.AF_INET), netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if !v4 {
		family, everywhere = unix.AF_INET6, netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	routes, err := c.Routes(ctx, rtnl.RouteFilter{Family: family, Table: unix.RT_TABLE_MAIN})
	if err != nil {
		return netip.Addr{}, err
	}
	routes = slices.DeleteFunc(routes, func(r rtnl.Route) bool { return r.Dst != everywhere || r.Index == loopback })
	slices.SortStableFunc(routes, func(a, b rtnl.Route) int { return cmp.Compare(a.Metric, b.Metric) })
	index := 0
	if len(routes) > 0 {
		if routes[0].Src.IsValid() {
			return routes[0].Src, nil
		}
		index = routes[0].Index
	}
	const unfit = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED | unix.IFA_F_TEMPORARY
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a rtnl.Addr) bool {
		return a.Prefix.Addr().Is4() != v4 || a.Scope != unix.RT_SCOPE_UNIVERSE || v4 && a.Flags&unix.IFA_F_SECONDARY != 0 || !v4 && a.Flags&unfit != 0
	})
	slices.SortStableFunc(addrs, func(a, b rtnl.Addr) int { return cmp.Compare(a.Index, b.Index) })
	if i := slices.IndexFunc(addrs, func(a rtnl.Addr) bool { return a.Index == index }); i >= 0 {
		return addrs[i].Prefix.Addr(), nil
	}
	if len(addrs) == 0 {
		return netip.Addr{}, nil
	}
	return addrs[0].Prefix.Addr(), nil
}
