package veth

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Limits of the kernel: IFNAMSIZ and IFALIASZ without the final zero byte, the smallest MTU of RFC 791 and of RFC 8200.
const (
	maxName  = 15
	maxAlias = 255
	maxMTU   = 65535
	minMTU   = 68
	minMTU6  = 1280
	maxVLAN  = 4094
	// maxAgeing is far below where the kernel's clock arithmetic overflows.
	maxAgeing = 30 * 24 * time.Hour
)

// Validate reports every fault of the state at once, each as a *FieldError in a joined error.
func (s State) Validate() error {
	c := &check{nodeLinks: map[string]string{}, podLinks: map[[2]string]string{}, bridges: map[string]*Bridge{}, addresses: map[segmentAddr]string{}, macs: map[segmentMAC]string{}}
	for i := range s.Bridges {
		c.bridge(fmt.Sprintf("bridges[%d]", i), &s.Bridges[i])
	}
	for i := range s.Pairs {
		c.pair(fmt.Sprintf("pairs[%d]", i), &s.Pairs[i])
	}
	return errors.Join(c.faults...)
}

// segment is where an address must be unique: a bridge by name, or "" for all that the node routes to.
type (
	segmentAddr struct {
		segment string
		addr    netip.Addr
	}
	segmentMAC struct {
		segment string
		mac     MAC
	}
)

// check collects faults and remembers, by path, what was seen.
type check struct {
	faults    []error
	nodeLinks map[string]string
	podLinks  map[[2]string]string
	bridges   map[string]*Bridge
	addresses map[segmentAddr]string
	macs      map[segmentMAC]string
}

func (c *check) fault(at, format string, args ...any) {
	c.faults = append(c.faults, &FieldError{Path: at, Fault: fmt.Sprintf(format, args...)})
}

func (c *check) name(at, name string) {
	switch {
	case name == "":
		c.fault(at, "is empty")
	case len(name) > maxName:
		c.fault(at, "%q has %d bytes, a link name has at most %d (IFNAMSIZ)", name, len(name), maxName)
	case name == "." || name == ".." || strings.ContainsAny(name, "/:%") || strings.ContainsFunc(name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		c.fault(at, "%q is no link name: . and .. and the characters / : %% and space are not allowed", name)
	case name == "lo", name == "all", name == "default":
		c.fault(at, "%q is reserved", name)
	}
}

func (c *check) nodeLink(at, name string) {
	c.name(at, name)
	if first, taken := c.nodeLinks[name]; taken && name != "" {
		c.fault(at, "%q is also the name of %s", name, first)
		return
	}
	c.nodeLinks[name] = at
}

func (c *check) mac(at, segment string, m MAC) {
	if m == (MAC{}) {
		return
	}
	if m[0]&1 != 0 {
		c.fault(at, "%s is a multicast address", m)
	}
	k := segmentMAC{segment, m}
	if first, taken := c.macs[k]; taken {
		c.fault(at, "%s is also that of %s", m, first)
		return
	}
	c.macs[k] = at
}

func (c *check) mtu(at string, mtu int, addresses []netip.Prefix) {
	switch {
	case mtu == 0:
	case mtu < minMTU || mtu > maxMTU:
		c.fault(at, "%d is outside %d to %d", mtu, minMTU, maxMTU)
	case mtu < minMTU6 && slices.ContainsFunc(addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }):
		c.fault(at, "%d is below %d, the least that IPv6 needs (RFC 8200)", mtu, minMTU6)
	}
}

func (c *check) bridge(at string, b *Bridge) {
	c.nodeLink(at+".name", b.Name)
	c.bridges[b.Name] = b
	c.mac(at+".mac", b.Name, b.MAC)
	c.mtu(at+".mtu", b.MTU, b.Addresses)
	c.addrs(at+".addresses", b.Name, b.Addresses)
	c.routes(at, b.Routes, b.Addresses, b.Down, false)
	c.sysctls(at+".sysctls", b.Sysctls, true)
	if b.Ageing > 0 && (b.Ageing%ageingUnit != 0 || b.Ageing > maxAgeing) {
		c.fault(at+".ageing", "%s is not a multiple of %s up to %s", b.Ageing, ageingUnit, maxAgeing)
	}
	if b.GroupForwardMask&0x7 != 0 {
		c.fault(at+".groupForwardMask", "%#x has bits 0 to 2 (STP, pause, LACP), which the kernel does not forward", b.GroupForwardMask)
	}
	if !b.VLANFiltering && !b.VLANs.isZero() {
		c.fault(at+".vlans", "needs vlanFiltering")
	}
	c.vlans(at+".vlans", b.VLANs)
}

func (c *check) pair(at string, p *Pair) {
	h, pod := &p.Host, &p.Pod
	c.nodeLink(at+".host.name", h.Name)
	c.name(at+".pod.name", pod.Name)
	c.netns(at+".pod.netns", pod.NetNS)
	key := [2]string{path.Clean(pod.NetNS), pod.Name}
	if first, taken := c.podLinks[key]; taken && pod.Name != "" {
		c.fault(at+".pod.name", "%q in %s is also the name of %s", pod.Name, pod.NetNS, first)
	} else {
		c.podLinks[key] = at + ".pod"
	}
	c.mac(at+".host.mac", h.Bridge, h.MAC)
	c.mac(at+".pod.mac", h.Bridge, pod.MAC)
	c.mtu(at+".host.mtu", h.MTU, slices.Concat(h.Addresses, pod.Addresses))
	c.mtu(at+".pod.mtu", pod.MTU, pod.Addresses)
	if h.MTU != 0 && pod.MTU != 0 && h.MTU != pod.MTU {
		c.fault(at+".pod.mtu", "%d differs from the node end's %d: both ends of a pair have one MTU", pod.MTU, h.MTU)
	}
	c.addrs(at+".pod.addresses", h.Bridge, pod.Addresses)
	c.routes(at+".pod", pod.Routes, pod.Addresses, pod.Down, true)
	c.sysctls(at+".pod.sysctls", pod.Sysctls, false)
	c.sysctls(at+".host.sysctls", h.Sysctls, true)
	if h.Bridge == "" {
		c.routed(at, p)
		return
	}
	c.port(at+".host", h)
}

// routed checks what a point-to-point end has.
func (c *check) routed(at string, p *Pair) {
	h := &p.Host
	if h.Port.Hairpin || h.Port.Isolated || !h.Port.VLANs.isZero() {
		c.fault(at+".host.port", "needs a bridge")
	}
	// The same gateway address may be on every routed end, so they do not share a segment; the pod's addresses are already in "".
	c.addrs(at+".host.addresses", at, h.Addresses)
	for i, a := range h.Addresses {
		if slices.ContainsFunc(p.Pod.Addresses, func(b netip.Prefix) bool { return a.Addr() == b.Addr() }) {
			c.fault(fmt.Sprintf("%s.host.addresses[%d]", at, i), "%s is also the pod's", a.Addr())
		}
	}
	c.routes(at+".host", h.Routes, slices.Concat(h.Addresses, hostPrefixes(p.Pod.Addresses)), h.Down, false)
	for i, a := range h.Unrouted {
		if !slices.ContainsFunc(p.Pod.Addresses, func(b netip.Prefix) bool { return a == b.Addr() }) {
			c.fault(fmt.Sprintf("%s.host.unrouted[%d]", at, i), "%s is not an address of the pod", a)
		}
	}
	seen := map[netip.Addr]bool{}
	for i, a := range h.Proxy {
		here := fmt.Sprintf("%s.host.proxy[%d]", at, i)
		switch {
		case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() || a.Zone() != "":
			c.fault(here, "%s is not a unicast address without zone", a)
		case seen[a]:
			c.fault(here, "%s is listed twice", a)
		}
		seen[a] = true
	}
}

// port checks what a bridge port may not have.
func (c *check) port(at string, h *Host) {
	c.name(at+".bridge", h.Bridge)
	b := c.bridges[h.Bridge]
	if b == nil {
		if _, taken := c.nodeLinks[h.Bridge]; taken {
			c.fault(at+".bridge", "%q is no bridge", h.Bridge)
		}
	}
	if len(h.Addresses) > 0 {
		c.fault(at+".addresses", "a bridge port has none: put them on the bridge")
	}
	if len(h.Routes) > 0 {
		c.fault(at+".routes", "a bridge port has none: put them on the bridge")
	}
	if len(h.Unrouted) > 0 {
		c.fault(at+".unrouted", "a bridge port has no routes to its pod")
	}
	if h.ProxyARP || len(h.Proxy) > 0 {
		c.fault(at+".proxy", "a bridge port answers for nobody: leave bridge empty")
	}
	if b != nil && !b.VLANFiltering && !h.Port.VLANs.isZero() {
		c.fault(at+".port.vlans", "needs vlanFiltering on bridge %s", h.Bridge)
	}
	c.vlans(at+".port.vlans", h.Port.VLANs)
}

func (c *check) netns(at, p string) {
	switch {
	case p == "":
		c.fault(at, "is empty")
	case !path.IsAbs(p):
		c.fault(at, "%q is not an absolute path", p)
	case strings.ContainsFunc(p, unicode.IsControl):
		c.fault(at, "%q has control characters", p)
	}
}

func (c *check) addrs(at, segment string, addresses []netip.Prefix) {
	for i, p := range addresses {
		here := fmt.Sprintf("%s[%d]", at, i)
		a := p.Addr()
		switch {
		case !p.IsValid():
			c.fault(here, "is no address with a prefix length")
			continue
		case a.Is4In6():
			c.fault(here, "%s is an IPv4 address written as IPv6: use %s", p, a.Unmap())
			continue
		case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback():
			c.fault(here, "%s cannot be the address of a link", p)
			continue
		case a == p.Masked().Addr() && p.Bits() < a.BitLen()-1:
			c.fault(here, "%s is the subnet itself, not an address in it", p)
		case a.Is4() && p.Bits() < 31 && isBroadcast(p):
			c.fault(here, "%s is the broadcast address of its subnet", p)
		}
		// A link-local address is unique on its link only, and a routed pod's link is its own.
		if segment == "" && a.IsLinkLocalUnicast() {
			continue
		}
		k := segmentAddr{segment, a}
		if first, taken := c.addresses[k]; taken {
			c.fault(here, "%s is also that of %s", a, first)
			continue
		}
		c.addresses[k] = here
	}
}

func isBroadcast(p netip.Prefix) bool {
	next := p.Addr().Next()
	return !next.IsValid() || !p.Contains(next)
}

// hostPrefixes are the /32 and /128 of a routed pod's addresses, which the node reaches through the pair.
func hostPrefixes(addresses []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range addresses {
		if p.IsValid() {
			out = append(out, netip.PrefixFrom(p.Addr(), p.Addr().BitLen()))
		}
	}
	return out
}

func (c *check) vlans(at string, v VLANs) {
	if v.None && (v.Access != 0 || len(v.Trunks) > 0) {
		c.fault(at+".none", "excludes access and trunks")
	}
	if v.Access > maxVLAN {
		c.fault(at+".access", "%d is outside 1 to %d", v.Access, maxVLAN)
	}
	for i, r := range v.Trunks {
		here := fmt.Sprintf("%s.trunks[%d]", at, i)
		switch {
		case r.First < 1 || r.Last > maxVLAN || r.First > r.Last:
			c.fault(here, "%d-%d is no range within 1 to %d", r.First, r.Last, maxVLAN)
			continue
		case r.First <= v.Access && v.Access <= r.Last:
			c.fault(here, "%s includes the access VLAN %d", r, v.Access)
		}
		for _, o := range v.Trunks[:i] {
			if r.First <= o.Last && o.First <= r.Last {
				c.fault(here, "%s overlaps %s", r, o)
			}
		}
	}
}
