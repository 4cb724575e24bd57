package nat_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
)

// BenchmarkCaptureConnect compares what connect() takes, median of many:
// captured, against a connection to the proxy's listener itself without a
// table; excepted by its mark, and from a namespace whose capture has no part
// for it, against the same connection without a table.
func BenchmarkCaptureConnect(b *testing.B) {
	needs(b)
	for family, v6 := range families {
		b.Run(family, func(b *testing.B) {
			plain, tracked, meshed := newMesh(b), newMesh(b), newMesh(b)
			nstest.Run(b, tracked.pod.NS, "nft", `table inet none {
				chain a { type nat hook output priority -100; }
				chain b { type nat hook prerouting priority -100; }
				chain c { type nat hook postrouting priority 100; }
			}`)
			rules := newMesh(b)
			nstest.Run(b, rules.pod.NS, "nft", `table inet few { chain out { type nat hook output priority -100;
				meta mark 0x539 return; fib daddr type local return; tcp flags & (syn | ack) == syn redirect to :15001

			}
			}`)
			for _, m := range []mesh{plain, tracked, meshed, rules} {
				accept(b, m.pod.NS, "127.0.0.1:15001", "[::1]:15001")
				accept(b, m.peer.NS, ":8080")
			}
			s := nat.State{Capture: wantCapture()}
			s.Capture.Except.Users = []uint32{1337}
			s.Capture.Except.To = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:ffff::/48")}
			_, err := client(b, meshed.pod.NS).Sync(context.Background(), s)
			require.NoError(b, err)
			outside := func(m mesh) netip.AddrPort { return netip.AddrPortFrom(m.peer.Addr(v6), 8080) }
			cases := map[string]func() time.Duration{
				"proxy":    connecting(b, plain.pod.NS, netip.AddrPortFrom(loopbackAddr(v6), 15001), 0),
				"tracked":  connecting(b, tracked.pod.NS, netip.AddrPortFrom(loopbackAddr(v6), 15001), 0),
				"few":      connecting(b, rules.pod.NS, outside(rules), 0),
				"captured": connecting(b, meshed.pod.NS, outside(meshed), 0),
				"direct":   connecting(b, plain.pod.NS, outside(plain), 0),
				"watched":  connecting(b, tracked.pod.NS, outside(tracked), 0),
				"excepted": connecting(b, meshed.pod.NS, outside(meshed), proxyMark),
			}
			took := map[string][]time.Duration{}
			for b.Loop() {
				for name, f := range cases { // in turns, so that all meet the same noise
					took[name] = append(took[name], f())
				}
			}
			median := func(name string) float64 {
				slices.Sort(took[name])
				return float64(took[name][len(took[name])/2])
			}
			b.ReportMetric(median("captured")/1e3, "captured-us")
			b.ReportMetric(median("captured")/median("proxy"), "captured/uncaptured")
			b.ReportMetric(median("captured")/median("few"), "captured/few-rules")
			b.ReportMetric(median("excepted")/median("direct"), "excepted/uncaptured")
			b.ReportMetric(median("excepted")/median("watched"), "excepted/tracked")
		})
	}
}

// accept takes connections and lets the client end them.
func accept(t testing.TB, ns *netns.NS, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		l, err := ns.Listen(context.Background(), "tcp", a)
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func(c net.Conn) {
					_, _ = c.Read(make([]byte, 1))
					_ = c.Close()
				}(c)
			}
		}()
	}
}

// connecting returns a function that times one connect().
func connecting(t testing.TB, ns *netns.NS, to netip.AddrPort, mark int) func() time.Duration {
	return func() (took time.Duration) {
		err := ns.Do(func() error {
			domain := unix.AF_INET
			if to.Addr().Is6() {
				domain = unix.AF_INET6
			}
			fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
				return err
			}
			// No TIME_WAIT is left behind.
			if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
				return err
			}
			sa := sockaddr(to)
			began := time.Now()
			err = unix.Connect(fd, sa)
			took = time.Since(began)
			return err
		})
		require.NoError(t, err)
		return took
	}
}

// BenchmarkCaptureEnrol compares a new namespace's whole capture, from New to
// the committed table, with the kernel's part alone (the same messages,
// encoded before), and the addition of one port with that of one element.
func BenchmarkCaptureEnrol(b *testing.B) {
	needs(b)
	s := nat.State{Capture: wantCapture()}
	ctx := context.Background()
	var ours, floor, update time.Duration
	for b.Loop() {
		ns, bare := nstest.New(b), nstest.New(b)
		conn, err := nft.Open(bare.Fd())
		require.NoError(b, err)
		batch := nat.Floor(s)
		began := time.Now()
		require.NoError(b, conn.Commit(ctx, batch, 0))
		floor += time.Since(began)
		_ = conn.Close()
		began = time.Now()
		c, err := nat.New(nat.Config{NetNS: ns})
		require.NoError(b, err)
		_, err = c.Sync(ctx, s)
		require.NoError(b, err)
		ours += time.Since(began)
		began = time.Now()
		for port := range uint16(100) {
			_, err = c.Update(ctx, nat.Change{Capture: []uint16{9000 + port}})
			require.NoError(b, err)
		}
		update += time.Since(began) / 100
		_ = c.Close()
	}
	b.ReportMetric(float64(ours)/float64(b.N)/1e6, "enrol-ms")
	b.ReportMetric(float64(ours)/float64(floor), "enrol/floor")
	b.ReportMetric(float64(update)/float64(b.N)/1e3, "port-us")
}
