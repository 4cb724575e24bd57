package plugin

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/examples/cni/conf"
	"github.com/podplumb/podplumb/examples/cni/links"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/veth"
)

// unix.RT_TABLE_MAIN and unix.RT_SCOPE_UNIVERSE: what a route is in and has when nothing is said.
const (
	mainTable     = 254
	universeScope = 0
)

// special tells the routes that the veth package has no place for: those of other tables, and those with an own MSS or scope.
func special(c conf.Route) bool {
	return c.Table != nil && *c.Table != mainTable || c.AdvMSS != 0 || c.Scope != nil && *c.Scope != universeScope
}

// tuning is what the container's interface gets besides addresses and ordinary routes.
func (r *request) tuning(addrs []address) links.Tuning {
	n := r.net
	t := links.Tuning{Sysctls: n.Sysctl, Promisc: n.Promisc, AllMulti: n.AllMulti, TxQLen: n.TxQLen}
	for _, c := range r.routesOf(addrs) {
		if special(c) {
			t.Routes = append(t.Routes, r.route(c, addrs))
		}
	}
	if n.SourceRouting {
		if n.Table != nil {
			t.Table = *n.Table
		}
		for _, a := range addrs {
			t.Sources = append(t.Sources, a.prefix.Addr())
		}
		t.SourceRoutes = r.sourceRoutes(addrs)
	}
	return t
}

// routesOf are the configured routes of the families that the container has addresses of.
func (r *request) routesOf(addrs []address) []conf.Route {
	if r.net.IPAM == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(r.net.IPAM.Routes), func(c conf.Route) bool {
		return !slices.ContainsFunc(addrs, func(a address) bool { return a.prefix.Addr().Is4() == c.Dst.Addr().Is4() })
	})
}

// gatewayOf is the gateway of the first address of a family that has one.
func gatewayOf(addrs []address, is4 bool) netip.Addr {
	for _, a := range addrs {
		if a.gateway.IsValid() && a.prefix.Addr().Is4() == is4 {
			return a.gateway
		}
	}
	return netip.Addr{}
}

// route fills in the gateway of a configured route that has none and goes further than the link.
func (r *request) route(c conf.Route, addrs []address) links.Route {
	out := links.Route{To: c.Dst.Masked(), Via: c.GW, MTU: c.MTU, AdvMSS: c.AdvMSS, Priority: c.Priority}
	if c.Table != nil {
		out.Table = *c.Table
	}
	if c.Scope != nil {
		out.Scope = *c.Scope
	}
	if !out.Via.IsValid() && out.Scope == universeScope {
		out.Via = gatewayOf(addrs, c.Dst.Addr().Is4())
	}
	return out
}

// sourceRoutes are those by which traffic from the container's own addresses leaves: its subnets, what is configured, and the default.
func (r *request) sourceRoutes(addrs []address) []links.Route {
	var out []links.Route
	add := func(x links.Route) {
		if !slices.ContainsFunc(out, func(o links.Route) bool { return o.To == x.To && o.Priority == x.Priority && o.Table == x.Table }) {
			out = append(out, x)
		}
	}
	for _, c := range r.routesOf(addrs) {
		if !special(c) {
			add(r.route(c, addrs))
		}
	}
	for _, a := range addrs {
		if r.net.Mode == conf.RoutedMode {
			add(links.Route{To: netip.PrefixFrom(a.gateway, a.gateway.BitLen())})
		} else {
			add(links.Route{To: a.prefix.Masked()})
		}
	}
	for _, is4 := range []bool{true, false} {
		if via := gatewayOf(addrs, is4); via.IsValid() {
			to := veth.DefaultVia(via).To
			if !slices.ContainsFunc(out, func(o links.Route) bool { return o.To == to }) {
				add(links.Route{To: to, Via: via})
			}
		}
	}
	return out
}

// deviceName is the name of the ifb device of an attachment.
func deviceName(k record.Key) string { return "ifb" + strings.TrimPrefix(linkName(k), "veth") }

// shape is the limits of the container's traffic: the runtime's, if it gives any, and otherwise the configuration's.
func (r *request) shape() links.Shape {
	b := r.net.Bandwidth
	if r.net.Runtime.Bandwidth != nil {
		b = *r.net.Runtime.Bandwidth
	}
	s := links.Shape{
		In:  links.Rate{Bits: b.IngressRate, Burst: b.IngressBurst},
		Out: links.Rate{Bits: b.EgressRate, Burst: b.EgressBurst},
	}
	if s.IsZero() {
		return s
	}
	s.Only, s.Except = r.net.ShapedSubnets, r.net.UnshapedSubnets
	if s.Out.Bits != 0 {
		s.Device = deviceName(r.key)
	}
	return s
}
