package links

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/veth"
)

// Apply gives the bridge what the network wants of it.
func (b Borrowed) Apply(ctx context.Context) error {
	if b.Bridge == "" {
		return nil
	}
	h, err := open(ctx)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := b.find(h)
	if err != nil {
		return err
	}
	if b.Filtering && !filters(l) {
		if err := h.BridgeSetVlanFiltering(l, true); err != nil {
			return fmt.Errorf("VLAN filtering of bridge %s: %w", b.Bridge, err)
		}
	}
	if b.Promisc && l.Attrs().RawFlags&unix.IFF_PROMISC == 0 {
		if err := h.SetPromiscOn(l); err != nil {
			return fmt.Errorf("promisc of bridge %s: %w", b.Bridge, err)
		}
	}
	if err := b.address(h, l); err != nil {
		return err
	}
	if l.Attrs().RawFlags&unix.IFF_UP == 0 {
		if err := h.LinkSetUp(l); err != nil {
			return fmt.Errorf("bridge %s up: %w", b.Bridge, err)
		}
	}
	return nil
}

func (b Borrowed) find(h *netlink.Handle) (*netlink.Bridge, error) {
	l, err := h.LinkByName(b.Bridge)
	if err != nil {
		return nil, fmt.Errorf("find bridge %s: %w", b.Bridge, err)
	}
	bridge, ok := l.(*netlink.Bridge)
	if !ok {
		return nil, fmt.Errorf("%s is a %s by now, and was a bridge", b.Bridge, l.Type())
	}
	return bridge, nil
}

func filters(l *netlink.Bridge) bool { return l.VlanFiltering != nil && *l.VlanFiltering }

// address adds the gateways. Of IPv4 a bridge has one address, of IPv6 one of each subnet.
func (b Borrowed) address(h *netlink.Handle, l netlink.Link) error {
	have, err := addresses(h, l)
	if err != nil {
		return err
	}
	for _, want := range b.Gateways {
		if slices.Contains(have, want) {
			continue
		}
		inTheWay := slices.DeleteFunc(slices.Clone(have), func(p netip.Prefix) bool {
			return p.Addr().Is4() != want.Addr().Is4() || want.Addr().Is6() && !p.Overlaps(want) || slices.Contains(b.Gateways, p)
		})
		if len(inTheWay) > 0 && !b.Force {
			return &veth.AddressError{Bridge: b.Bridge, Have: inTheWay, Want: b.Gateways}
		}
		for _, p := range inTheWay {
			if err := h.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return fmt.Errorf("remove address %s of bridge %s: %w", p, b.Bridge, err)
			}
		}
		a := &netlink.Addr{IPNet: ipNet(want)}
		if want.Addr().Is6() && !b.DAD {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrAdd(l, a); err != nil && !errors.Is(err, unix.EEXIST) { // another container's process was faster
			return fmt.Errorf("add address %s to bridge %s: %w", want, b.Bridge, err)
		}
		// Set once, it is the bridge's own; otherwise that of a gateway would change with the ports.
		if err := h.LinkSetHardwareAddr(l, l.Attrs().HardwareAddr); err != nil {
			return fmt.Errorf("keep the MAC address of bridge %s: %w", b.Bridge, err)
		}
	}
	return nil
}

// addresses are those that somebody gave the link.
func addresses(h *netlink.Handle, l netlink.Link) (out []netip.Prefix, err error) {
	list, err := h.AddrList(l, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
	}
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		if ip = ip.Unmap(); ok && !(ip.Is6() && ip.IsLinkLocalUnicast()) {
			out = append(out, netip.PrefixFrom(ip, ones))
		}
	}
	return out, nil
}

// Check names what the bridge does not have any more.
func (b Borrowed) Check(ctx context.Context) (out []error, err error) {
	if b.Bridge == "" {
		return nil, nil
	}
	h, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	l, err := b.find(h)
	if err != nil {
		return []error{err}, nil
	}
	have, err := addresses(h, l)
	if err != nil {
		return nil, err
	}
	for _, want := range b.Gateways {
		if !slices.Contains(have, want) {
			out = append(out, fmt.Errorf("bridge %s lacks the gateway's address %s", b.Bridge, want))
		}
	}
	for _, x := range []struct {
		lost bool
		what string
	}{
		{l.Attrs().RawFlags&unix.IFF_UP == 0, "is down"},
		{b.Promisc && l.Attrs().RawFlags&unix.IFF_PROMISC == 0, "is not promiscuous"},
		{b.Filtering && !filters(l), "does not filter VLANs"},
	} {
		if x.lost {
			out = append(out, fmt.Errorf("bridge %s %s", b.Bridge, x.what))
		}
	}
	return out, nil
}
