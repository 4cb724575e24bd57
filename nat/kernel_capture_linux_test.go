package nat_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
)

// The proxy's ports and its mark in tests.
const (
	outboundPort, inboundPort, dnsPort = 15001, 15006, 15053
	proxyMark                          = 0x539
)

// mesh is a pod, of which connections are captured, and a host outside.
type mesh struct {
	pod, peer nstest.End
}

func newMesh(t testing.TB) mesh {
	t.Helper()
	pod, peer := nstest.Pair(t)
	nstest.DefaultRoutes(t, pod.NS, peer.V4.Addr(), peer.V6.Addr())
	for _, key := range []string{"net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"} {
		require.NoError(t, pod.NS.SetSysctl(key, "0"))
	}
	return mesh{pod, peer}
}

// proxy answers "proxy ORIGINAL LOCAL" on the outbound and inbound port, where
// ORIGINAL is what OriginalDst says; and on the DNS port like a test server.
func (m mesh) proxy(t testing.TB) {
	t.Helper()
	for _, port := range []int{outboundPort, inboundPort} {
		serveOriginal(t, m.pod.NS, fmt.Sprintf(":%d", port))
	}
	for _, a := range []string{"127.0.0.1", "[::1]"} {
		at := fmt.Sprintf("%s:%d", a, dnsPort)
		nstest.ServeUDP(t, m.pod.NS, at, "dns")
		nstest.ServeTCP(t, m.pod.NS, at, "dns")
	}
}

func serveOriginal(t testing.TB, ns *netns.NS, address string) {
	t.Helper()
	l, err := ns.Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				original, err := nat.OriginalDst(c)
				label := original.String()
				if err != nil {
					label = "direct"
				}
				buf := make([]byte, 64)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if _, err := fmt.Fprintf(c, "%s %s %s\n", label, c.RemoteAddr(), c.LocalAddr()); err != nil {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
}

func wantCapture() nat.Capture {
	return nat.Capture{
		Outbound: outboundPort, Inbound: inboundPort, DNS: dnsPort, Ports: []uint16{8080},
		Except: nat.Except{Marks: []nat.Mark{{Value: proxyMark}}},
	}
}

// marked dials from a socket that carries a mark.
func marked(ns *netns.NS, mark int, network string, to netip.AddrPort) (*nstest.Flow, error) {
	var conn net.Conn
	err := ns.Do(func() error {
		domain, typ := unix.AF_INET, unix.SOCK_STREAM
		if to.Addr().Is6() {
			domain = unix.AF_INET6
		}
		if network == "udp" {
			typ = unix.SOCK_DGRAM
		}
		fd, err := unix.Socket(domain, typ|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "socket")
		defer f.Close()
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
			return err
		}
		wait := unix.NsecToTimeval(int64(nstest.AnswerWithin))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait); err != nil {
			return err
		}
		var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(to.Port()), Addr: as4(to.Addr())}
		if domain == unix.AF_INET6 {
			sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
		}
		if err := unix.Connect(fd, sa); err != nil {
			return err
		}
		conn, err = net.FileConn(f)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &nstest.Flow{Conn: conn}, nil
}

func as4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
}

func reachesMarked(t testing.TB, ns *netns.NS, mark int, network string, to netip.AddrPort) nstest.Answer {
	t.Helper()
	f, err := marked(ns, mark, network, to)
	require.NoError(t, err)
	defer f.Close()
	a, err := f.Ask()
	require.NoError(t, err)
	return a
}

func TestCapture(t *testing.T) {
	needs(t)
	m := newMesh(t)
	m.proxy(t)
	serve(t, m.pod, m.peer)
	for _, a := range m.peer.Addrs() {
		at := netip.AddrPortFrom(a, 53).String()
		nstest.ServeTCP(t, m.peer.NS, at, "outside")
		nstest.ServeUDP(t, m.peer.NS, at, "outside")
	}
	c := client(t, m.pod.NS)
	want := nat.State{Capture: wantCapture()}
	sync(t, c, want)
	for family, v6 := range families {
		t.Run(family, func(t *testing.T) {
			pod, peer := m.pod.Addr(v6), m.peer.Addr(v6)
			loopback := map[bool]string{false: "127.0.0.1", true: "::1"}[v6]
			app := netip.AddrPortFrom(peer, 8080)

			// Outbound, and where it was to go.
			a := nstest.Reaches(t, m.pod.NS, "tcp", app)
			require.Equal(t, app.String(), a.Server)
			require.Equal(t, netip.AddrPortFrom(netip.MustParseAddr(loopback), outboundPort), a.Local)
			require.Equal(t, pod, a.Client.Addr(), "the client keeps its address")
			// A port that is closed there is the proxy's to find out.
			a = nstest.Reaches(t, m.pod.NS, "tcp", netip.AddrPortFrom(peer, 81))
			require.Equal(t, netip.AddrPortFrom(peer, 81).String(), a.Server)
			// UDP passes.
			a = nstest.Reaches(t, m.pod.NS, "udp", app)
			require.Equal(t, peer.String(), a.Server)

			// DNS by both protocols.
			for network := range protos {
				a = nstest.Reaches(t, m.pod.NS, network, netip.AddrPortFrom(peer, 53))
				require.Equal(t, "dns", a.Server, network)
			}

			// The proxy's own connections.
			for network := range protos {
				require.Equal(t, peer.String(), reachesMarked(t, m.pod.NS, proxyMark, network, app).Server)
				require.Equal(t, "outside", reachesMarked(t, m.pod.NS, proxyMark, network, netip.AddrPortFrom(peer, 53)).Server)
			}
			require.Equal(t, app.String(), reachesMarked(t, m.pod.NS, proxyMark+1, "tcp", app).Server, "another mark")

			// Inbound: a port that is listed, from the client's own address.
			in := netip.AddrPortFrom(pod, 8080)
			a = nstest.Reaches(t, m.peer.NS, "tcp", in)
			require.Equal(t, in.String(), a.Server)
			require.Equal(t, peer, a.Client.Addr())
			require.Equal(t, netip.AddrPortFrom(pod, inboundPort), a.Local)
			// UDP passes, closed ports are closed.
			require.Equal(t, pod.String(), nstest.Reaches(t, m.peer.NS, "udp", in).Server)
			nstest.Refused(t, m.peer.NS, "tcp", netip.AddrPortFrom(pod, 8081))

			// The namespace's own addresses, loopback among them.
			require.Equal(t, pod.String(), nstest.Reaches(t, m.pod.NS, "tcp", in).Server)
			at := nstest.ServeTCP(t, m.pod.NS, net.JoinHostPort(loopback, "0"), "loopback")
			require.Equal(t, "loopback", nstest.Reaches(t, m.pod.NS, "tcp", at).Server)

			// Nobody hits the proxy's ports directly.
			for _, port := range []uint16{outboundPort, inboundPort} {
				nstest.Refused(t, m.peer.NS, "tcp", netip.AddrPortFrom(pod, port))
				nstest.Refused(t, m.pod.NS, "tcp", netip.AddrPortFrom(pod, port))
				nstest.Refused(t, m.pod.NS, "tcp", netip.AddrPortFrom(netip.MustParseAddr(loopback), port))
			}
			for network := range protos {
				nstest.Refused(t, m.pod.NS, network, netip.AddrPortFrom(netip.MustParseAddr(loopback), dnsPort))
			}
		})
	}
	nstest.Run(t, m.pod.NS, "nft", "list", "ruleset")
	nstest.Run(t, m.pod.NS, "nft", "-j", "list", "ruleset")
	got, err := client(t, m.pod.NS).Read(within(t))
	require.NoError(t, err)
	require.Empty(t, nat.Diff(got, want).String())
	sync(t, c, nat.State{})
	require.Empty(t, nstest.Run(t, m.pod.NS, "nft", "list", "ruleset"))
	for _, v6 := range families {
		require.Equal(t, m.peer.Addr(v6).String(), nstest.Reaches(t, m.pod.NS, "tcp", netip.AddrPortFrom(m.peer.Addr(v6), 8080)).Server)
	}
}

var (
	_ = errors.New
	_ = io.EOF
	_ = exec.Command
	_ = time.Second
)
