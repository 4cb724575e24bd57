package nat_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	stdsync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
)

func dialed(t testing.TB, ns *netns.NS, network string, to netip.AddrPort) *nstest.Flow {
	t.Helper()
	f, err := nstest.Dial(t, ns, network, to)
	require.NoError(t, err)
	return f
}

func answers(t testing.TB, f *nstest.Flow, server string) {
	t.Helper()
	a, err := f.Ask()
	require.NoError(t, err)
	require.Equal(t, server, a.Server)
}

// Connections that run when a capture comes go on beside it, those that were
// captured go on through the proxy until the table goes.
func TestCaptureLives(t *testing.T) {
	needs(t)
	m := newMesh(t)
	serve(t, m.pod, m.peer)
	type running struct{ out, in *nstest.Flow }
	open := func() map[bool]running {
		all := map[bool]running{}
		for _, v6 := range families {
			all[v6] = running{
				dialed(t, m.pod.NS, "tcp", netip.AddrPortFrom(m.peer.Addr(v6), 8080)),
				dialed(t, m.peer.NS, "tcp", netip.AddrPortFrom(m.pod.Addr(v6), 8080)),
			}
		}
		return all
	}
	check := func(all map[bool]running, captured bool) {
		t.Helper()
		for v6, r := range all {
			out, in := m.peer.Addr(v6).String(), m.pod.Addr(v6).String()
			if captured {
				out, in = net.JoinHostPort(out, "8080"), net.JoinHostPort(in, "8080")
			}
			answers(t, r.out, out)
			answers(t, r.in, in)
		}
	}
	before := open()
	check(before, false)
	m.proxy(t)
	c := client(t, m.pod.NS)
	want := nat.State{Capture: wantCapture()}
	sync(t, c, want)
	check(before, false)
	during := open()
	check(during, true)

	// The capture ends, the table stays.
	drained := nat.State{Capture: nat.Capture{Except: want.Capture.Except}}
	sync(t, c, drained)
	check(before, false)
	check(during, true)
	after := open()
	check(after, false)
	// It comes back, with others of the proxy's ports.
	want.Capture.Outbound, want.Capture.Inbound = inboundPort, outboundPort
	sync(t, c, want)
	check(before, false)
	check(during, true)
	check(after, false)
	check(open(), true)
	// The table is made anew.
	c.Doubt()
	p, err := c.Sync(within(t), want)
	require.NoError(t, err)
	require.Contains(t, p.String(), "~ table")
	check(before, false)
	check(during, true)
	check(after, false)
	sync(t, c, nat.State{})
	check(before, false)
	check(after, false)
	check(open(), false)
}

// Nothing goes on by itself while the proxy is gone.
func TestCaptureFailsClosed(t *testing.T) {
	needs(t)
	m := newMesh(t)
	serve(t, m.pod, m.peer)
	for _, a := range m.peer.Addrs() {
		nstest.ServeUDP(t, m.peer.NS, netip.AddrPortFrom(a, 53).String(), "outside")
		nstest.ServeTCP(t, m.peer.NS, netip.AddrPortFrom(a, 53).String(), "outside")
	}
	sync(t, client(t, m.pod.NS), nat.State{Capture: wantCapture()})
	wire := nstest.StartCapture(t, m.peer.NS, m.peer.Link)
	for _, v6 := range families {
		pod, peer := m.pod.Addr(v6), m.peer.Addr(v6)
		nstest.Refused(t, m.pod.NS, "tcp", netip.AddrPortFrom(peer, 8080))
		nstest.Refused(t, m.pod.NS, "tcp", netip.AddrPortFrom(peer, 53))
		nstest.Refused(t, m.pod.NS, "udp", netip.AddrPortFrom(peer, 53))
		nstest.Refused(t, m.peer.NS, "tcp", netip.AddrPortFrom(pod, 8080))
		// The wire has seen all of it once this has passed.
		m.proxied().reaches(t, "udp", netip.AddrPortFrom(peer, 8080))
		wire.Wait(t, "what follows", func(p nstest.Packet) bool { return p.Dst == netip.AddrPortFrom(peer, 8080) && p.Protocol == 17 })
		require.Empty(t, wire.Packets(func(p nstest.Packet) bool {
			return p.Src.Addr() == pod && (p.Dst.Port() == 53 || p.Protocol == 6 && p.Dst.Port() == 8080)
		}))
	}
}

// The mesh follows what listens: one element a port, closed ports stay closed.
func TestCaptureListening(t *testing.T) {
	needs(t)
	m := newMesh(t)
	m.proxy(t)
	c := client(t, m.pod.NS)
	s := nat.State{Capture: wantCapture()}
	s.Capture.Ports = nil
	sync(t, c, s)
	for port := uint16(9000); port < 9003; port++ {
		for _, v6 := range families {
			nstest.Refused(t, m.peer.NS, "tcp", netip.AddrPortFrom(m.pod.Addr(v6), port))
		}
		p, err := c.Update(within(t), nat.Change{Capture: []uint16{port}, Release: []uint16{port - 1}})
		require.NoError(t, err)
		require.Contains(t, p.String(), fmt.Sprintf("+ capture port %d\n", port))
		for _, v6 := range families {
			at := netip.AddrPortFrom(m.pod.Addr(v6), port)
			require.Equal(t, at.String(), nstest.Reaches(t, m.peer.NS, "tcp", at).Server)
			nstest.Refused(t, m.peer.NS, "tcp", netip.AddrPortFrom(m.pod.Addr(v6), port-1))
		}
		again, err := c.Update(within(t), nat.Change{Capture: []uint16{port}, Release: []uint16{port - 1}})
		require.NoError(t, err)
		require.True(t, again.Empty())
	}
	// Update and Sync come to the same.
	s.Capture.Ports = []uint16{9002}
	require.True(t, plan(t, c, s).Empty())
	s.Capture.Ports, s.Capture.AllPorts = nil, true
	sync(t, c, s)
	for _, v6 := range families {
		at := netip.AddrPortFrom(m.pod.Addr(v6), 4711)
		require.Equal(t, at.String(), nstest.Reaches(t, m.peer.NS, "tcp", at).Server)
		nstest.Refused(t, m.peer.NS, "tcp", netip.AddrPortFrom(m.pod.Addr(v6), inboundPort))
	}
}

// A port that is not captured refuses, whether or not somebody listens on it:
// nobody gets past the proxy between listen and capture.
func TestCaptureClosed(t *testing.T) {
	needs(t)
	m := newMesh(t)
	m.proxy(t)
	serve(t, m.pod)
	c := client(t, m.pod.NS)
	s := nat.State{Capture: wantCapture()}
	s.Capture.Ports, s.Capture.Closed = nil, true
	running := map[bool]*nstest.Flow{}
	for _, v6 := range families {
		running[v6] = dialed(t, m.peer.NS, "tcp", netip.AddrPortFrom(m.pod.Addr(v6), 8080))
	}
	sync(t, c, s)
	for _, v6 := range families {
		open, closed := netip.AddrPortFrom(m.pod.Addr(v6), 8080), netip.AddrPortFrom(m.pod.Addr(v6), 8081)
		answers(t, running[v6], m.pod.Addr(v6).String())
		nstest.Refused(t, m.peer.NS, "tcp", open)
		nstest.Refused(t, m.peer.NS, "tcp", closed)
		require.Equal(t, m.pod.Addr(v6).String(), nstest.Reaches(t, m.pod.NS, "tcp", open).Server, "from inside")
		require.Equal(t, m.pod.Addr(v6).String(), nstest.Reaches(t, m.peer.NS, "udp", open).Server)
		_, err := c.Update(within(t), nat.Change{Capture: []uint16{8080}})
		require.NoError(t, err)
		require.Equal(t, open.String(), nstest.Reaches(t, m.peer.NS, "tcp", open).Server)
		nstest.Refused(t, m.peer.NS, "tcp", closed)
		_, err = c.Update(within(t), nat.Change{Release: []uint16{8080}})
		require.NoError(t, err)
	}
	// A port of one family is closed in the other.
	for _, v6 := range families {
		only := map[bool]*[]uint16{false: &s.Capture.Ports4, true: &s.Capture.Ports6}[v6]
		*only = []uint16{8080}
		sync(t, c, s)
		open := netip.AddrPortFrom(m.pod.Addr(v6), 8080)
		require.Equal(t, open.String(), nstest.Reaches(t, m.peer.NS, "tcp", open).Server)
		nstest.Refused(t, m.peer.NS, "tcp", netip.AddrPortFrom(m.pod.Addr(!v6), 8080))
		*only = nil
	}
	s.Capture.Except.Inbound = []nat.Ports{{First: 8080}}
	sync(t, c, s)
	for _, v6 := range families {
		require.Equal(t, m.pod.Addr(v6).String(), nstest.Reaches(t, m.peer.NS, "tcp", netip.AddrPortFrom(m.pod.Addr(v6), 8080)).Server)
	}
	s.Capture.AllPorts = true
	require.ErrorContains(t, s.Validate(), "capture.closed: all ports are captured")
}

// A strict capture ends what runs beside it.
func TestCaptureStrict(t *testing.T) {
	needs(t)
	m := newMesh(t)
	serve(t, m.pod, m.peer)
	m.proxy(t)
	c := client(t, m.pod.NS)
	var before []*nstest.Flow
	for _, v6 := range families {
		before = append(before, dialed(t, m.pod.NS, "tcp", netip.AddrPortFrom(m.peer.Addr(v6), 8080)),
			dialed(t, m.peer.NS, "tcp", netip.AddrPortFrom(m.pod.Addr(v6), 8080)))
	}
	s := nat.State{Capture: wantCapture()}
	s.Capture.Strict = true
	sync(t, c, s)
	for _, f := range before {
		_, err := f.Ask()
		require.True(t, isRefused(err), "%v", err)
	}
	// What conntrack loses does not go on in clear.
	var captured []*nstest.Flow
	for _, v6 := range families {
		f := dialed(t, m.pod.NS, "tcp", netip.AddrPortFrom(m.peer.Addr(v6), 8080))
		answers(t, f, netip.AddrPortFrom(m.peer.Addr(v6), 8080).String())
		captured = append(captured, f)
	}
	wire := nstest.StartCapture(t, m.peer.NS, m.peer.Link)
	nstest.Run(t, m.pod.NS, "conntrack", "-F")
	for i, f := range captured {
		_, err := f.Ask()
		require.Error(t, err, i)
	}
	for _, v6 := range families {
		m.proxied().reaches(t, "udp", netip.AddrPortFrom(m.peer.Addr(v6), 8080))
		wire.Wait(t, "what follows", func(p nstest.Packet) bool { return p.Protocol == 17 && p.Dst.Addr() == m.peer.Addr(v6) })
	}
	require.Empty(t, wire.Packets(func(p nstest.Packet) bool { return p.Protocol == 6 && len(p.Payload) > 0 }))
}

// Packets that conntrack cannot place are not let out as they are.
func TestCaptureInvalid(t *testing.T) {
	needs(t)
	m := newMesh(t)
	sync(t, client(t, m.pod.NS), nat.State{Capture: wantCapture()})
	wire := nstest.StartCapture(t, m.peer.NS, m.peer.Link)
	const fin, syn, rst, ack = 1, 2, 4, 16
	for _, v6 := range families {
		peer := m.peer.Addr(v6)
		for _, flags := range []byte{syn | fin, syn | rst, 0, fin, syn | ack | rst} {
			require.NoError(t, rawTCP(m.pod, peer, 8080, flags, 0))
		}
		// An exception's packets leave whatever they are.
		require.NoError(t, rawTCP(m.pod, peer, 8081, syn|fin, proxyMark))
		wire.Wait(t, "an excepted packet", func(p nstest.Packet) bool { return p.Dst == netip.AddrPortFrom(peer, 8081) })
		require.Empty(t, wire.Packets(func(p nstest.Packet) bool { return p.Dst == netip.AddrPortFrom(peer, 8080) }))
	}
}

// rawTCP sends one TCP header.
func rawTCP(from nstest.End, to netip.Addr, port uint16, flags byte, mark int) error {
	return from.NS.Do(func() error {
		domain := unix.AF_INET
		if to.Is6() {
			domain = unix.AF_INET6
		}
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
			return err
		}
		b := make([]byte, 20)
		b[0], b[1], b[2], b[3], b[12], b[13], b[15] = 0x9c, 0x40, byte(port>>8), byte(port), 5<<4, flags, 255
		src := from.Addr(to.Is6())
		sum := uint32(6 + len(b))
		for _, part := range [][]byte{src.AsSlice(), to.AsSlice(), b} {
			for i := 0; i < len(part); i += 2 {
				sum += uint32(part[i])<<8 | uint32(part[i+1])
			}
		}
		for sum>>16 != 0 {
			sum = sum>>16 + sum&0xffff
		}
		b[16], b[17] = byte(^sum>>8), byte(^sum)
		err = unix.Sendto(fd, b, 0, sockaddr(netip.AddrPortFrom(to, 0)))
		if err == unix.EPERM {
			return nil // told at once that it was dropped
		}
		return err
	})
}

// A resolver that keeps its socket meets the capture as well, and its end.
func TestCaptureQuestions(t *testing.T) {
	needs(t)
	m := newMesh(t)
	m.proxy(t)
	c := client(t, m.pod.NS)
	sync(t, c, nat.State{Networks: []nat.Network{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}}) // conntrack is awake
	var flows []*nstest.Flow
	for _, a := range m.peer.Addrs() {
		at := netip.AddrPortFrom(a, 53)
		nstest.ServeUDP(t, m.peer.NS, at.String(), "outside")
		flows = append(flows, dialed(t, m.pod.NS, "udp", at))
	}
	for _, step := range []struct {
		want   nat.State
		server string
	}{
		{nat.State{Exclude: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, "outside"},
		{nat.State{Capture: wantCapture()}, "dns"},
		{nat.State{Capture: nat.Capture{DNS: dnsPort, Except: nat.Except{Marks: []nat.Mark{{Value: 0}}}}}, "outside"},
		{nat.State{Capture: nat.Capture{DNS: dnsPort, Except: nat.Except{Marks: []nat.Mark{{Value: 1}}}}}, "dns"},
		{nat.State{}, "outside"},
	} {
		sync(t, c, step.want)
		for _, f := range flows {
			answers(t, f, step.server)
		}
	}
}

// The table is replaced again and again under thousands of connections, and
// none of them gets past the proxy.
func TestCaptureReplaced(t *testing.T) {
	needs(t)
	m := newMesh(t)
	var past, captured atomic.Int64
	count := func(ns *netns.NS, address string, n *atomic.Int64) {
		l, err := ns.Listen(t.Context(), "tcp", address)
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				n.Add(1)
				go func() {
					_, _ = c.Read(make([]byte, 1)) // until the client resets
					_ = c.Close()
				}()
			}
		}()
	}
	count(m.pod.NS, ":8080", &past)
	count(m.peer.NS, ":8080", &past)
	count(m.pod.NS, fmt.Sprintf(":%d", outboundPort), &captured)
	count(m.pod.NS, fmt.Sprintf(":%d", inboundPort), &captured)
	c := client(t, m.pod.NS)
	want := nat.State{Capture: wantCapture()}
	sync(t, c, want)

	ctx, cancel := context.WithCancel(t.Context())
	var workers stdsync.WaitGroup
	var failed atomic.Pointer[error]
	for _, v6 := range families {
		for _, s := range []struct {
			from sender
			to   netip.Addr
		}{{sender{ns: m.pod.NS}, m.peer.Addr(v6)}, {sender{ns: m.peer.NS}, m.pod.Addr(v6)}} {
			workers.Add(1)
			go func() {
				defer workers.Done()
				for ctx.Err() == nil {
					f, err := s.from.dial("tcp", netip.AddrPortFrom(s.to, 8080))
					if err != nil {
						failed.Store(&err)
						return
					}
					_ = f.Conn.(*net.TCPConn).SetLinger(0)
					_ = f.Close()
					time.Sleep(time.Millisecond)
				}
			}()
		}
	}
	// Two hundred times, or as often as a busy machine does it in a while.
	replaced := 0
	for began := time.Now(); replaced < 200 && (replaced < 30 || time.Since(began) < 8*time.Second); replaced++ {
		c.Doubt()
		want.Capture.Strict = replaced%2 == 0
		p, err := c.Sync(within(t), want)
		require.NoError(t, err)
		require.Contains(t, p.String(), "~ table")
	}
	for end := time.Now().Add(20 * time.Second); captured.Load() < 1000 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	workers.Wait()
	if err := failed.Load(); err != nil {
		require.NoError(t, *err)
	}
	t.Logf("%d connections captured, %d replacements", captured.Load(), replaced)
	require.Zero(t, past.Load(), "of %d connections", captured.Load())
	require.GreaterOrEqual(t, captured.Load(), int64(1000))
}
