package vxlan_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/rtnl"
	"github.com/podplumb/podplumb/netns"
)

// outer is the outer header of a VXLAN packet on the underlay.
type outer struct {
	from, to netip.Addr
	checksum uint16
	source   uint16 // UDP port
	ttl, tos uint8
	group    bool // the frame inside is broadcast or multicast
}

// capture returns a function that yields the outer headers of the VXLAN packets that left by the link since it was last called.
func capture(t testing.TB, ns *netns.NS, link string, port uint16) func() []outer {
	t.Helper()
	var file *os.File
	require.NoError(t, ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(binary.BigEndian.Uint16([]byte{0, unix.ETH_P_ALL})<<8))
		if err != nil {
			return err
		}
		i, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		file = os.NewFile(uintptr(fd), "packets")
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL << 8, Ifindex: i.Index})
	}))
	t.Cleanup(func() { _ = file.Close() })
	raw, err := file.SyscallConn()
	require.NoError(t, err)
	return func() []outer {
		var out []outer
		b := make([]byte, 128)
		require.NoError(t, raw.Control(func(fd uintptr) {
			for {
				n, from, err := unix.Recvfrom(int(fd), b, 0)
				if err != nil {
					return
				}
				if sa, ok := from.(*unix.SockaddrLinklayer); ok && sa.Pkttype == unix.PACKET_OUTGOING {
					if o, ok := parseOuter(b[:n], port); ok {
						out = append(out, o)
					}
				}
			}
		}))
		return out
	}
}

func parseOuter(b []byte, port uint16) (o outer, ok bool) {
	var udp []byte
	switch {
	case len(b) > 40 && b[0]>>4 == 6 && b[6] == unix.IPPROTO_UDP:
		o.from, o.to, o.ttl, udp = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[7], b[40:]
		o.tos = b[0]<<4 | b[1]>>4
	case len(b) > 20 && b[0]>>4 == 4 && b[9] == unix.IPPROTO_UDP:
		o.from, o.to, o.ttl, udp = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[8], b[20:]
		o.tos = b[1]
	}
	if len(udp) < 8 || binary.BigEndian.Uint16(udp[2:]) != port {
		return o, false
	}
	o.group = len(udp) > 16 && udp[16]&1 != 0
	o.source, o.checksum = binary.BigEndian.Uint16(udp), binary.BigEndian.Uint16(udp[6:])
	return o, true
}

// dontFragment makes the socket send with DF and ignore what it knows of the path's MTU.
func dontFragment(t testing.TB, c net.Conn) {
	t.Helper()
	raw, err := c.(*net.UDPConn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
		if c.RemoteAddr().(*net.UDPAddr).IP.To4() == nil {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
		}
	}))
	require.NoError(t, err)
}

// events counts the changes that the kernel tells of on links, addresses, routes and neighbours. The function that it returns waits until
// nothing more comes and yields what came since it was last called.
func events(t testing.TB, ns *netns.NS) func() []rtnl.Event {
	t.Helper()
	m, err := rtnl.Watch(ns, rtnl.LinkEvents|rtnl.AddrEvents|rtnl.RouteEvents|rtnl.NeighEvents)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	return func() []rtnl.Event {
		var out []rtnl.Event
		for {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
			e, err := m.Next(ctx)
			cancel()
			if err != nil {
				require.ErrorIs(t, err, context.DeadlineExceeded)
				return out
			}
			if !late(&e) {
				out = append(out, e)
			}
		}
	}
}

// late tells what the kernel says by itself, up to seconds after a link was made: carriers, and link-local addresses that are ready.
func late(e *rtnl.Event) bool {
	switch {
	case e.Removed:
		return false
	case e.Link != nil:
		return true
	case e.Addr != nil:
		return e.Addr.Prefix.Addr().IsLinkLocalUnicast()
	}
	return e.Route != nil && e.Route.Proto == unix.RTPROT_KERNEL
}

// stream sends small datagrams from one pod to another all the time and counts the answers. The function that it returns stops and tells how many
// were sent and how many answered.
func stream(t testing.TB, ns *netns.NS, to netip.AddrPort) func() (sent, answered int64) {
	t.Helper()
	c, err := ns.DialContext(context.Background(), "udp", to.String())
	require.NoError(t, err)
	var sent, answered atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				if _, err := c.Write([]byte("who\n")); err == nil {
					sent.Add(1)
				}
			}
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		b := make([]byte, 256)
		for {
			if _, err := c.Read(b); err != nil {
				if os.IsTimeout(err) {
					return
				}
				continue
			}
			answered.Add(1)
		}
	}()
	var s, a int64
	stopped := false
	finish := func() (int64, int64) {
		if !stopped {
			stopped = true
			close(stop)
			<-done
			_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			<-done
			_ = c.Close()
			s, a = sent.Load(), answered.Load()
		}
		return s, a
	}
	t.Cleanup(func() { finish() })
	return finish
}
