package nat

import (
	"fmt"
	"net/netip"
	"slices"
)

// captured says what the capture does with a packet, or what it leaves it
// alone for.
func (s State) captured(p Packet) (e Explanation, why string, ok bool) {
	c := s.Capture
	switch {
	case p.FromHost == p.ToHost, p.FromHost && c.Outbound == 0 && c.DNS == 0, p.ToHost && c.Inbound == 0:
		return e, "", false
	}
	dns := p.Dst.Port() == portDNS && c.DNS != 0
	port, by := c.Inbound, "capture inbound"
	switch {
	case p.FromHost && dns && (p.Proto == TCP || p.Proto == UDP):
		port, by = c.DNS, "capture dns"
	case p.Proto != TCP, p.FromHost && c.Outbound == 0:
		return e, "", false
	case p.FromHost:
		port, by = c.Outbound, "capture outbound"
	case s.proxyPort(p) != "":
		return e, "", false
	case !c.AllPorts && !c.lists(p.Dst):
		return e, fmt.Sprintf("capture inbound, which does not have port %d", p.Dst.Port()), false
	}
	if x := c.Except.names(p); x != "" {
		return e, by + ", which excepts " + x, false
	}
	if p.FromHost && linkLocal6.Contains(p.Dst.Addr().WithZone("")) {
		return Explanation{Outcome: Rejected, By: by + ", which a link-local address cannot be led to"}, "", true
	}
	hop := Hop{To: hostPort(p, port), Share: 1}
	return Explanation{Outcome: Captured, By: by, Hops: []Hop{hop}}, "", true
}

// lists says whether the port is one of those that are captured.
func (c *Capture) lists(a netip.AddrPort) bool {
	only := c.Ports6
	if a.Addr().Is4() {
		only = c.Ports4
	}
	return slices.Contains(c.Ports, a.Port()) || slices.Contains(only, a.Port())
}

// closes says that the capture refuses a packet to a port that is not among
// its own.
func (s State) closes(p Packet) (Explanation, bool) {
	c := s.Capture
	if !c.Closed || c.Inbound == 0 || c.AllPorts || p.FromHost || !p.ToHost || p.Proto != TCP || s.proxyPort(p) != "" ||
		c.lists(p.Dst) || c.Except.names(p) != "" {
		return Explanation{}, false
	}
	return Explanation{Outcome: Rejected, By: fmt.Sprintf("capture inbound, which closes port %d", p.Dst.Port())}, true
}

// hostPort is a port of the host as a packet reaches it that is redirected.
func hostPort(p Packet, port uint16) netip.AddrPort {
	addr := unspecified(p.Dst.Addr())
	if p.FromHost {
		addr = loopback(p.Dst.Addr())
	}
	return netip.AddrPortFrom(addr, port)
}

func loopback(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// names says what of x leaves a packet alone that would be captured.
func (x Except) names(p Packet) string {
	ports := x.Inbound
	if p.FromHost {
		ports = x.Outbound
		switch {
		case slices.Contains(x.Users, p.User):
			return fmt.Sprintf("user %d", p.User)
		case slices.Contains(x.Groups, p.Group):
			return fmt.Sprintf("group %d", p.Group)
		}
	}
	for _, r := range ports {
		if r.contains(p.Dst.Port()) {
			return "port " + r.String()
		}
	}
	for _, m := range x.Marks {
		if m.Mask == 0 {
			m.Mask = ^uint32(0)
		}
		if p.Mark&m.Mask == m.Value {
			return "mark " + m.String()
		}
	}
	for _, n := range x.From {
		if n.Contains(p.Src.Addr()) {
			return "from " + n.Masked().String()
		}
	}
	for _, n := range x.To {
		if n.Contains(p.Dst.Addr()) {
			return "to " + n.Masked().String()
		}
	}
	return ""
}

// proxyPort names the part of the capture whose port a packet to the host
// goes to.
func (s State) proxyPort(p Packet) string {
	c := s.Capture
	if !p.ToHost || p.Dst.Port() == 0 {
		return ""
	}
	switch p.Dst.Port() {
	case c.DNS:
		if p.Proto == TCP || p.Proto == UDP {
			return "capture dns"
		}
	case c.Outbound:
		if p.Proto == TCP {
			return "capture outbound"
		}
	case c.Inbound:
		if p.Proto == TCP {
			return "capture inbound"
		}
	}
	return ""
}

// redirected says where a packet to the host is redirected.
func (s State) redirected(p Packet) (Explanation, bool) {
	for _, r := range s.Redirects {
		if !p.ToHost || r.Port != p.Dst.Port() || r.Proto != p.Proto || p.FromHost && !r.Own {
			continue
		}
		by := "redirect " + r.key().String()
		if r.Name != "" {
			by += " (" + r.Name + ")"
		}
		return Explanation{Outcome: Redirected, By: by, Hops: []Hop{{To: hostPort(p, r.To), Share: 1}}}, true
	}
	return Explanation{}, false
}
