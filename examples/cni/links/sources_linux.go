package links

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/netns"
)

// protocol marks routes and rules as this plugin's, like those of the veth package.
const protocol = 112

// firstTable is where the search for a free routing table begins.
const firstTable = 100

// absent tells that a namespace or an interface is not there.
func absent(err error) bool {
	return err != nil && (gone(err) == nil || errors.As(err, &netlink.LinkNotFoundError{}) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNotNamespace))
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func (p *pod) route(r Route, table int) *netlink.Route {
	out := &netlink.Route{
		LinkIndex: p.link.Attrs().Index, Dst: ipNet(r.To), MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Protocol: protocol,
		Table: r.Table, Scope: netlink.Scope(r.Scope), Family: netlink.FAMILY_V4,
	}
	if r.To.Addr().Is6() {
		out.Family = netlink.FAMILY_V6
	}
	if r.Via.IsValid() {
		out.Gw = r.Via.AsSlice()
	} else if r.To.Addr().Is4() && r.Scope == 0 {
		out.Scope = netlink.SCOPE_LINK
	}
	if r.OnLink {
		out.Flags = int(netlink.FLAG_ONLINK)
	}
	if table != 0 && r.Table == 0 {
		out.Table = table
	}
	return out
}

// addRoutes adds routes, those without a gateway first: the gateways of others may be behind them.
func (p *pod) addRoutes(routes []Route, table int) error {
	for _, via := range []bool{false, true} {
		for _, r := range routes {
			if r.Via.IsValid() != via {
				continue
			}
			if err := p.h.RouteReplace(p.route(r, table)); err != nil {
				return fmt.Errorf("add route %s: %w", r.To, err)
			}
		}
	}
	return nil
}

// routeSources leads traffic from the interface's own addresses by routes in a table of their own.
func (p *pod) routeSources(t *Tuning) error {
	if len(t.Sources) == 0 {
		return nil
	}
	if t.Table == 0 {
		free, err := p.freeTable()
		if err != nil {
			return err
		}
		t.Table = free
	}
	if err := p.addRoutes(t.SourceRoutes, t.Table); err != nil {
		return err
	}
	for _, a := range t.Sources {
		rule := netlink.NewRule()
		rule.Src, rule.Table, rule.Protocol, rule.Family = ipNet(netip.PrefixFrom(a, a.BitLen())), t.Table, protocol, family(a)
		if err := p.h.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add rule from %s: %w", a, err)
		}
	}
	return nil
}

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// freeTable finds the first table from 100 on that no rule names and no route is in.
func (p *pod) freeTable() (int, error) {
	used := map[int]bool{}
	rules, err := p.h.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return 0, fmt.Errorf("list rules: %w", err)
	}
	for _, r := range rules {
		used[r.Table] = true
	}
	routes, err := p.h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return 0, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		used[r.Table] = true
	}
	for table := firstTable; ; table++ {
		if !used[table] {
			return table, nil
		}
	}
}

func (p *pod) removeRules(sources []netip.Addr) error {
	if len(sources) == 0 {
		return nil
	}
	rules, err := p.h.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list rules: %w", err)
	}
	var errs []error
	for _, r := range rules {
		if r.Protocol == protocol && isSource(r, sources) {
			r.Family = family(sourceOf(r))
			if err := p.h.RuleDel(&r); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("remove rule from %s: %w", r.Src, err))
			}
		}
	}
	return errors.Join(errs...)
}

func sourceOf(r netlink.Rule) netip.Addr {
	if r.Src == nil {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(r.Src.IP)
	return a.Unmap()
}

func isSource(r netlink.Rule, sources []netip.Addr) bool {
	a := sourceOf(r)
	return a.IsValid() && slices.Contains(sources, a)
}

// removeRoutes removes what t added from an interface that stays: its routes of the main table, and all that are marked in others, as an
// ADD that was killed could not write down which table it had taken.
func (p *pod) removeRoutes(t Tuning) error {
	gone := p.wanted(t.Routes, 0)
	have, err := p.h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for i, r := range have {
		if r.Protocol == protocol && r.LinkIndex == p.link.Attrs().Index && r.Table != unix.RT_TABLE_MAIN && r.Table != unix.RT_TABLE_LOCAL {
			gone = append(gone, &have[i])
		}
	}
	var errs []error
	for _, r := range gone {
		if err := p.h.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route %s: %w", r.Dst, err))
		}
	}
	return errors.Join(errs...)
}

func (p *pod) wanted(routes []Route, table int) []*netlink.Route {
	out := make([]*netlink.Route, len(routes))
	for i, r := range routes {
		out[i] = p.route(r, table)
	}
	return out
}

// lostRoutes names the routes and rules that are missing or different.
func (p *pod) lostRoutes(t Tuning) (out []error, err error) {
	want := append(p.wanted(t.Routes, 0), p.wanted(t.SourceRoutes, t.Table)...)
	if len(want) > 0 {
		have, err := p.h.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, w := range want {
			if !slices.ContainsFunc(have, func(h netlink.Route) bool { return serves(h, w) }) {
				out = append(out, fmt.Errorf("route %s in table %d is missing or different", w.Dst, max(w.Table, 0)))
			}
		}
	}
	if len(t.Sources) == 0 {
		return out, nil
	}
	rules, err := p.h.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return out, fmt.Errorf("list rules: %w", err)
	}
	for _, a := range t.Sources {
		if !slices.ContainsFunc(rules, func(r netlink.Rule) bool { return r.Table == t.Table && isSource(r, []netip.Addr{a}) }) {
			out = append(out, fmt.Errorf("rule from %s to table %d is missing", a, t.Table))
		}
	}
	return out, nil
}

// serves reports whether a route that is there is the wanted one.
func serves(have netlink.Route, want *netlink.Route) bool {
	table := want.Table
	if table == 0 {
		table = unix.RT_TABLE_MAIN
	}
	dst := have.Dst == nil || have.Dst.String() == want.Dst.String()
	if have.Dst == nil { // a default route
		ones, _ := want.Dst.Mask.Size()
		dst = ones == 0 && have.Family == want.Family
	}
	return dst && have.Table == table && have.LinkIndex == want.LinkIndex && have.Gw.Equal(want.Gw) &&
		(want.MTU == 0 || have.MTU == want.MTU) && (want.AdvMSS == 0 || have.AdvMSS == want.AdvMSS)
}
