package veth

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/podplumb/podplumb/internal/plan"
)

// Names of settings, as plans print them.
const (
	setMAC       = "mac"
	setMTU       = "mtu"
	setState     = "state"
	setPromisc   = "promiscuous"
	setSnooping  = "multicast-snooping"
	setGroupFwd  = "group-forward-mask"
	setAgeing    = "ageing"
	setIPTables  = "call-iptables"
	setFiltering = "vlan-filtering"
	setVLANs     = "vlans"
	setBridge    = "bridge"
	setHairpin   = "hairpin"
	setIsolated  = "isolated"
	setGroup     = "group"
	setDAD       = "dad"
	setProxyARP  = "proxy-arp"
)

// ageingUnit is the kernel's step for bridge times: 1/USER_HZ.
const ageingUnit = 10 * time.Millisecond

// ipParts is what the links of every kind have above the link layer.
type ipParts struct {
	sysctls []sysctl
	addrs   []netip.Prefix
	routes  []Route
	proxies []netip.Addr
}

func diffBridge(have, want *Bridge) linkChange {
	if have == nil {
		return diffLink(nil, bridgeSettings(want), ipParts{}, bridgeIP(want))
	}
	return diffLink(bridgeSettings(have), bridgeSettings(want), bridgeIP(have), bridgeIP(want))
}

// diffPair compares both ends; have nil means that the pair is made.
func diffPair(have, want *Pair) (host, pod linkChange) {
	if have == nil {
		return diffLink(nil, hostSettings(want), ipParts{}, hostIP(want)), diffLink(nil, podSettings(&want.Pod), ipParts{}, podIP(&want.Pod))
	}
	return diffLink(hostSettings(have), hostSettings(want), hostIP(have), hostIP(want)),
		diffLink(podSettings(&have.Pod), podSettings(&want.Pod), podIP(&have.Pod), podIP(&want.Pod))
}

func diffLink(have, want []setting, haveIP, wantIP ipParts) linkChange {
	var c linkChange
	for i, w := range want {
		switch {
		case w.value == "":
		case have == nil:
			c.settings = append(c.settings, settingChange{name: w.name, want: w.value})
		case have[i].value != w.value:
			c.settings = append(c.settings, settingChange{name: w.name, have: orNone(have[i].value), want: w.value})
		}
	}
	c.sysctls = plan.Diff(haveIP.sysctls, wantIP.sysctls, func(s *sysctl) string { return s.name }, cmp.Compare[string], same)
	c.addrs = plan.Diff(haveIP.addrs, wantIP.addrs, self, comparePrefix, same)
	c.routes = plan.Diff(haveIP.routes, wantIP.routes, func(r *Route) routeKey { return r.key() }, compareRouteKey, same)
	c.proxies = plan.Diff(haveIP.proxies, wantIP.proxies, self, netip.Addr.Compare, same)
	return c
}

func same[T comparable](a, b *T) bool { return *a == *b }

func self[T any](v *T) T { return *v }

func bridgeSettings(b *Bridge) []setting {
	return []setting{
		{setMAC, macText(b.MAC)},
		{setMTU, fmt.Sprint(b.MTU)},
		{setState, upDown(b.Down)},
		{setPromisc, onOff(b.Promiscuous)},
		{setSnooping, onOff(b.MulticastSnooping)},
		{setGroupFwd, fmt.Sprintf("%#x", b.GroupForwardMask)},
		{setAgeing, ageingText(b.Ageing)},
		{setIPTables, onOff(b.CallIPTables)},
		{setFiltering, onOff(b.VLANFiltering)},
		{setVLANs, b.VLANs.text()},
		{setDAD, onOff(b.DAD)},
	}
}

func bridgeIP(b *Bridge) ipParts {
	return ipParts{sysctls: sysctlList(b.Sysctls), addrs: b.Addresses, routes: b.Routes}
}

func hostSettings(p *Pair) []setting {
	h := &p.Host
	s := []setting{
		{setMAC, macText(h.MAC)},
		{setMTU, fmt.Sprint(h.MTU)},
		{setState, upDown(h.Down)},
		{setGroup, fmt.Sprint(p.Group)},
		{setBridge, orNone(h.Bridge)},
		{setDAD, ""}, {setProxyARP, ""}, {setHairpin, ""}, {setIsolated, ""}, {setVLANs, ""},
	}
	// An empty value is not compared: a routed end is no port, and a port has no addresses and answers for nobody.
	if h.Bridge == "" {
		s[5].value, s[6].value = onOff(h.DAD), onOff(h.ProxyARP)
	} else {
		s[7].value, s[8].value, s[9].value = onOff(h.Port.Hairpin), onOff(h.Port.Isolated), h.Port.VLANs.text()
	}
	return s
}

func hostIP(p *Pair) ipParts {
	h := &p.Host
	return ipParts{sysctls: sysctlList(h.Sysctls), addrs: h.Addresses, routes: append(p.podRoutes(), h.Routes...), proxies: h.Proxy}
}

// podRoutes are the node's routes to the addresses of a routed pod that its Host implies and does not list.
func (p *Pair) podRoutes() []Route {
	h := &p.Host
	if h.Bridge != "" || h.Down {
		return nil
	}
	var out []Route
	for _, a := range p.Pod.Addresses {
		r := hostRoute(a.Addr())
		listed := slices.ContainsFunc(h.Routes, func(x Route) bool { return x.key() == r.key() })
		if !listed && !a.Addr().IsLinkLocalUnicast() && !slices.Contains(h.Unrouted, a.Addr()) {
			out = append(out, r)
		}
	}
	return out
}

func podSettings(p *Pod) []setting {
	return []setting{
		{setMAC, macText(p.MAC)},
		{setMTU, fmt.Sprint(p.MTU)},
		{setState, upDown(p.Down)},
		{setDAD, onOff(p.DAD)},
	}
}

func podIP(p *Pod) ipParts {
	return ipParts{sysctls: sysctlList(p.Sysctls), addrs: p.Addresses, routes: p.Routes}
}

func sysctlList(m map[string]string) []sysctl {
	var out []sysctl
	for _, name := range sysctlNames(m) {
		out = append(out, sysctl{name, m[name]})
	}
	return out
}

func (v VLANs) text() string {
	switch {
	case v.isZero():
		return ""
	case v.None:
		return "none"
	case len(v.Trunks) == 0:
		return fmt.Sprintf("access %d", v.Access)
	case v.Access == 0:
		return "trunks " + join(v.Trunks)
	}
	return fmt.Sprintf("access %d trunks %s", v.Access, join(v.Trunks))
}

func ageingText(d time.Duration) string {
	if d < 0 {
		return "none"
	}
	return d.String()
}

func macText(m MAC) string {
	if m == (MAC{}) {
		return ""
	}
	return m.String()
}

func upDown(down bool) string {
	if down {
		return "down"
	}
	return "up"
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
