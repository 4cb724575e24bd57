package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Route is an entry of a routing table. The zero Table is the main table, the zero Type unicast.
type Route struct {
	Dst     netip.Prefix // 0.0.0.0/0 or ::/0 for the default route
	Gateway netip.Addr   // may be an IPv6 address for an IPv4 route (RTA_VIA)
	Index   int          // outgoing link
	Src     netip.Addr   // preferred source address
	Table   uint32
	Proto   uint8 // RTPROT_*; 0 means RTPROT_BOOT to the kernel's reader
	Scope   uint8 // RT_SCOPE_*
	Type    uint8 // RTN_*
	Metric  uint32
	MTU     uint32
	OnLink  bool // the gateway is reachable on the link whatever the addresses say
	Flags   uint32
	// Multipath is set on a read route with several next hops, which this package does not make.
	Multipath bool
}

// AddRoute adds a route; it fails with fs.ErrExist when one with the same key is there.
func (c *Conn) AddRoute(ctx context.Context, r Route) error {
	return c.do(ctx, routeRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, &r), nil)
}

// ReplaceRoute adds a route or replaces the one with the same destination, metric and table.
func (c *Conn) ReplaceRoute(ctx context.Context, r Route) error {
	return c.do(ctx, routeRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, &r), nil)
}

// DelRoute removes the route that matches all set fields; it fails with fs.ErrNotExist when there is none.
func (c *Conn) DelRoute(ctx context.Context, r Route) error {
	return c.do(ctx, routeRequest(unix.RTM_DELROUTE, 0, &r), nil)
}

func routeRequest(kind, flags int, r *Route) request {
	table := r.Table
	if table == 0 {
		table = unix.RT_TABLE_MAIN
	}
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1] = family(r.Dst.Addr()), uint8(r.Dst.Bits())
	b[4] = unix.RT_TABLE_COMPAT // the number is in RTA_TABLE
	if table <= 255 {
		b[4] = uint8(table)
	}
	b[5], b[6], b[7] = r.Proto, r.Scope, r.Type
	if r.Type == 0 && kind == unix.RTM_NEWROUTE {
		b[7] = unix.RTN_UNICAST
	}
	if kind == unix.RTM_DELROUTE && r.Scope == 0 {
		b[6] = unix.RT_SCOPE_NOWHERE // matches every scope
	}
	rtmFlags := r.Flags &^ (unix.RTNH_F_LINKDOWN | unix.RTNH_F_DEAD | unix.RTNH_F_OFFLOAD | unix.RTNH_F_TRAP)
	if r.OnLink {
		rtmFlags |= unix.RTNH_F_ONLINK
	}
	binary.NativeEndian.PutUint32(b[8:], rtmFlags)
	out := newRequest(kind, flags, b)
	if table > 255 {
		out.add(u32(unix.RTA_TABLE, table))
	}
	out.add(ip(unix.RTA_DST, r.Dst.Masked().Addr()))
	if r.Gateway.IsValid() {
		if r.Gateway.Is4() == r.Dst.Addr().Is4() {
			out.add(ip(unix.RTA_GATEWAY, r.Gateway))
		} else {
			via := binary.NativeEndian.AppendUint16(nil, uint16(family(r.Gateway)))
			a := nested(unix.RTA_VIA)
			a.Type, a.Data = unix.RTA_VIA, append(via, r.Gateway.AsSlice()...)
			out.add(a)
		}
	}
	if r.Src.IsValid() {
		out.add(ip(unix.RTA_PREFSRC, r.Src))
	}
	if r.Index != 0 {
		out.add(u32(unix.RTA_OIF, uint32(r.Index)))
	}
	if r.Metric != 0 {
		out.add(u32(unix.RTA_PRIORITY, r.Metric))
	}
	if r.MTU != 0 {
		m := nested(unix.RTA_METRICS)
		m.AddChild(u32(unix.RTAX_MTU, r.MTU))
		out.add(m)
	}
	return out
}

// RouteFilter selects the routes that Routes lists. Zero fields select all; the zero Table selects every table.
type RouteFilter struct {
	Family uint8 // AF_INET or AF_INET6; 0 both
	Index  int
	Table  uint32
	Proto  uint8
}

// Routes lists the routes that match f. Cloned cache entries are left out.
func (c *Conn) Routes(ctx context.Context, f RouteFilter) ([]Route, error) {
	families := []uint8{unix.AF_INET, unix.AF_INET6}
	if f.Family != 0 {
		families = []uint8{f.Family}
	}
	var out []Route
	for _, fam := range families {
		b := make([]byte, unix.SizeofRtMsg)
		b[0], b[5] = fam, f.Proto
		r := newRequest(unix.RTM_GETROUTE, 0, b)
		if f.Table != 0 {
			r.add(u32(unix.RTA_TABLE, f.Table))
		}
		if f.Index != 0 {
			r.add(u32(unix.RTA_OIF, uint32(f.Index)))
		}
		start := len(out)
		err := c.dump(ctx, r, func() { out = out[:start] }, func(kind uint16, b []byte) {
			rt, ok := parseRoute(b)
			if !ok || kind != unix.RTM_NEWROUTE || rt.Flags&unix.RTM_F_CLONED != 0 {
				return
			}
			// An old kernel ignores the filter, and one that has none of the table's routes may too.
			if f.Table != 0 && rt.Table != f.Table || f.Index != 0 && rt.Index != f.Index || f.Proto != 0 && rt.Proto != f.Proto {
				return
			}
			out = append(out, rt)
		})
		if err != nil && !noTable(err, f) {
			return nil, err
		}
	}
	return out, nil
}

// noTable reports the kernel's answer to a strict dump of a table that was never used: there are no such routes.
func noTable(err error, f RouteFilter) bool {
	var e *Error
	return errors.As(err, &e) && f.Table != 0 && e.Errno == unix.ENOENT
}

func parseRoute(b []byte) (Route, bool) {
	if len(b) < unix.SizeofRtMsg {
		return Route{}, false
	}
	r := Route{Table: uint32(b[4]), Proto: b[5], Scope: b[6], Type: b[7], Flags: binary.NativeEndian.Uint32(b[8:])}
	r.OnLink = r.Flags&unix.RTNH_F_ONLINK != 0
	var dst netip.Addr
	switch b[0] {
	case unix.AF_INET:
		dst = netip.IPv4Unspecified()
	case unix.AF_INET6:
		dst = netip.IPv6Unspecified()
	default:
		return r, false
	}
	for kind, v := range attrs(b[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_DST:
			dst = getAddr(v)
		case unix.RTA_GATEWAY:
			r.Gateway = getAddr(v)
		case unix.RTA_VIA:
			if len(v) > 2 {
				r.Gateway = getAddr(v[2:])
			}
		case unix.RTA_OIF:
			r.Index = int(getU32(v))
		case unix.RTA_PREFSRC:
			r.Src = getAddr(v)
		case unix.RTA_TABLE:
			r.Table = getU32(v)
		case unix.RTA_PRIORITY:
			r.Metric = getU32(v)
		case unix.RTA_METRICS:
			for m, w := range attrs(v) {
				if m == unix.RTAX_MTU {
					r.MTU = getU32(w)
				}
			}
		case unix.RTA_MULTIPATH:
			r.Multipath = true
		}
	}
	r.Dst = netip.PrefixFrom(dst, int(b[1]))
	return r, r.Dst.IsValid()
}
