package rtnl

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/netns"
)

const ifaProto = 11 // IFA_PROTO, include/uapi/linux/if_addr.h, since 5.18

// Addr is an address of a link.
type Addr struct {
	Index  int
	Prefix netip.Prefix // the address itself with its prefix length, not masked
	Peer   netip.Addr   // other end of a point-to-point address, usually invalid
	Scope  uint8        // RT_SCOPE_*
	Flags  uint32       // IFA_F_*
	Label  string
	Proto  uint8 // IFAPROT_*: 1 loopback, 2 router announcement, 3 link-local; others are free for use
}

// AddAddr adds an address; it fails with fs.ErrExist when the link has it.
func (c *Conn) AddAddr(ctx context.Context, a Addr) error {
	return c.do(ctx, addrRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, &a), nil)
}

// ReplaceAddr adds an address or changes the flags of one that is there.
func (c *Conn) ReplaceAddr(ctx context.Context, a Addr) error {
	return c.do(ctx, addrRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, &a), nil)
}

// DelAddr removes an address; it fails with fs.ErrNotExist when the link has it not.
func (c *Conn) DelAddr(ctx context.Context, a Addr) error {
	return c.do(ctx, addrRequest(unix.RTM_DELADDR, 0, &a), nil)
}

func addrRequest(kind, flags int, a *Addr) request {
	own := a.Prefix.Addr()
	r := newRequest(kind, flags, ifaddrmsg(family(own), uint8(a.Prefix.Bits()), uint8(a.Flags), a.Scope, a.Index))
	r.add(ip(unix.IFA_LOCAL, own))
	switch {
	case a.Peer.IsValid():
		r.add(ip(unix.IFA_ADDRESS, a.Peer))
	default:
		r.add(ip(unix.IFA_ADDRESS, own))
	}
	if a.Flags != 0 {
		r.add(u32(unix.IFA_FLAGS, a.Flags))
	}
	if a.Label != "" {
		r.add(text(unix.IFA_LABEL, a.Label))
	}
	if a.Proto != 0 {
		r.add(u8(ifaProto, a.Proto))
	}
	if b := broadcast(a.Prefix); b.IsValid() && !a.Peer.IsValid() && kind == unix.RTM_NEWADDR {
		r.add(ip(unix.IFA_BROADCAST, b))
	}
	return r
}

// broadcast is the highest address of an IPv4 subnet that has one; iproute2's "brd +".
func broadcast(p netip.Prefix) netip.Addr {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return netip.Addr{}
	}
	b := p.Masked().Addr().As4()
	v := binary.BigEndian.Uint32(b[:]) | 1<<(32-p.Bits()) - 1
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

func ifaddrmsg(family, bits, flags, scope uint8, index int) []byte {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1], b[2], b[3] = family, bits, flags, scope
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	return b
}

// Addrs lists the addresses of the link with that index, or of every link when index is 0.
func (c *Conn) Addrs(ctx context.Context, index int) ([]Addr, error) {
	r := newRequest(unix.RTM_GETADDR, 0, ifaddrmsg(unix.AF_UNSPEC, 0, 0, 0, index))
	var out []Addr
	err := c.dump(ctx, r, func() { out = out[:0] }, func(kind uint16, b []byte) {
		if a, ok := parseAddr(b); ok && kind == unix.RTM_NEWADDR && (index == 0 || a.Index == index) {
			out = append(out, a)
		}
	})
	return out, err
}

func parseAddr(b []byte) (Addr, bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return Addr{}, false
	}
	a := Addr{Flags: uint32(b[2]), Scope: b[3], Index: int(binary.NativeEndian.Uint32(b[4:]))}
	var local, address netip.Addr
	for kind, v := range attrs(b[unix.SizeofIfAddrmsg:]) {
		switch kind {
		case unix.IFA_LOCAL:
			local = getAddr(v)
		case unix.IFA_ADDRESS:
			address = getAddr(v)
		case unix.IFA_FLAGS:
			a.Flags = getU32(v)
		case unix.IFA_LABEL:
			a.Label = cstring(v)
		case ifaProto:
			a.Proto = getU8(v)
		}
	}
	switch {
	case !local.IsValid(): // IPv6 tells only IFA_ADDRESS unless the address has a peer
		local = address
	case address.IsValid() && address != local:
		a.Peer = address
	}
	a.Prefix = netip.PrefixFrom(local, int(b[1]))
	return a, a.Prefix.IsValid()
}

// OwnAddrs lists the addresses of all links of a namespace.
func OwnAddrs(ctx context.Context, ns *netns.NS) (map[netip.Addr]bool, error) {
	conn, err := Open(ns)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	list, err := conn.Addrs(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("listing the host's addresses: %w", err)
	}
	own := make(map[netip.Addr]bool, len(list))
	for _, a := range list {
		own[a.Prefix.Addr()] = true
	}
	return own, nil
}
