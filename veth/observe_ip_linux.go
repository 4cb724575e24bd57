package veth

import (
	"context"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/rtnl"
)

// ipTables are the addresses, routes and neighbour proxies of some links, by index.
type ipTables struct {
	addrs   map[int][]rtnl.Addr
	routes  map[int][]rtnl.Route
	proxies map[int][]netip.Addr
}

// fewLinks is up to how many links are asked for one by one; for more, whole tables are read once.
const fewLinks = 4

func (p *place) readIP(ctx context.Context, indexes []int, proxies bool) (*ipTables, error) {
	t := &ipTables{addrs: map[int][]rtnl.Addr{}, routes: map[int][]rtnl.Route{}, proxies: map[int][]netip.Addr{}}
	if len(indexes) > fewLinks {
		indexes = []int{0}
	}
	for _, i := range indexes {
		addrs, err := p.conn.Addrs(ctx, i)
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			t.addrs[a.Index] = append(t.addrs[a.Index], a)
		}
		routes, err := p.conn.Routes(ctx, rtnl.RouteFilter{Index: i, Table: unix.RT_TABLE_MAIN})
		if err != nil {
			return nil, err
		}
		for _, r := range routes {
			t.routes[r.Index] = append(t.routes[r.Index], r)
		}
	}
	if proxies {
		entries, err := p.conn.Proxies(ctx, 0)
		if err != nil {
			return nil, err
		}
		for _, n := range entries {
			if n.Flags&unix.NTF_PROXY != 0 {
				t.proxies[n.Index] = append(t.proxies[n.Index], n.IP)
			}
		}
	}
	return t, nil
}

// addresses tells a link's addresses that are the client's: those that it marked or that are wanted, and if all is set every permanent
// one but the kernel's own link-local. A wanted address that is useless counts as missing.
func (t *ipTables) addresses(l *rtnl.Link, want []netip.Prefix, all bool) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range t.addrs[l.Index] {
		linkLocal := a.Prefix.Addr().Is6() && a.Prefix.Addr().IsLinkLocalUnicast()
		wanted := slices.Contains(want, a.Prefix)
		ours := a.Proto == RouteProtocol || wanted ||
			all && !linkLocal && a.Flags&unix.IFA_F_PERMANENT != 0
		if ours && a.Flags&unix.IFA_F_DADFAILED == 0 && (!wanted || t.hasSubnet(l, a)) {
			out = append(out, a.Prefix)
		}
	}
	return out
}

// hasSubnet reports whether the route to an address's subnet is there, as far as there should be one. The kernel makes it together with
// the address, and never again.
func (t *ipTables) hasSubnet(l *rtnl.Link, a rtnl.Addr) bool {
	if !l.Up() || a.Prefix.IsSingleIP() || a.Peer.IsValid() || a.Flags&unix.IFA_F_NOPREFIXROUTE != 0 {
		return true
	}
	if l.Master != 0 {
		return true // a VRF has it in its own table
	}
	return slices.ContainsFunc(t.routes[l.Index], func(r rtnl.Route) bool { return r.Dst == a.Prefix.Masked() })
}

// routesOf tells a link's unicast routes that the client marked, and those in the place of a wanted one.
func (t *ipTables) routesOf(index int, want []Route) []Route {
	var out []Route
	for _, k := range t.routes[index] {
		if k.Type != unix.RTN_UNICAST || k.Multipath {
			continue
		}
		r := Route{To: k.Dst, Via: k.Gateway, OnLink: k.OnLink, Source: k.Src, Scope: scopeOf(k.Scope), Metric: k.Metric, MTU: k.MTU}
		i := slices.IndexFunc(want, func(w Route) bool { return w.key() == r.key() })
		if i < 0 && k.Proto != RouteProtocol {
			continue
		}
		// The subnet route that the kernel makes for an address serves as well, and always has a source.
		if i >= 0 && k.Proto == unix.RTPROT_KERNEL && !want[i].Source.IsValid() {
			r.Source = netip.Addr{}
		}
		out = append(out, r)
	}
	return out
}

func scopeOf(scope uint8) Scope {
	switch scope {
	case unix.RT_SCOPE_SITE:
		return ScopeSite
	case unix.RT_SCOPE_LINK:
		return ScopeLink
	case unix.RT_SCOPE_HOST:
		return ScopeHost
	}
	return ScopeGlobal
}

func (s Scope) kernel() uint8 {
	switch s {
	case ScopeSite:
		return unix.RT_SCOPE_SITE
	case ScopeLink:
		return unix.RT_SCOPE_LINK
	case ScopeHost:
		return unix.RT_SCOPE_HOST
	}
	return unix.RT_SCOPE_UNIVERSE
}

// membership reads a port's VLANs. One whose flags fit neither an access VLAN nor a trunk is told as missing if it is wanted, so that it
// is set right, and as a trunk if it is not, so that it goes.
func membership(vlans []rtnl.VLAN, want VLANs) VLANs {
	var out VLANs
	for _, v := range vlans {
		odd := v.PVID != v.Untagged
		wanted := v.ID == want.Access || slices.ContainsFunc(want.Trunks, func(r VLANRange) bool { return r.First <= v.ID && v.ID <= r.Last })
		switch {
		case odd && wanted:
		case v.PVID && !odd:
			out.Access = v.ID
		default:
			out.Trunks = append(out.Trunks, VLANRange{First: v.ID, Last: v.ID})
		}
	}
	out.None = out.isZero()
	return out.canonical(false)
}
