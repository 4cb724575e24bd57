package nstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// wireTimeout bounds every netlink request of the harness.
const wireTimeout = 5 * time.Second

func deadline(d time.Duration) time.Time { return time.Now().Add(d) }

// request sends one message on a fresh socket of the calling thread's namespace
// and waits for its acknowledgement or answer.
func request(family int, kind uint16, flags netlink.HeaderFlags, data []byte) ([]netlink.Message, error) {
	conn, err := netlink.Dial(family, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(deadline(wireTimeout)); err != nil {
		return nil, err
	}
	return conn.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags},
		Data:   data,
	})
}

// encode returns a fixed header followed by attributes.
func encode(header []byte, fill func(*netlink.AttributeEncoder)) ([]byte, error) {
	ae := netlink.NewAttributeEncoder()
	if fill != nil {
		fill(ae)
	}
	attrs, err := ae.Encode()
	return append(header, attrs...), err
}

func bytesOf[T any](v *T) []byte {
	return append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))...)
}

// addLink makes a link. data fills IFLA_INFO_DATA, more the message itself; both may be
// nil.
func addLink(name, kind string, data, more func(*netlink.AttributeEncoder)) error {
	msg, err := encode(bytesOf(&unix.IfInfomsg{}), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.IFLA_IFNAME, name)
		if more != nil {
			more(ae)
		}
		ae.Nested(unix.IFLA_LINKINFO, func(info *netlink.AttributeEncoder) error {
			info.String(unix.IFLA_INFO_KIND, kind)
			if data != nil {
				info.Nested(unix.IFLA_INFO_DATA, func(d *netlink.AttributeEncoder) error { data(d); return nil })
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	_, err = request(unix.NETLINK_ROUTE, unix.RTM_NEWLINK, netlink.Acknowledge|netlink.Create|netlink.Excl, msg)
	if err != nil {
		return fmt.Errorf("add %s %s: %w", kind, name, err)
	}
	return nil
}

// addVeth makes a pair here; with peerNS >= 0 the peer is in that namespace.
func addVeth(name, peer string, peerNS int) error {
	return addLink(name, "veth", func(d *netlink.AttributeEncoder) {
		d.Do(vethInfoPeer, func() ([]byte, error) {
			return encode(bytesOf(&unix.IfInfomsg{}), func(ae *netlink.AttributeEncoder) {
				ae.String(unix.IFLA_IFNAME, peer)
				if peerNS >= 0 {
					ae.Uint32(unix.IFLA_NET_NS_FD, uint32(peerNS))
				}
			})
		})
	}, nil)
}

// vethInfoPeer is VETH_INFO_PEER of linux/veth.h.
const vethInfoPeer = 1

// linkIndex returns the index of the link called name.
func linkIndex(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, fmt.Errorf("link %s: %w", name, err)
	}
	return int(ifr.Uint32()), nil
}

// linkUp brings a link up, under a master if that is not empty. Duplicate address detection
// is off: without a link-local address a router cannot ask for its IPv6 neighbours.
func linkUp(name, master string) error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/accept_dad", []byte("0"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // no IPv6
		return err
	}
	index, err := linkIndex(name)
	if err != nil {
		return err
	}
	header := unix.IfInfomsg{Index: int32(index), Flags: unix.IFF_UP, Change: unix.IFF_UP}
	msg, err := encode(bytesOf(&header), func(ae *netlink.AttributeEncoder) {
		if master == "" {
			return
		}
		var m int
		if m, err = linkIndex(master); err == nil {
			ae.Uint32(unix.IFLA_MASTER, uint32(m))
		}
	})
	if err != nil {
		return err
	}
	if _, err := request(unix.NETLINK_ROUTE, unix.RTM_NEWLINK, netlink.Acknowledge, msg); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

// addAddress gives a link an address, for IPv6 without duplicate detection.
func addAddress(link string, p netip.Prefix) error {
	index, err := linkIndex(link)
	if err != nil {
		return err
	}
	header := unix.IfAddrmsg{Family: familyOf(p.Addr()), Prefixlen: uint8(p.Bits()), Index: uint32(index)}
	msg, err := encode(bytesOf(&header), func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.IFA_LOCAL, p.Addr().AsSlice())
		ae.Bytes(unix.IFA_ADDRESS, p.Addr().AsSlice())
		if p.Addr().Is6() {
			ae.Uint32(unix.IFA_FLAGS, unix.IFA_F_NODAD)
		}
	})
	if err != nil {
		return err
	}
	if _, err := request(unix.NETLINK_ROUTE, unix.RTM_NEWADDR, netlink.Acknowledge|netlink.Create|netlink.Excl, msg); err != nil {
		return fmt.Errorf("add address %s to %s: %w", p, link, err)
	}
	if p.Addr().Is6() {
		return awaitSolicited(link, p.Addr())
	}
	return nil
}

// addRoute routes a destination over a gateway; an invalid one means that packets are
// dropped in silence.
func addRoute(dst netip.Prefix, via netip.Addr) error {
	header := unix.RtMsg{
		Family: familyOf(dst.Addr()), Dst_len: uint8(dst.Bits()), Table: unix.RT_TABLE_MAIN,
		Protocol: unix.RTPROT_STATIC, Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_UNICAST,
	}
	if !via.IsValid() {
		header.Type = unix.RTN_BLACKHOLE
	}
	msg, err := encode(bytesOf(&header), func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.RTA_DST, dst.Masked().Addr().AsSlice())
		if via.IsValid() {
			ae.Bytes(unix.RTA_GATEWAY, via.AsSlice())
		}
	})
	if err != nil {
		return err
	}
	if _, err := request(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE, netlink.Acknowledge|netlink.Create|netlink.Excl, msg); err != nil {
		return fmt.Errorf("route %s via %s: %w", dst, via, err)
	}
	return nil
}

// linkInfo returns the attributes of IFLA_INFO_DATA of a link.
func linkInfo(name string) (map[uint16][]byte, error) {
	msg, err := encode(bytesOf(&unix.IfInfomsg{}), func(ae *netlink.AttributeEncoder) { ae.String(unix.IFLA_IFNAME, name) })
	if err != nil {
		return nil, err
	}
	answers, err := request(unix.NETLINK_ROUTE, unix.RTM_GETLINK, 0, msg)
	if err != nil {
		return nil, err
	}
	if len(answers) == 0 || len(answers[0].Data) < unix.SizeofIfInfomsg {
		return nil, fmt.Errorf("link %s: the kernel's answer is short", name)
	}
	found := map[uint16][]byte{}
	ad, err := netlink.NewAttributeDecoder(answers[0].Data[unix.SizeofIfInfomsg:])
	if err != nil {
		return nil, err
	}
	for ad.Next() {
		if ad.Type() != unix.IFLA_LINKINFO {
			continue
		}
		ad.Nested(func(info *netlink.AttributeDecoder) error {
			for info.Next() {
				if info.Type() != unix.IFLA_INFO_DATA {
					continue
				}
				info.Nested(func(d *netlink.AttributeDecoder) error {
					for d.Next() {
						found[d.Type()] = d.Bytes()
					}
					return nil
				})
			}
			return nil
		})
	}
	return found, ad.Err()
}

func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func networkOrder(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
