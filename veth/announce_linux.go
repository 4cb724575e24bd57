package veth

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/rtnl"
)

// announceAll tells neighbours of addresses, grouped by the namespaces that have them.
func (k *kernel) announceAll(ctx context.Context, all []announcement) error {
	if !k.config.Announce {
		return nil
	}
	return k.announce(ctx, all)
}

func (k *kernel) announceState(ctx context.Context, s State) error {
	var all []announcement
	add := func(path, link string, addresses []netip.Prefix) {
		for _, a := range addresses {
			all = append(all, announcement{netns: path, link: link, addr: a.Addr()})
		}
	}
	for i := range s.Bridges {
		add("", s.Bridges[i].Name, s.Bridges[i].Addresses)
	}
	for i := range s.Pairs {
		add("", s.Pairs[i].Host.Name, s.Pairs[i].Host.Addresses)
		add(s.Pairs[i].Pod.NetNS, s.Pairs[i].Pod.Name, s.Pairs[i].Pod.Addresses)
	}
	return k.announce(ctx, all)
}

func (k *kernel) announce(ctx context.Context, all []announcement) error {
	byPath := map[string][]announcement{}
	var order []string
	for _, a := range all {
		if byPath[a.netns] == nil {
			order = append(order, a.netns)
		}
		byPath[a.netns] = append(byPath[a.netns], a)
	}
	for _, path := range order {
		if err := k.announceFrom(ctx, path, byPath[path]); err != nil {
			return err
		}
	}
	return nil
}

func (k *kernel) announceFrom(ctx context.Context, path string, list []announcement) error {
	pl := &k.node
	if path != "" {
		var err error
		if pl, err = openPod(path); err != nil {
			return err
		}
		defer pl.close()
	}
	links := map[string]rtnl.Link{}
	for _, a := range list {
		if _, ok := links[a.link]; ok {
			continue
		}
		l, err := pl.conn.LinkByName(ctx, a.link)
		if err != nil {
			return err
		}
		links[a.link] = l
	}
	return pl.ns.Do(func() error {
		for _, a := range list {
			l := links[a.link]
			if !l.Up() {
				continue
			}
			send := gratuitousARP
			if a.addr.Is6() {
				send = unsolicitedNA
			}
			if err := send(&l, a.addr); err != nil {
				return opError("announce", a.link+" "+a.addr.String(), err)
			}
		}
		return nil
	})
}

const arpEthernet = 1 // ARPHRD_ETHER

// gratuitousARP sends an ARP announcement (RFC 5227, section 2.3): a request whose sender and target are the address itself.
func gratuitousARP(l *rtnl.Link, a netip.Addr) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p := make([]byte, 0, 28)
	p = binary.BigEndian.AppendUint16(p, arpEthernet)
	p = binary.BigEndian.AppendUint16(p, unix.ETH_P_IP)
	p = append(p, 6, 4, 0, 1) // address lengths, operation: request
	p = append(append(p, l.MAC[:]...), a.AsSlice()...)
	p = append(append(p, make([]byte, 6)...), a.AsSlice()...)
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ARP), Ifindex: l.Index, Hatype: arpEthernet, Halen: 6}
	for i := range 6 {
		to.Addr[i] = 0xff
	}
	return errors.Join(unix.Sendto(fd, p, 0, to), unix.Close(fd))
}

// unsolicitedNA sends a neighbour advertisement with the override flag to all nodes (RFC 4861, section 7.2.6). The kernel fills in the
// checksum of an ICMPv6 socket.
func unsolicitedNA(l *rtnl.Link, a netip.Addr) error {
	const (
		neighbourAdvertisement = 136
		override               = 0x20
		targetLinkLayerAddress = 2
	)
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	p := []byte{neighbourAdvertisement, 0, 0, 0, override, 0, 0, 0}
	p = append(p, a.AsSlice()...)
	p = append(append(p, targetLinkLayerAddress, 1), l.MAC[:]...)
	err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 255)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, l.Index)
	}
	if err == nil {
		from := &unix.SockaddrInet6{Addr: a.As16()}
		if a.IsLinkLocalUnicast() {
			from.ZoneId = uint32(l.Index)
		}
		err = unix.Bind(fd, from)
	}
	if err == nil {
		allNodes := netip.IPv6LinkLocalAllNodes().As16()
		err = unix.Sendto(fd, p, 0, &unix.SockaddrInet6{Addr: allNodes, ZoneId: uint32(l.Index)})
	}
	return errors.Join(err, unix.Close(fd))
}

// htons is v in network byte order.
func htons(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }
