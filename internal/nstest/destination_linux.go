package nstest

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// wantDestination makes the socket report where each datagram was sent to.
func wantDestination(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var opErr error
	err = raw.Control(func(fd uintptr) {
		opErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		if family, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && family == unix.AF_INET6 {
			opErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	})
	if err != nil {
		return err
	}
	return opErr
}

// destination returns the address a datagram was sent to, and the control message that
// makes the answer come from it.
func destination(oob []byte) (netip.Addr, []byte) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return netip.Addr{}, nil
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= 20:
			addr := netip.AddrFrom16([16]byte(m.Data[:16]))
			info := unix.Inet6Pktinfo{Addr: addr.As16()}
			if addr.Is4In6() {
				return addr.Unmap(), unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: addr.Unmap().As4()})
			}
			if addr.IsLinkLocalUnicast() {
				info.Ifindex = binary.NativeEndian.Uint32(m.Data[16:20])
			}
			return addr, unix.PktInfo6(&info)
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= 12:
			addr := netip.AddrFrom4([4]byte(m.Data[8:12]))
			return addr, unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: addr.As4()})
		}
	}
	return netip.Addr{}, nil
}
