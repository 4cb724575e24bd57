package nat_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
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
		require.NoError(t, peer.NS.SetSysctl(key, "0"))
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

// sender says what a socket is sent from.
type sender struct {
	ns          *netns.NS
	from        netip.Addr // zero: the kernel chooses
	mark        int
	user, group int // zero: the test's own
}

func (m mesh) proxied() sender { return sender{ns: m.pod.NS, mark: proxyMark} }

func (s sender) dial(network string, to netip.AddrPort) (*nstest.Flow, error) {
	var conn net.Conn
	err := s.ns.Do(func() error {
		domain, typ := unix.AF_INET, unix.SOCK_STREAM
		if to.Addr().Is6() {
			domain = unix.AF_INET6
		}
		if network == "udp" {
			typ = unix.SOCK_DGRAM
		}
		fd, err := s.socket(domain, typ)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "socket")
		defer f.Close()
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, s.mark); err != nil {
			return err
		}
		wait := unix.NsecToTimeval(int64(10 * time.Second))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait); err != nil {
			return err
		}
		if s.from.IsValid() {
			if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(s.from, 0))); err != nil {
				return err
			}
		}
		if err := unix.Connect(fd, sockaddr(to)); err != nil {
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

// socket opens a socket under the sender's user and group. The thread is the
// function's own while it runs.
func (s sender) socket(domain, typ int) (int, error) {
	if s.user != 0 {
		defer func() { _ = unix.Setfsuid(0) }()
		if err := unix.Setfsuid(s.user); err != nil {
			return 0, err
		}
	}
	if s.group != 0 {
		defer func() { _ = unix.Setfsgid(0) }()
		if err := unix.Setfsgid(s.group); err != nil {
			return 0, err
		}
	}
	return unix.Socket(domain, typ|unix.SOCK_CLOEXEC, 0)
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func (s sender) ask(network string, to netip.AddrPort) (nstest.Answer, error) {
	f, err := s.dial(network, to)
	if err != nil {
		return nstest.Answer{}, err
	}
	defer f.Close()
	return f.Ask()
}

func (s sender) reaches(t testing.TB, network string, to netip.AddrPort) nstest.Answer {
	t.Helper()
	a, err := s.ask(network, to)
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
				require.Equal(t, peer.String(), m.proxied().reaches(t, network, app).Server)
				require.Equal(t, "outside", m.proxied().reaches(t, network, netip.AddrPortFrom(peer, 53)).Server)
			}
			require.Equal(t, app.String(), (sender{ns: m.pod.NS, mark: proxyMark + 1}).reaches(t, "tcp", app).Server, "another mark")

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

// secondAddresses gives the pod and the peer one more address of each family.
func (m mesh) secondAddresses(t testing.TB) (second [2]map[bool]netip.Addr) {
	t.Helper()
	for n, end := range []nstest.End{m.pod, m.peer} {
		end.V4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(11 + n)}), 24)
		end.V6 = netip.MustParsePrefix(fmt.Sprintf("2001:db8::1%d/64", n+1))
		nstest.Address(t, end)
		second[n] = map[bool]netip.Addr{false: end.V4.Addr(), true: end.V6.Addr()}
	}
	return second
}

func loopbackAddr(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// canBecome says that the test can send as another user, which root in a user
// namespace of one user cannot.
func canBecome(t testing.TB, ns *netns.NS) bool {
	t.Helper()
	can := false
	require.NoError(t, ns.Do(func() error {
		defer func() { _ = unix.Setfsuid(0) }()
		if err := unix.Setfsuid(1); err != nil {
			return err
		}
		got, err := unix.SetfsuidRetUid(1)
		can = got == 1
		return err
	}))
	return can
}

func isRefused(err error) bool {
	for _, e := range []error{unix.ECONNREFUSED, unix.ECONNRESET, unix.EACCES, unix.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
