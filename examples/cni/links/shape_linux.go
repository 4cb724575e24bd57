package links

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// latency bounds how long a packet waits in a queue, in seconds; what would wait longer is dropped.
const latency = 0.025

// shapedClass is the class of what is limited when not everything is: 1:30.
const shapedClass = 0x30

// Apply limits the traffic of link, which is the node's end of a pair. It makes the ifb device and marks it with alias.
func (s Shape) Apply(ctx context.Context, link, alias string) error {
	if s.IsZero() {
		return nil
	}
	h, err := open(ctx)
	if err != nil {
		return fmt.Errorf("shape %s: %w", link, err)
	}
	defer h.Close()
	if err := s.apply(h, link, alias); err != nil {
		return fmt.Errorf("shape %s: %w", link, lacking(err))
	}
	return nil
}

// lacking names what a kernel has to have.
func lacking(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("this kernel lacks ifb, sch_tbf, sch_htb, sch_ingress, cls_u32 or act_mirred: %w (%w)", errors.ErrUnsupported, err)
	}
	return err
}

func (s Shape) apply(h *netlink.Handle, link, alias string) error {
	host, err := h.LinkByName(link)
	if err != nil {
		return err
	}
	if s.In.Bits != 0 {
		if err := s.queue(h, host, s.In, true); err != nil {
			return fmt.Errorf("towards the container: %w", err)
		}
	}
	if s.Out.Bits == 0 {
		return nil
	}
	ifb := &netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: s.Device, MTU: host.Attrs().MTU, TxQLen: 1000}}
	if err := h.LinkAdd(ifb); err != nil {
		return fmt.Errorf("make ifb device %s: %w", s.Device, err)
	}
	if err := h.LinkSetAlias(ifb, alias); err != nil {
		return err
	}
	if err := h.LinkSetUp(ifb); err != nil {
		return err
	}
	if err := s.queue(h, ifb, s.Out, false); err != nil {
		return fmt.Errorf("from the container: %w", err)
	}
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: host.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}
	if err := h.QdiscAdd(ingress); err != nil {
		return fmt.Errorf("queue from the container: %w", err)
	}
	return h.FilterAdd(redirect(host, ifb))
}

// redirect leads all that comes from the container to the ifb device.
func redirect(host, ifb netlink.Link) netlink.Filter {
	return &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: host.Attrs().Index, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_ALL},
		Actions: []netlink.Action{&netlink.MirredAction{
			ActionAttrs:  netlink.ActionAttrs{Action: netlink.TC_ACT_STOLEN},
			MirredAction: netlink.TCA_EGRESS_REDIR, Ifindex: ifb.Attrs().Index,
		}},
	}
}

// queue is a token bucket for everything, or classes with one for what is to be limited.
func (s Shape) queue(h *netlink.Handle, l netlink.Link, r Rate, in bool) error {
	root := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
	if len(s.Only)+len(s.Except) == 0 {
		return h.QdiscReplace(&netlink.Tbf{QdiscAttrs: root, Rate: r.bytes(), Limit: r.limit(), Buffer: r.buffer()})
	}
	// Packets that no filter puts elsewhere go to the default class; class 0 is no class and no limit.
	htb := netlink.NewHtb(root)
	if len(s.Only) == 0 {
		htb.Defcls = shapedClass
	}
	if err := h.QdiscReplace(htb); err != nil {
		return err
	}
	burst := uint32(min(r.Burst/8, math.MaxUint32))
	class := netlink.NewHtbClass(
		netlink.ClassAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.MakeHandle(1, 0), Handle: netlink.MakeHandle(1, shapedClass)},
		netlink.HtbClassAttrs{Rate: r.Bits, Ceil: r.Bits, Buffer: burst, Cbuffer: burst},
	)
	if err := h.ClassAdd(class); err != nil {
		return err
	}
	for _, group := range []struct {
		peers []netip.Prefix
		class uint32
		prio  uint16
	}{{s.Except, netlink.MakeHandle(1, 0), 1}, {s.Only, netlink.MakeHandle(1, shapedClass), 3}} {
		for _, p := range group.peers {
			if err := h.FilterAdd(peerFilter(l, p, in, group.class, group.prio)); err != nil {
				return fmt.Errorf("filter %s: %w", p, err)
			}
		}
	}
	return nil
}

// peerFilter puts packets of a peer into a class. Towards the container the peer is their source, otherwise their destination. Each
// protocol needs a priority of its own.
func peerFilter(l netlink.Link, peer netip.Prefix, in bool, class uint32, prio uint16) netlink.Filter {
	proto, at := uint16(unix.ETH_P_IP), int32(16) // RFC 791: source at byte 12, destination at 16
	if in {
		at = 12
	}
	if peer.Addr().Is6() {
		proto, at, prio = unix.ETH_P_IPV6, 24, prio+1 // RFC 8200: source at byte 8, destination at 24
		if in {
			at = 8
		}
	}
	f := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: l.Attrs().Index, Parent: netlink.MakeHandle(1, 0), Priority: prio, Protocol: proto},
		ClassId:     class, Sel: &netlink.TcU32Sel{Flags: nl.TC_U32_TERMINAL},
	}
	b := peer.Masked().Addr().AsSlice()
	for i := 0; i < len(b) && (i == 0 || i*8 < peer.Bits()); i += 4 {
		bits := min(max(peer.Bits()-i*8, 0), 32)
		f.Sel.Keys = append(f.Sel.Keys, netlink.TcU32Key{Val: binary.BigEndian.Uint32(b[i:]), Mask: uint32(uint64(math.MaxUint32) << (32 - bits)), Off: at + int32(i)})
	}
	f.Sel.Nkeys = uint8(len(f.Sel.Keys))
	return f
}

func (r Rate) bytes() uint64 { return r.Bits / 8 }

// buffer is the burst in the kernel's ticks, the time that it takes at the rate.
func (r Rate) buffer() uint32 {
	return netlink.Xmittime(r.bytes(), uint32(min(r.Burst/8, math.MaxUint32)))
}

// limit is the length of the queue in bytes.
func (r Rate) limit() uint32 {
	return uint32(min(float64(r.bytes())*latency+float64(r.Burst/8), math.MaxUint32))
}

// Check names what of the limits is missing or different.
func (s Shape) Check(ctx context.Context, link string) (out []error, err error) {
	if s.IsZero() {
		return nil, nil
	}
	h, err := open(ctx)
	if err != nil {
		return nil, fmt.Errorf("check the shaping of %s: %w", link, err)
	}
	defer h.Close()
	host, err := h.LinkByName(link)
	if err != nil {
		return []error{fmt.Errorf("link %s: %w", link, fs.ErrNotExist)}, nil
	}
	if s.In.Bits != 0 {
		out = append(out, s.checkQueue(h, host, s.In)...)
	}
	if s.Out.Bits == 0 {
		return out, nil
	}
	ifb, err := h.LinkByName(s.Device)
	if err != nil {
		return append(out, fmt.Errorf("ifb device %s is gone", s.Device)), nil
	}
	if ifb.Attrs().Flags&1 == 0 { // net.FlagUp
		out = append(out, fmt.Errorf("ifb device %s is down", s.Device))
	}
	out = append(out, s.checkQueue(h, ifb, s.Out)...)
	filters, err := h.FilterList(host, netlink.MakeHandle(0xffff, 0))
	if err != nil || !redirects(filters, ifb.Attrs().Index) {
		out = append(out, fmt.Errorf("traffic from the container is not led from %s to %s", link, s.Device))
	}
	return out, nil
}

func redirects(filters []netlink.Filter, to int) bool {
	for _, f := range filters {
		u, ok := f.(*netlink.U32)
		if !ok {
			continue
		}
		for _, a := range u.Actions {
			if m, ok := a.(*netlink.MirredAction); ok && m.Ifindex == to && m.MirredAction == netlink.TCA_EGRESS_REDIR {
				return true
			}
		}
	}
	return false
}

func (s Shape) checkQueue(h *netlink.Handle, l netlink.Link, r Rate) []error {
	name := l.Attrs().Name
	qdiscs, err := h.QdiscList(l)
	if err != nil {
		return []error{fmt.Errorf("list the queues of %s: %w", name, err)}
	}
	for _, q := range qdiscs {
		if q.Attrs().Parent != netlink.HANDLE_ROOT {
			continue
		}
		switch q := q.(type) {
		case *netlink.Tbf:
			if len(s.Only)+len(s.Except) == 0 && q.Rate == r.bytes() && q.Limit == r.limit() {
				return nil
			}
		case *netlink.Htb:
			if len(s.Only)+len(s.Except) == 0 {
				continue
			}
			filters, err := h.FilterList(l, netlink.MakeHandle(1, 0))
			if err != nil || len(filters) < len(s.Only)+len(s.Except) {
				return []error{fmt.Errorf("filters of %s are missing: %d instead of %d", name, len(filters), len(s.Only)+len(s.Except))}
			}
			classes, err := h.ClassList(l, netlink.MakeHandle(1, 0))
			for _, c := range classes {
				if x, ok := c.(*netlink.HtbClass); ok && err == nil && x.Rate == r.bytes() {
					return nil
				}
			}
		}
	}
	return []error{fmt.Errorf("the queue of %s that limits to %d bit/s is missing or different", name, r.Bits)}
}

// Clear removes the queues from a link that stays.
func (s Shape) Clear(ctx context.Context, link string) error {
	if s.IsZero() {
		return nil
	}
	h, err := open(ctx)
	if err != nil {
		return fmt.Errorf("remove the shaping of %s: %w", link, err)
	}
	defer h.Close()
	host, err := h.LinkByName(link)
	if gone(err) == nil && err != nil {
		return nil
	}
	if err != nil {
		return err
	}
	qdiscs, err := h.QdiscList(host)
	if err != nil {
		return fmt.Errorf("list the queues of %s: %w", link, err)
	}
	for _, q := range qdiscs {
		switch q.(type) {
		case *netlink.Tbf, *netlink.Htb, *netlink.Ingress:
			if err := h.QdiscDel(q); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("remove the queues of %s: %w", link, err)
			}
		}
	}
	return nil
}
