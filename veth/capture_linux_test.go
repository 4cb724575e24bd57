package veth_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/netns"
)

// frame is an Ethernet frame that came in on a link.
type frame []byte

func (f frame) kind() uint16 { return binary.BigEndian.Uint16(f[12:]) }

// tap hears the frames that come in on one link of a namespace.
type tap struct {
	t  testing.TB
	fd int
}

func newTap(t testing.TB, ns *netns.NS, link string) *tap {
	t.Helper()
	s := &tap{t: t, fd: -1}
	require.NoError(t, ns.Do(func() error {
		i, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index})
	}))
	t.Cleanup(func() { _ = unix.Close(s.fd) })
	return s
}

// hears waits for an incoming frame that fits, up to within.
func (s *tap) hears(within time.Duration, fits func(frame) bool) bool {
	s.t.Helper()
	buf := make([]byte, 2048)
	for end := time.Now().Add(within); ; {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		tv := unix.NsecToTimeval(max(left, time.Millisecond).Nanoseconds())
		require.NoError(s.t, unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv))
		n, from, err := unix.Recvfrom(s.fd, buf, 0)
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		require.NoError(s.t, err)
		if from.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING && n > 14 && fits(buf[:n]) {
			return true
		}
	}
}

// send puts a frame with the given ether type on a link.
func (s *tap) send(to [6]byte, kind uint16, payload []byte) {
	s.t.Helper()
	f := append(to[:], 2, 0, 0, 0, 0, 0x55)
	f = append(binary.BigEndian.AppendUint16(f, kind), payload...)
	f = append(f, make([]byte, max(0, 60-len(f)))...)
	_, err := unix.Write(s.fd, f)
	require.NoError(s.t, err)
}

// packet is a bare IPv4 or IPv6 header for an unused protocol, enough for a bridge.
func packet(a netip.Addr) (kind uint16, payload []byte) {
	const experimental = 253 // RFC 3692
	if a.Is4() {
		// The sender is of the documentation range; a bridge may look at the header's checksum.
		p := append([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 64, experimental, 0, 0}, 192, 0, 2, 1)
		p = append(p, a.AsSlice()...)
		binary.BigEndian.PutUint16(p[10:], checksum(p))
		return unix.ETH_P_IP, p
	}
	p := append([]byte{0x60, 0, 0, 0, 0, 0, experimental, 64}, a.AsSlice()...)
	return unix.ETH_P_IPV6, append(p, a.AsSlice()...)
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// isARP reports an ARP packet whose sender has that address.
func isARP(f frame, a netip.Addr) bool {
	return f.kind() == unix.ETH_P_ARP && len(f) >= 42 && netip.AddrFrom4([4]byte(f[28:32])) == a
}

// isAdvertisement reports an unsolicited, overriding neighbour advertisement for that address.
func isAdvertisement(f frame, a netip.Addr) bool {
	const icmp6, advertisement, solicited, override = 58, 136, 0x40, 0x20
	return f.kind() == unix.ETH_P_IPV6 && len(f) >= 78 && f[20] == icmp6 && f[54] == advertisement &&
		f[58]&solicited == 0 && f[58]&override != 0 && f[21] == 255 && netip.AddrFrom16([16]byte(f[62:78])) == a
}
