package nat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// originalDstOption is the number of the option for both families;
// x/sys/unix has it for IPv4 only.
const originalDstOption = unix.SO_ORIGINAL_DST

func originalDst(conn net.Conn) (netip.AddrPort, error) {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = inner.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	local, isTCP := localAddr(conn)
	if !ok || !isTCP {
		return netip.AddrPort{}, fmt.Errorf("%T is no TCP connection: %w", conn, errors.ErrUnsupported)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var to netip.AddrPort
	var asked error
	err = raw.Control(func(fd uintptr) { to, asked = askOriginalDst(int(fd), local.Addr().Is4()) })
	if err == nil {
		err = asked
	}
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOPROTOOPT):
		// Without conntrack in the namespace there is no such option.
		return netip.AddrPort{}, fmt.Errorf("%w, as far as conntrack knows", ErrNotCaptured)
	case err != nil:
		return netip.AddrPort{}, err
	case to.Port() == local.Port() && to.Addr().WithZone("") == local.Addr().WithZone(""):
		return netip.AddrPort{}, ErrNotCaptured
	}
	return to, nil
}

// localAddr is the address of a TCP connection at this end. An IPv4 address
// on a socket of IPv6 is one of IPv4.
func localAddr(conn net.Conn) (netip.AddrPort, bool) {
	if conn == nil {
		return netip.AddrPort{}, false
	}
	a, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok || a == nil {
		return netip.AddrPort{}, false
	}
	at := a.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), at.IsValid()
}

func askOriginalDst(fd int, v4 bool) (netip.AddrPort, error) {
	if v4 {
		// Any option type that is long enough takes a sockaddr_in.
		b, err := unix.GetsockoptIPv6Mreq(fd, unix.SOL_IP, originalDstOption)
		if err != nil {
			return netip.AddrPort{}, err
		}
		sa := b.Multiaddr
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(sa[4:8])), binary.BigEndian.Uint16(sa[2:4])), nil
	}
	b, err := unix.GetsockoptIPv6MTUInfo(fd, unix.SOL_IPV6, originalDstOption)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr := netip.AddrFrom16(b.Addr.Addr)
	if b.Addr.Scope_id != 0 {
		addr = addr.WithZone(strconv.FormatUint(uint64(b.Addr.Scope_id), 10))
	}
	port := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, b.Addr.Port))
	return netip.AddrPortFrom(addr, port), nil
}
