package capture_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/mesh/capture"
	"github.com/podplumb/podplumb/examples/mesh/lab"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
)

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m, nil)) }

var nets atomic.Int32

func pair(t *testing.T) (pod, peer *lab.Pod) {
	t.Helper()
	kerneltest.Require(t)
	number := nets.Add(1)
	n, err := lab.Build(t.Context(), func(name string) (*netns.NS, error) {
		ns, err := netns.Create(fmt.Sprintf("capture-test-%d-%d.%s", os.Getpid(), number, name))
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = netns.Remove(ns.Name()); _ = ns.Close() })
		return ns, ns.LoopbackUp()
	}, []string{"pod", "peer"})
	require.NoError(t, err)
	return n.Pods[0], n.Pods[1]
}

// accepts counts the connections to an address, which end when the client
// resets them.
func accepts(t *testing.T, ns *netns.NS, address string, n *atomic.Int64) net.Listener {
	t.Helper()
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
				_, _ = c.Read(make([]byte, 1))
				_ = c.Close()
			}()
		}
	}()
	return l
}

// Rules are replaced two hundred times, by one process after the other, under
// thousands of connections, and none of them gets past the proxy.
func TestReplaced(t *testing.T) {
	t.Parallel()
	for name, user := range map[string]uint32{"node": 0, "sidecar": 1337} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod, peer := pair(t)
			var past, captured atomic.Int64
			accepts(t, pod.NS, ":8080", &past)
			accepts(t, peer.NS, ":8080", &past)
			accepts(t, pod.NS, fmt.Sprintf(":%d", capture.OutboundPort), &captured)
			accepts(t, pod.NS, fmt.Sprintf(":%d", capture.InboundPort), &captured)
			begin := func(n int) {
				c, err := capture.New(capture.Config{
					NetNS: pod.NS, User: user, DNS: n%2 == 0, From: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 32)},
					Outbound: []nat.Ports{{First: uint16(20000 + n)}},
				})
				require.NoError(t, err)
				defer c.Close()
				require.NoError(t, c.Begin(t.Context()))
			}
			begin(0)
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			var failed atomic.Pointer[error]
			for f := range 2 {
				for _, way := range []struct{ from, to *lab.Pod }{{pod, peer}, {peer, pod}} {
					running.Go(func() {
						for ctx.Err() == nil {
							c, err := way.from.NS.DialContext(t.Context(), "tcp", netip.AddrPortFrom(way.to.Addrs[f], 8080).String())
							if err != nil {
								failed.Store(&err)
								return
							}
							_ = c.(*net.TCPConn).SetLinger(0)
							_ = c.Close()
							time.Sleep(time.Millisecond)
						}
					})
				}
			}
			// Two hundred times, or as often as a busy machine does it in a while.
			replaced := 0
			for began := time.Now(); replaced < 200 && (replaced < 40 || time.Since(began) < 6*time.Second); replaced++ {
				begin(replaced + 1)
			}
			kerneltest.Eventually(t, "a thousand connections", func() bool { return captured.Load() > 1000 || failed.Load() != nil })
			cancel()
			running.Wait()
			if err := failed.Load(); err != nil {
				require.NoError(t, *err)
			}
			t.Logf("%d connections captured, %d replacements", captured.Load(), replaced)
			require.Zero(t, past.Load())
		})
	}
}

// Follow notices listeners that come and go, but for those on loopback and the
// proxy's own.
func TestFollow(t *testing.T) {
	t.Parallel()
	pod, peer := pair(t)
	var past, captured atomic.Int64
	accepts(t, pod.NS, fmt.Sprintf(":%d", capture.InboundPort), &captured)
	c, err := capture.New(capture.Config{NetNS: pod.NS, Every: 50 * time.Millisecond})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Begin(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Follow(ctx, func(err error) { t.Error(err) }) }()
	open := func(f int, port uint16) bool {
		conn, err := peer.NS.DialContext(t.Context(), "tcp", netip.AddrPortFrom(pod.Addrs[f], port).String())
		if err == nil {
			_ = conn.Close()
			return true
		}
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		return false
	}
	for f := range 2 {
		accepts(t, pod.NS, net.JoinHostPort([]string{"127.0.0.1", "::1"}[f], "7000"), &past)
		port := uint16(8080 + f)
		require.False(t, open(f, port))
		l := accepts(t, pod.NS, netip.AddrPortFrom(pod.Addrs[f], port).String(), &past)
		kerneltest.Eventually(t, "it is captured", func() bool { return open(f, port) })
		require.False(t, open(f, 7000))
		require.False(t, open(1-f, port), "nobody listens there in this family")
		require.NoError(t, l.Close())
		kerneltest.Eventually(t, "it is closed", func() bool { return !open(f, port) })
	}
	for network, want := range map[string][2]bool{"tcp": {true, true}, "tcp4": {true, false}, "tcp6": {false, true}} { // all addresses
		l, err := pod.NS.Listen(t.Context(), network, ":8090")
		require.NoError(t, err)
		kerneltest.Eventually(t, network, func() bool { return [2]bool{open(0, 8090), open(1, 8090)} == want })
		require.NoError(t, l.Close())
		kerneltest.Eventually(t, "it is closed", func() bool { return !open(0, 8090) && !open(1, 8090) })
	}
	require.Zero(t, past.Load())
	require.NotZero(t, captured.Load())
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)

	// The rules stay, until they are taken away.
	require.NoError(t, c.Drain(t.Context()))
	accepts(t, pod.NS, ":9000", &past)
	require.True(t, open(0, 9000))
	require.True(t, open(1, 9000))
	require.NoError(t, c.Remove(t.Context()))
	kerneltest.Eventually(t, "they are accepted", func() bool { return past.Load() == 2 })
}

func TestCountDatagrams(t *testing.T) {
	t.Parallel()
	pod, peer := pair(t)
	before, err := capture.CountDatagrams(pod.NS)
	require.NoError(t, err)
	for f := range 2 {
		c, err := peer.NS.ListenPacket(t.Context(), "udp", netip.AddrPortFrom(peer.Addrs[f], 5000).String())
		require.NoError(t, err)
		defer c.Close()
		d, err := pod.NS.DialContext(t.Context(), "udp", netip.AddrPortFrom(peer.Addrs[f], 5000).String())
		require.NoError(t, err)
		defer d.Close()
		for range 3 {
			_, err = d.Write([]byte("x"))
			require.NoError(t, err)
			_, from, err := c.ReadFrom(make([]byte, 10))
			require.NoError(t, err)
			_, err = c.WriteTo([]byte("y"), from)
			require.NoError(t, err)
			_, err = d.Read(make([]byte, 10))
			require.NoError(t, err)
		}
	}
	after, err := capture.CountDatagrams(pod.NS)
	require.NoError(t, err)
	require.Equal(t, capture.Datagrams{In: before.In + 6, Out: before.Out + 6}, after)
}

// A socket whose client has ended its side is held, until it is closed.
func TestHeld(t *testing.T) {
	t.Parallel()
	pod, peer := pair(t)
	for f := range 2 {
		l, err := peer.NS.Listen(t.Context(), "tcp", netip.AddrPortFrom(peer.Addrs[f], 5000).String())
		require.NoError(t, err)
		defer l.Close()
		c, err := pod.NS.DialContext(t.Context(), "tcp", l.Addr().String())
		require.NoError(t, err)
		s, err := l.Accept()
		require.NoError(t, err)
		defer s.Close()
		local, remote := c.LocalAddr().(*net.TCPAddr).AddrPort(), l.Addr().(*net.TCPAddr).AddrPort()
		require.True(t, capture.Held(pod.NS, local, remote))
		require.NoError(t, c.(*net.TCPConn).CloseWrite())
		_, err = s.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		require.True(t, capture.Held(pod.NS, local, remote))
		require.False(t, capture.Held(pod.NS, local, netip.AddrPortFrom(remote.Addr(), 5001)))
		require.NoError(t, c.Close())
		require.False(t, capture.Held(pod.NS, local, remote))
	}
}
