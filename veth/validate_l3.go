package veth

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

// routes checks the routes of a link that has the given addresses. In a pod, whose other links are not this state's, the preferred
// source must be an address of this link; in the node it may be on any.
func (c *check) routes(at string, routes []Route, addresses []netip.Prefix, down, pod bool) {
	if down && len(routes) > 0 {
		c.fault(at+".routes", "a link that is down has none")
	}
	seen := map[routeKey]int{}
	for i, r := range routes {
		here := fmt.Sprintf("%s.routes[%d]", at, i)
		if !r.To.IsValid() || r.To.Addr().Is4In6() || r.To.Addr().IsMulticast() {
			c.fault(here+".to", "%s is no unicast destination", r.To)
			continue
		}
		if r.To != r.To.Masked() {
			c.fault(here+".to", "%s has bits set beyond its prefix length: use %s", r.To, r.To.Masked())
		}
		if first, taken := seen[r.key()]; taken {
			c.fault(here, "has the destination and metric of routes[%d]", first)
		} else {
			seen[r.key()] = i
		}
		c.gateway(here, r, routes, addresses)
		c.source(here+".source", r, addresses, pod)
		if r.MTU != 0 && (r.MTU < minMTU || r.MTU > maxMTU || r.MTU < minMTU6 && r.To.Addr().Is6()) {
			c.fault(here+".mtu", "%d is not possible for %s", r.MTU, r.To)
		}
		switch {
		case r.Scope > ScopeHost:
			c.fault(here+".scope", "%s is unknown", r.Scope)
		case r.Scope != ScopeAuto && r.Scope != ScopeGlobal && r.To.Addr().Is6():
			c.fault(here+".scope", "%s: IPv6 routes have no scope", r.Scope)
		case r.Scope == ScopeHost, r.Scope == ScopeLink && r.Via.IsValid():
			c.fault(here+".scope", "%s is narrower than the route's next hop", r.Scope)
		}
	}
}

func (c *check) gateway(at string, r Route, routes []Route, addresses []netip.Prefix) {
	switch {
	case !r.Via.IsValid():
		if r.OnLink {
			c.fault(at+".onlink", "needs a gateway")
		}
		return
	case r.Via.Is4() != r.To.Addr().Is4() || r.Via.Is4In6():
		c.fault(at+".via", "%s is of another family than %s", r.Via, r.To)
		return
	case r.Via.IsUnspecified(), r.Via.IsMulticast(), r.Via.Zone() != "":
		c.fault(at+".via", "%s is not a unicast address without zone", r.Via)
		return
	case slices.ContainsFunc(addresses, func(p netip.Prefix) bool { return p.Addr() == r.Via && p.Bits() < r.Via.BitLen() }):
		c.fault(at+".via", "%s is the link's own address", r.Via)
		return
	case r.OnLink, r.Via.Is6() && r.Via.IsLinkLocalUnicast():
		return
	}
	if slices.ContainsFunc(addresses, func(p netip.Prefix) bool { return p.Contains(r.Via) }) {
		return
	}
	if slices.ContainsFunc(routes, func(o Route) bool { return !o.Via.IsValid() && o.To.Bits() > 0 && o.To.Contains(r.Via) }) {
		return
	}
	c.fault(at+".via", "%s is outside every subnet of the link (list a route to it, or set onlink)", r.Via)
}

func (c *check) source(at string, r Route, addresses []netip.Prefix, pod bool) {
	if !r.Source.IsValid() {
		return
	}
	if r.Source.Is4() != r.To.Addr().Is4() || r.Source.IsUnspecified() || r.Source.IsMulticast() || r.Source.Zone() != "" {
		c.fault(at, "%s cannot be the source of packets to %s", r.Source, r.To)
		return
	}
	if pod && !slices.ContainsFunc(addresses, func(p netip.Prefix) bool { return p.Addr() == r.Source }) {
		c.fault(at, "%s is not an address of the link", r.Source)
	}
}

// placeholder stands for the link's name in the name of a sysctl.
const placeholder = "IFNAME"

// The sysctls that fields set.
const (
	sysctlDAD        = "net.ipv6.conf.IFNAME.accept_dad"
	sysctlIPv6Off    = "net.ipv6.conf.IFNAME.disable_ipv6"
	sysctlAddrGen    = "net.ipv6.conf.IFNAME.addr_gen_mode"
	sysctlProxyARP   = "net.ipv4.conf.IFNAME.proxy_arp"
	sysctlProxyNDP   = "net.ipv6.conf.IFNAME.proxy_ndp"
	sysctlProxyDelay = "net.ipv4.neigh.IFNAME.proxy_delay"
	sysctlNDPDelay   = "net.ipv6.neigh.IFNAME.proxy_delay"
)

var sysctlOfField = map[string]string{
	sysctlDAD: "dad", sysctlIPv6Off: "addresses", sysctlProxyARP: "proxyARP", sysctlProxyNDP: "proxy", sysctlProxyDelay: "proxyARP", sysctlNDPDelay: "proxy",
}

func (c *check) sysctls(at string, sysctls map[string]string, node bool) {
	seen := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(sysctls)) {
		here, name := fmt.Sprintf("%s[%q]", at, k), sysctlName(k)
		parts := strings.Split(name, ".")
		switch {
		case len(parts) < 3 || parts[0] != "net" || slices.Contains(parts, ""):
			c.fault(here, "is not the name of a sysctl below net")
		case strings.ContainsFunc(name, func(r rune) bool {
			return r > unicode.MaxASCII || unicode.IsSpace(r) || unicode.IsControl(r) || r == ','
		}):
			c.fault(here, "has characters that no sysctl has")
		case sysctlOfField[name] != "":
			c.fault(here, "is set by the field %s", sysctlOfField[name])
		case node && !slices.Contains(parts, placeholder):
			c.fault(here, "is the whole node's: only names with %s are the link's", placeholder)
		case seen[name] != "":
			c.fault(here, "is %q written another way", seen[name])
		}
		seen[name] = k
		if v := sysctls[k]; strings.TrimSpace(v) == "" || strings.ContainsFunc(v, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) {
			c.fault(here, "%q is no value", v)
		}
	}
}
