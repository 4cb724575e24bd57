package veth

import (
	"fmt"
	"net/netip"
	"strings"
)

// RouteProtocol is the rtm_protocol of every route, and the IFA_PROTO of every address, that this package adds; it tells them from
// those of others on the same link. Shown as "proto 112" by ip route.
const RouteProtocol = 112

// Scope is how far a route's destination is away (rtnetlink(7), rt_scope_t).
type Scope uint8

// The scopes. ScopeAuto, the zero value, is ScopeLink for an IPv4 route without a gateway and ScopeGlobal for all others.
const (
	ScopeAuto Scope = iota
	ScopeGlobal
	ScopeSite
	ScopeLink
	ScopeHost
)

// String returns auto, global, site, link or host.
func (s Scope) String() string {
	switch s {
	case ScopeAuto:
		return "auto"
	case ScopeGlobal:
		return "global"
	case ScopeSite:
		return "site"
	case ScopeLink:
		return "link"
	case ScopeHost:
		return "host"
	}
	return fmt.Sprintf("scope(%d)", uint8(s))
}

// MarshalText is String.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what String prints; empty text is ScopeAuto.
func (s *Scope) UnmarshalText(text []byte) error {
	for v := ScopeAuto; v <= ScopeHost; v++ {
		if string(text) == v.String() || len(text) == 0 {
			*s = v
			return nil
		}
	}
	return fmt.Errorf("veth: parse scope %q: want auto, global, site, link or host", text)
}

// Route is a route of the main table through the link that lists it. Two routes of a link differ in To or Metric.
type Route struct {
	To     netip.Prefix // 0.0.0.0/0 and ::/0 are the default routes
	Via    netip.Addr   // gateway, of To's family; zero: the destination is on the link
	OnLink bool         // the gateway is on the link although no subnet of the link has it
	Source netip.Addr   // preferred source address; zero: the kernel's choice
	Scope  Scope
	Metric uint32 // smaller wins; zero: 0 for IPv4, 1024 for IPv6
	MTU    uint32 // bytes; zero: the link's
}

// DefaultVia is the default route through a gateway of either family.
func DefaultVia(gateway netip.Addr) Route {
	if gateway.Is4() {
		return Route{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: gateway}
	}
	return Route{To: netip.PrefixFrom(netip.IPv6Unspecified(), 0), Via: gateway}
}

// String prints the route in the words of ip route: "default via 10.1.0.1 metric 10".
func (r Route) String() string { return r.key().String() + r.detail() }

// detail is what follows the key in String, with a leading space.
func (r Route) detail() string {
	var b strings.Builder
	if r.Via.IsValid() {
		fmt.Fprintf(&b, " via %s", r.Via)
	}
	if r.Source.IsValid() {
		fmt.Fprintf(&b, " src %s", r.Source)
	}
	if r.Scope != ScopeAuto && r.Scope != r.autoScope() {
		fmt.Fprintf(&b, " scope %s", r.Scope)
	}
	if r.MTU != 0 {
		fmt.Fprintf(&b, " mtu %d", r.MTU)
	}
	if r.OnLink {
		b.WriteString(" onlink")
	}
	return b.String()
}

// routeKey is what the kernel tells two routes of one table and link apart by.
type routeKey struct {
	to     netip.Prefix
	metric uint32
}

func (r Route) key() routeKey { return routeKey{to: r.To, metric: r.metric()} }

func (k routeKey) String() string {
	to := k.to.String()
	if k.to.Bits() == 0 {
		to = "default"
		if k.to.Addr().Is6() {
			to = "default6"
		}
	}
	if k.metric == 0 || k.metric == defaultMetric6 && k.to.Addr().Is6() {
		return to
	}
	return fmt.Sprintf("%s metric %d", to, k.metric)
}

// defaultMetric6 is IP6_RT_PRIO_USER of include/uapi/linux/ipv6_route.h.
const defaultMetric6 = 1024

func (r Route) metric() uint32 {
	if r.Metric == 0 && r.To.Addr().Is6() {
		return defaultMetric6
	}
	return r.Metric
}

func (r Route) autoScope() Scope {
	if r.To.Addr().Is4() && !r.Via.IsValid() {
		return ScopeLink
	}
	return ScopeGlobal
}

// hostRoute is the node's route to one address of a routed pod.
func hostRoute(a netip.Addr) Route {
	r := Route{To: netip.PrefixFrom(a, a.BitLen())}
	r.Metric, r.Scope = r.metric(), r.autoScope()
	return r
}
