//go:build linux

package netns_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

// http.Server and http.Transport as they are, inside, over both families and by name.
func TestHTTPInside(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	for _, c := range []struct{ listen, get string }{
		{"127.0.0.1:0", "127.0.0.1"}, {"[::1]:0", "[::1]"}, {":0", "localhost"}, {"localhost:0", "localhost"},
	} {
		l, err := ns.Listen(t.Context(), "tcp", c.listen)
		require.NoError(t, err)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "hello "+r.RemoteAddr)
		})}
		served := make(chan error)
		go func() { served <- server.Serve(l) }()
		transport := &http.Transport{DialContext: ns.DialContext}
		client := &http.Client{Transport: transport, Timeout: waitFor}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		url := "http://" + c.get + ":" + port

		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				resp, err := client.Get(url)
				if err != nil {
					t.Error(err)
					return
				}
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if !strings.HasPrefix(string(body), "hello ") {
					t.Errorf("body %q", body)
				}
			})
		}
		wg.Wait()
		// The server is inside, so the caller's namespace does not see it.
		_, err = new(net.Dialer).DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", port))
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		transport.CloseIdleConnections()
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	}
}

// 64 goroutines dial the same address in 8 namespaces: each reaches the server of its own.
func TestSocketsAreMadeInside(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	spaces := make([]*netns.NS, 8)
	for i := range spaces {
		spaces[i] = nstest.New(t)
		for _, address := range []string{"127.0.0.1:7", "[::1]:7"} {
			nstest.ServeTCP(t, spaces[i], address, fmt.Sprint("ns", i))
			nstest.ServeUDP(t, spaces[i], address, fmt.Sprint("ns", i))
		}
	}
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for r := range 8 {
				i := (g + r) % len(spaces)
				for _, network := range []string{"tcp", "udp"} {
					for _, to := range []string{"127.0.0.1:7", "[::1]:7"} {
						answer, err := nstest.Ask(spaces[i], network, netip.MustParseAddrPort(to))
						if err != nil || answer.Server != fmt.Sprint("ns", i) {
							t.Errorf("%s %s in %d: %v %v", network, to, i, answer, err)
						}
					}
				}
			}
		})
	}
	wg.Wait()
}

// A socket stays in its namespace, and keeps it alive, when the handle is closed.
func TestSocketsOutliveTheHandle(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns, err := netns.New()
	require.NoError(t, err)
	require.NoError(t, ns.LoopbackUp())
	l, err := ns.Listen(t.Context(), "tcp", "[::1]:0")
	require.NoError(t, err)
	client, err := ns.DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, ns.Close())
	server, err := l.Accept()
	require.NoError(t, err)
	_, err = client.Write([]byte("x"))
	require.NoError(t, err)
	buf := make([]byte, 1)
	_, err = io.ReadFull(server, buf)
	require.NoError(t, err)
	require.NoError(t, errors.Join(client.Close(), server.Close(), l.Close()))
}

// Abstract Unix sockets belong to a network namespace as well.
func TestAbstractUnixSocket(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns, other := nstest.New(t), nstest.New(t)
	l, err := ns.Listen(t.Context(), "unix", "@podplumb-test")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	c, err := ns.DialContext(t.Context(), "unix", "@podplumb-test")
	require.NoError(t, err)
	require.NoError(t, c.Close())
	_, err = other.DialContext(t.Context(), "unix", "@podplumb-test")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

// A zone names a link of the namespace, whatever its number is outside.
func TestZones(t *testing.T) {
	nstest.Require(t, nstest.Veth)
	nstest.Leaks(t)
	a, b := nstest.Pair(t)
	nstest.Address(t, nstest.End{NS: b.NS, Link: b.Link, V6: netip.MustParsePrefix("fe80::b/64")})
	l, err := b.NS.Listen(t.Context(), "tcp", "[fe80::b%eth0]:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	port := l.Addr().(*net.TCPAddr).Port
	c, err := a.NS.DialContext(t.Context(), "tcp", fmt.Sprintf("[fe80::b%%eth0]:%d", port))
	require.NoError(t, err)
	require.NoError(t, c.Close())
	_, err = a.NS.DialContext(t.Context(), "tcp", "[fe80::b%none0]:1")
	require.ErrorContains(t, err, "the zone none0 is no link of the namespace")
}

func TestDialErrors(t *testing.T) {
	nstest.Require(t, nstest.Veth)
	nstest.Leaks(t)
	a, b := nstest.Pair(t)
	nstest.Void(t, a, b, netip.MustParsePrefix("198.51.100.0/24"))
	nstest.Void(t, a, b, netip.MustParsePrefix("2001:db8:1::/64"))
	for _, void := range []string{"198.51.100.1:1", "[2001:db8:1::1]:1"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := a.NS.DialContext(ctx, "tcp", void)
		cancel()
		require.True(t, errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded), "%v", err)
		var op *netns.OpError
		require.ErrorAs(t, err, &op)
		require.True(t, op.Timeout())

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		start := time.Now()
		_, err = a.NS.DialContext(ctx, "tcp", void)
		require.ErrorIs(t, err, context.Canceled)
		require.Less(t, time.Since(start), waitFor)

		d := netns.Dialer{NS: a.NS, Dialer: net.Dialer{Timeout: 50 * time.Millisecond}}
		_, err = d.DialContext(t.Context(), "tcp", void)
		require.ErrorAs(t, err, &op)
		require.True(t, op.Timeout())
	}
	for _, refused := range []netip.Addr{b.V4.Addr(), b.V6.Addr()} {
		_, err := a.NS.DialContext(t.Context(), "tcp", netip.AddrPortFrom(refused, 1).String())
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	}
	for _, bad := range []string{"", "nohost", "127.0.0.1:99999", "127.0.0.1:no-such-service", "[::1"} {
		_, err := a.NS.DialContext(t.Context(), "tcp", bad)
		require.Error(t, err, bad)
	}
	_, err := a.NS.DialContext(t.Context(), "no-such-network", "127.0.0.1:1")
	require.Error(t, err)
	_, err = a.NS.Listen(t.Context(), "tcp", b.V4.Addr().String()+":0")
	require.ErrorIs(t, err, syscall.EADDRNOTAVAIL)
}

// A dial that waits for an answer holds no thread.
func TestPendingDialsHoldNoThreads(t *testing.T) {
	nstest.Require(t, nstest.Veth)
	a, b := nstest.Pair(t)
	nstest.Void(t, a, b, netip.MustParsePrefix("198.51.100.0/24"))
	nstest.Leaks(t)
	before := threads(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg, pending sync.WaitGroup
	for range 300 {
		pending.Add(1)
		once := sync.OnceFunc(pending.Done)
		d := netns.Dialer{NS: a.NS, Dialer: net.Dialer{Control: func(string, string, syscall.RawConn) error { once(); return nil }}}
		wg.Go(func() {
			c, err := d.DialContext(ctx, "tcp", "198.51.100.1:1")
			if err == nil {
				t.Error("connected to the void")
				_ = c.Close()
			}
		})
	}
	pending.Wait()
	during := threads(t)
	cancel()
	wg.Wait()
	require.Less(t, during, before+150)
}

// The options of net.Dialer count: the local address, and the hook, which runs inside.
func TestDialerOptions(t *testing.T) {
	nstest.Require(t, nstest.Veth)
	nstest.Leaks(t)
	a, b := nstest.Pair(t)
	nstest.Address(t, nstest.End{NS: a.NS, Link: a.Link, V4: netip.MustParsePrefix("192.0.2.99/24"), V6: netip.MustParsePrefix("2001:db8::99/64")})
	nstest.ServeTCP(t, b.NS, ":7", "b")
	for _, c := range []struct{ local, to string }{{"192.0.2.99", "192.0.2.2:7"}, {"2001:db8::99", "[2001:db8::2]:7"}} {
		var hook string
		d := netns.Dialer{NS: a.NS, Dialer: net.Dialer{
			LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.local)},
			Control:   func(string, string, syscall.RawConn) error { hook = here(t); return nil },
		}}
		conn, err := d.DialContext(t.Context(), "tcp", c.to)
		require.NoError(t, err)
		require.Equal(t, idOf(t, a.NS), hook)
		answer, err := (&nstest.Flow{Conn: conn}).Ask()
		require.NoError(t, err)
		require.Equal(t, c.local, answer.Client.Addr().String())
		require.NoError(t, conn.Close())
	}
	d := netns.Dialer{NS: a.NS, Dialer: net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 99)}}}
	_, err := d.DialContext(t.Context(), "tcp", "[2001:db8::2]:7")
	require.ErrorContains(t, err, "no address of the family of LocalAddr")
	mine := errors.New("mine")
	d = netns.Dialer{NS: a.NS, Dialer: net.Dialer{Control: func(string, string, syscall.RawConn) error { return mine }}}
	_, err = d.DialContext(t.Context(), "tcp", "192.0.2.2:7")
	require.ErrorIs(t, err, mine)
}

// A hook that panics does so in the caller. (Package net then forgets the socket.)
func TestDialerHookPanics(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	home := here(t)
	d := netns.Dialer{NS: nstest.New(t), Dialer: net.Dialer{
		Control: func(string, string, syscall.RawConn) error { panic("hook") },
	}}
	require.PanicsWithValue(t, "hook", func() { _, _ = d.DialContext(t.Context(), "tcp", "127.0.0.1:7") })
	require.Equal(t, home, here(t))
}
