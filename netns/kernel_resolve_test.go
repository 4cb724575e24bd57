//go:build linux

package netns_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

// serveDNS answers questions inside ns for the names in hosts, at the address that the
// resolver of this process asks.
func serveDNS(t *testing.T, ns *netns.NS, hosts map[string][]string) {
	t.Helper()
	server := netip.MustParseAddr("127.0.0.1")
	if conf, err := os.ReadFile("/etc/resolv.conf"); err == nil {
		for line := range strings.Lines(string(conf)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
				if server, err = netip.ParseAddr(f[1]); err != nil {
					t.Skipf("the name server of /etc/resolv.conf is unusual: %v", err)
				}
				break
			}
		}
	}
	if !server.IsLoopback() {
		end := nstest.End{NS: ns, Link: "lo"}
		if server.Is4() {
			end.V4 = netip.PrefixFrom(server, 32)
		} else {
			end.V6 = netip.PrefixFrom(server, 128)
		}
		nstest.Address(t, end)
	}
	serveDNSAt(t, ns, netip.AddrPortFrom(server, 53).String(), hosts)
}

func serveDNSAt(t *testing.T, ns *netns.NS, address string, hosts map[string][]string) {
	t.Helper()
	p, err := ns.ListenPacket(t.Context(), "udp", address)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for buf := make([]byte, 512); ; {
			n, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := answerDNS(buf[:n], hosts); answer != nil {
				_, _ = p.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() { _ = p.Close(); <-done })
}

// answerDNS answers one question (RFC 1035, 4.1).
func answerDNS(q []byte, hosts map[string][]string) []byte {
	if len(q) < 12 {
		return nil
	}
	var labels []string
	i := 12
	for i < len(q) && q[i] != 0 {
		end := i + 1 + int(q[i])
		if end > len(q) {
			return nil
		}
		labels = append(labels, string(q[i+1:end]))
		i = end
	}
	if i+5 > len(q) {
		return nil
	}
	kind := binary.BigEndian.Uint16(q[i+1:])
	question := q[12 : i+5]
	known, ok := hosts[strings.ToLower(strings.Join(labels, "."))]
	var records []byte
	count := uint16(0)
	for _, text := range known {
		a := netip.MustParseAddr(text)
		if a.Is4() != (kind == 1) || a.Is6() != (kind == 28) {
			continue
		}
		count++
		records = append(records, 0xc0, 12)
		records = binary.BigEndian.AppendUint16(records, kind)
		records = append(records, 0, 1, 0, 0, 0, 1, 0, byte(len(a.AsSlice())))
		records = append(records, a.AsSlice()...)
	}
	flags := uint16(0x8580)
	if !ok {
		flags |= 3 // no such name
	}
	m := append([]byte{}, q[:2]...)
	for _, v := range []uint16{flags, 1, count, 0, 0} {
		m = binary.BigEndian.AppendUint16(m, v)
	}
	return append(append(m, question...), records...)
}

func TestNamesAreResolvedInside(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	serveDNS(t, ns, map[string][]string{"web.test": {"127.0.0.7", "::1"}, "four.test": {"127.0.0.7"}})
	nstest.ServeTCP(t, ns, "127.0.0.7:80", "four")
	nstest.ServeTCP(t, ns, "[::1]:80", "six")
	for _, c := range []struct{ network, to, want string }{
		{"tcp", "web.test.:80", "six"}, {"tcp4", "web.test.:80", "four"}, {"tcp6", "web.test.:80", "six"},
		{"tcp", "four.test.:80", "four"}, {"tcp", "four.test.:http", "four"},
	} {
		conn, err := ns.DialContext(t.Context(), c.network, c.to)
		require.NoError(t, err, c)
		answer, err := (&nstest.Flow{Conn: conn}).Ask()
		require.NoError(t, err)
		require.Equal(t, c.want, answer.Server)
		require.NoError(t, conn.Close())
	}
	var dns *net.DNSError
	_, err := ns.DialContext(t.Context(), "tcp", "none.test.:80")
	require.ErrorAs(t, err, &dns)
	require.True(t, dns.IsNotFound)
	_, err = ns.DialContext(t.Context(), "tcp6", "four.test.:80")
	require.Error(t, err)
	l, err := ns.Listen(t.Context(), "tcp", "web.test.:0")
	require.NoError(t, err)
	require.True(t, l.Addr().(*net.TCPAddr).IP.Equal(net.IPv4(127, 0, 0, 7)))
	require.NoError(t, l.Close())
}

// The namespace's own name servers are asked, in turn.
func TestNameServersOfTheNamespace(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	name := newName(t)
	ns, err := netns.Create(name)
	require.NoError(t, err)
	defer func() { _ = netns.Remove(name); _ = ns.Close() }()
	require.NoError(t, ns.LoopbackUp())
	privateEtc(t, map[string]string{
		"netns/" + name + "/resolv.conf": "nameserver 127.0.0.5\nnameserver ::1\n",
	})
	serveDNSAt(t, ns, "127.0.0.5:53", map[string][]string{"web.test": {"127.0.0.7"}})
	serveDNSAt(t, ns, "[::1]:53", map[string][]string{"web.test": {"127.0.0.7"}})
	nstest.ServeTCP(t, ns, "127.0.0.7:80", "web")
	for range 4 {
		c, err := ns.DialContext(t.Context(), "tcp", "web.test.:80")
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
}

// RFC 8305: the families race, and the one that answers wins.
func TestHappyEyeballs(t *testing.T) {
	nstest.Require(t, nstest.Veth)
	nstest.Leaks(t)
	a, b := nstest.Pair(t)
	nstest.Void(t, a, b, netip.MustParsePrefix("198.51.100.0/24"))
	nstest.Void(t, a, b, netip.MustParsePrefix("2001:db8:1::/64"))
	serveDNS(t, a.NS, map[string][]string{
		"both.test":        {"192.0.2.2", "2001:db8::2"},
		"silent-six.test":  {"192.0.2.2", "2001:db8:1::1"},
		"no-route.test":    {"192.0.2.2", "2001:db8:ffff::1"},
		"silent-both.test": {"198.51.100.1", "2001:db8:1::1"},
		"refused-six.test": {"192.0.2.2", "2001:db8::1"}, // nothing listens on a itself
		"second-six.test":  {"2001:db8::1", "2001:db8::2"},
	})
	nstest.ServeTCP(t, b.NS, ":80", "b")
	// The delay is generous where it must not count, so that a busy machine does not
	// matter.
	const delay = 3 * time.Second
	for _, c := range []struct {
		host, want string
		delay      time.Duration
		waits      bool // for the delay
	}{
		{"both.test.", "2001:db8::1", delay, false},
		{"no-route.test.", "192.0.2.1", delay, false},
		{"refused-six.test.", "192.0.2.1", delay, false},
		{"second-six.test.", "2001:db8::1", delay, false},
		{"silent-six.test.", "192.0.2.1", 0, true},
		{"silent-six.test.", "192.0.2.1", 700 * time.Millisecond, true},
	} {
		d := netns.Dialer{NS: a.NS, Dialer: net.Dialer{FallbackDelay: c.delay}}
		start := time.Now()
		conn, err := d.DialContext(t.Context(), "tcp", c.host+":80")
		took := time.Since(start)
		require.NoError(t, err, c.host)
		answer, err := (&nstest.Flow{Conn: conn}).Ask()
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		require.Equal(t, c.want, answer.Client.Addr().String(), c.host)
		wait := cmp.Or(c.delay, 300*time.Millisecond)
		if c.waits {
			require.GreaterOrEqual(t, took, wait, c.host)
			require.Less(t, took, wait+2*time.Second, c.host)
		} else {
			require.Less(t, took, wait, c.host)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := a.NS.DialContext(ctx, "tcp", "silent-both.test.:80")
	require.Error(t, err)
	require.Less(t, time.Since(start), 2*time.Second)

	// Without the race the second family is tried when the first has had its share of
	// the time.
	d := netns.Dialer{NS: a.NS, Dialer: net.Dialer{FallbackDelay: -1, Timeout: 4 * time.Second}}
	start = time.Now()
	conn, err := d.DialContext(t.Context(), "tcp", "silent-six.test.:80")
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(start), 1900*time.Millisecond)
	require.NoError(t, conn.Close())
}
