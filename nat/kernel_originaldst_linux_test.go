package nat_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
)

// accepted opens a connection and returns the server's end of it.
func accepted(t testing.TB, from, at *netns.NS, listen string, to netip.AddrPort) net.Conn {
	t.Helper()
	l, err := at.Listen(t.Context(), "tcp", listen)
	require.NoError(t, err)
	defer l.Close()
	dialed(t, from, "tcp", to)
	c, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestOriginalDst(t *testing.T) {
	needs(t)
	m := newMesh(t)
	c := client(t, m.pod.NS)
	for _, v6 := range families {
		// No conntrack yet.
		conn := accepted(t, m.peer.NS, m.pod.NS, ":8080", netip.AddrPortFrom(m.pod.Addr(v6), 8080))
		_, err := nat.OriginalDst(conn)
		require.ErrorIs(t, err, nat.ErrNotCaptured)
	}
	sync(t, c, nat.State{Capture: wantCapture(), Redirects: []nat.Redirect{{Port: 7000, Proto: nat.TCP, To: 7001, Own: true}}})
	for family, v6 := range families {
		t.Run(family, func(t *testing.T) {
			to := netip.AddrPortFrom(m.peer.Addr(v6), 443)
			network := map[bool]string{false: "127.0.0.1", true: "[::1]"}[v6]
			// A socket of the one family, and one that serves both.
			for _, listen := range []string{network, ""} {
				conn := accepted(t, m.pod.NS, m.pod.NS, fmt.Sprintf("%s:%d", listen, outboundPort), to)
				got, err := nat.OriginalDst(conn)
				require.NoError(t, err)
				require.Equal(t, to, got)
				got, err = nat.OriginalDst(tls.Server(conn, &tls.Config{}))
				require.NoError(t, err)
				require.Equal(t, to, got)
				require.NoError(t, conn.Close())
				_, err = nat.OriginalDst(conn)
				require.ErrorIs(t, err, net.ErrClosed)
			}
			in := netip.AddrPortFrom(m.pod.Addr(v6), 8080)
			got, err := nat.OriginalDst(accepted(t, m.peer.NS, m.pod.NS, fmt.Sprintf(":%d", inboundPort), in))
			require.NoError(t, err)
			require.Equal(t, in, got)
			redirected := netip.AddrPortFrom(m.pod.Addr(v6), 7000)
			for _, from := range []*netns.NS{m.peer.NS, m.pod.NS} {
				got, err = nat.OriginalDst(accepted(t, from, m.pod.NS, ":7001", redirected))
				require.NoError(t, err)
				require.Equal(t, redirected, got)
			}
			// Straight to where it is, known to conntrack.
			_, err = nat.OriginalDst(accepted(t, m.peer.NS, m.pod.NS, ":8081", netip.AddrPortFrom(m.pod.Addr(v6), 8081)))
			require.ErrorIs(t, err, nat.ErrNotCaptured)
			require.ErrorContains(t, err, "nat: original destination of "+strings.Trim(netip.AddrPortFrom(m.peer.Addr(v6), 0).String(), ":0"))
		})
	}
	p, err := m.pod.NS.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer p.Close()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	for _, conn := range []net.Conn{p.(*net.UDPConn), a, nil} {
		_, err = nat.OriginalDst(conn)
		require.True(t, errors.Is(err, errors.ErrUnsupported) || errors.Is(err, net.ErrClosed), "%v", err)
	}
}

// A link-local address comes with its zone, and is not led to the proxy on
// its way out.
func TestOriginalDstLinkLocal(t *testing.T) {
	needs(t)
	m := newMesh(t)
	s := nat.State{Capture: wantCapture()}
	c := client(t, m.pod.NS)
	sync(t, c, s)
	local := func(e nstest.End) netip.Addr {
		out := nstest.Run(t, e.NS, "ip", "-6", "-o", "addr", "show", "dev", e.Link, "scope", "link")
		for _, w := range strings.Fields(out) {
			if p, err := netip.ParsePrefix(w); err == nil {
				return p.Addr()
			}
		}
		t.Fatal("no link-local address: " + out)
		return netip.Addr{}
	}
	peer, pod := local(m.peer), local(m.pod)
	// Outbound there is no way to the proxy, and nothing gets past it.
	nstest.ServeTCP(t, m.peer.NS, ":8080", "peer")
	serveOriginal(t, m.pod.NS, fmt.Sprintf(":%d", outboundPort))
	out := netip.AddrPortFrom(peer.WithZone(m.pod.Link), 8080)
	nstest.Refused(t, m.pod.NS, "tcp", out)
	require.Equal(t, nat.Rejected, nat.Explain(s, nat.Packet{
		Src: netip.AddrPortFrom(pod, 1), Dst: netip.AddrPortFrom(peer, 8080), Proto: nat.TCP, FromHost: true,
	}).Outcome)
	conn := accepted(t, m.peer.NS, m.pod.NS, fmt.Sprintf(":%d", inboundPort), netip.AddrPortFrom(pod.WithZone(m.peer.Link), 8080))
	got, err := nat.OriginalDst(conn)
	require.NoError(t, err)
	require.NotEmpty(t, got.Addr().Zone(), "the link that it came in by")
	require.Equal(t, netip.AddrPortFrom(pod, 8080), netip.AddrPortFrom(got.Addr().WithZone(""), got.Port()))
	s.Capture.Except.To = []netip.Prefix{netip.MustParsePrefix("fe80::/10")}
	sync(t, c, s)
	require.Equal(t, "peer", nstest.Reaches(t, m.pod.NS, "tcp", out).Server)
}
