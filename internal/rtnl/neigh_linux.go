package rtnl

import (
	"context"
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Neigh is a neighbour entry (family AF_INET or AF_INET6) or a forwarding-database entry (AF_BRIDGE).
type Neigh struct {
	Family uint8
	Index  int
	IP     netip.Addr // the neighbour, or the remote VTEP of a VXLAN FDB entry
	MAC    MAC
	State  uint16 // NUD_*
	Flags  uint8  // NTF_*
	Port   uint16 // FDB: UDP port of the remote VTEP, 0 the device's own
	VNI    uint32 // FDB: VNI at the remote VTEP, 0 the device's own
	Via    uint32 // FDB: index of the underlay link, 0 by route
	VLAN   uint16
	Master int   // FDB: index of the bridge
	Proto  uint8 // neighbour: RTPROT_* of who made it, 0 when nobody said; an FDB has none
}

const ndaProtocol = 12 // NDA_PROTOCOL, include/uapi/linux/neighbour.h

// AddNeigh adds an entry; it fails with fs.ErrExist when the key is taken.
func (c *Conn) AddNeigh(ctx context.Context, n Neigh) error {
	return c.do(ctx, neighRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_EXCL, &n), nil)
}

// ReplaceNeigh adds an entry or replaces the one with the same key.
func (c *Conn) ReplaceNeigh(ctx context.Context, n Neigh) error {
	return c.do(ctx, neighRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, &n), nil)
}

// AppendNeigh adds one more destination to an FDB entry, as a flood list has many for the all-zero address.
func (c *Conn) AppendNeigh(ctx context.Context, n Neigh) error {
	return c.do(ctx, neighRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_APPEND, &n), nil)
}

// DelNeigh removes an entry; it fails with fs.ErrNotExist when there is none.
func (c *Conn) DelNeigh(ctx context.Context, n Neigh) error {
	return c.do(ctx, neighRequest(unix.RTM_DELNEIGH, 0, &n), nil)
}

func neighRequest(kind, flags int, n *Neigh) request {
	fam := n.Family
	if fam == 0 {
		fam = family(n.IP)
	}
	r := newRequest(kind, flags, ndmsg(fam, n.Index, n.State, n.Flags))
	if n.IP.IsValid() {
		r.add(ip(unix.NDA_DST, n.IP))
	}
	// The all-zero address is a real key in an FDB: the flood list.
	if !n.MAC.IsZero() || fam == unix.AF_BRIDGE {
		r.add(nl.NewRtAttr(unix.NDA_LLADDR, n.MAC[:]))
	}
	if n.Port != 0 {
		r.add(be16(unix.NDA_PORT, n.Port))
	}
	if n.VNI != 0 {
		r.add(u32(unix.NDA_VNI, n.VNI))
	}
	if n.Via != 0 {
		r.add(u32(unix.NDA_IFINDEX, n.Via))
	}
	if n.VLAN != 0 {
		r.add(u16(unix.NDA_VLAN, n.VLAN))
	}
	if n.Proto != 0 {
		r.add(u8(ndaProtocol, n.Proto))
	}
	return r
}

func ndmsg(family uint8, index int, state uint16, flags uint8) []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = family
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint16(b[8:], state)
	b[10] = flags
	return b
}

// Neighs lists the neighbours of both families on the link with that index, or on every link when index is 0. Proxy entries
// (NTF_PROXY) are a table of their own: see Proxies.
func (c *Conn) Neighs(ctx context.Context, index int) ([]Neigh, error) {
	r := newRequest(unix.RTM_GETNEIGH, 0, ndmsg(unix.AF_UNSPEC, 0, 0, 0))
	if index != 0 {
		r.add(u32(unix.NDA_IFINDEX, uint32(index)))
	}
	return c.neighs(ctx, r, index)
}

// Proxies lists the addresses that this namespace answers ARP or NDP for by a proxy entry.
func (c *Conn) Proxies(ctx context.Context, index int) ([]Neigh, error) {
	return c.neighs(ctx, newRequest(unix.RTM_GETNEIGH, 0, ndmsg(unix.AF_UNSPEC, 0, 0, unix.NTF_PROXY)), index)
}

// FDB lists the forwarding database of the VXLAN device or bridge port with that index, or all when index is 0.
func (c *Conn) FDB(ctx context.Context, index int) ([]Neigh, error) {
	return c.neighs(ctx, newRequest(unix.RTM_GETNEIGH, 0, ndmsg(unix.AF_BRIDGE, index, 0, 0)), index)
}

func (c *Conn) neighs(ctx context.Context, r request, index int) ([]Neigh, error) {
	var out []Neigh
	err := c.dump(ctx, r, func() { out = out[:0] }, func(kind uint16, b []byte) {
		if n, ok := parseNeigh(b); ok && kind == unix.RTM_NEWNEIGH && (index == 0 || n.Index == index) {
			out = append(out, n)
		}
	})
	return out, err
}

func parseNeigh(b []byte) (Neigh, bool) {
	if len(b) < unix.SizeofNdMsg {
		return Neigh{}, false
	}
	n := Neigh{Family: b[0], Index: int(binary.NativeEndian.Uint32(b[4:])), State: binary.NativeEndian.Uint16(b[8:]), Flags: b[10]}
	for kind, v := range attrs(b[unix.SizeofNdMsg:]) {
		switch kind {
		case unix.NDA_DST:
			n.IP = getAddr(v)
		case unix.NDA_LLADDR:
			n.MAC = getMAC(v)
		case unix.NDA_PORT:
			n.Port = getBE16(v)
		case unix.NDA_VNI:
			n.VNI = getU32(v)
		case unix.NDA_IFINDEX:
			n.Via = getU32(v)
		case unix.NDA_VLAN:
			n.VLAN = getU16(v)
		case unix.NDA_MASTER:
			n.Master = int(getU32(v))
		case ndaProtocol:
			n.Proto = getU8(v)
		}
	}
	return n, true
}
