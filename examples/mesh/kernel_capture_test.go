package main

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func bothModes(t *testing.T, do func(t *testing.T, m mode)) {
	for _, m := range []mode{nodeMode, sidecarMode} {
		t.Run(string(m), func(t *testing.T) { t.Parallel(); do(t, m) })
	}
}

const secret = "attack at dawn"

// What is captured goes through both proxies, encrypted; what is not, goes as
// ever.
func TestCapture(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, m mode) {
		b := newBed(t, m, "web@a", "db@b", "-legacy@b")
		b.annotate("db", "exclude-inbound", "9100,9200-9300")
		b.annotate("web", "exclude-outbound", "9400")
		virtual := b.service("db", "db", 7, "", 80, 8080)
		b.echo("db", ":8080")
		b.echo("db", ":9250")
		b.echo("legacy", ":8080")
		b.echo("legacy", ":9400")
		wire := b.tap()

		// What runs before goes on after.
		running := map[string]net.Conn{}
		for family, f := range families {
			c, err := b.dial("web", b.at("db", f, 8080))
			require.NoError(t, err)
			defer c.Close()
			greeting, err := says(c, "before")
			require.NoError(t, err)
			require.Equal(t, c.LocalAddr().String(), greeting)
			running[family] = c
		}
		require.True(t, wire.Wait("before"))
		b.enrol()
		for family, f := range families {
			t.Run(family, func(t *testing.T) {
				b.t = t
				require.NoError(t, echoes(running[family], "still in clear"))

				// To the pod and to its Service, encrypted.
				for _, to := range []netip.AddrPort{b.at("db", f, 8080), virtual[f]} {
					greeting, own := b.reaches("web", to, secret)
					require.NotEqual(t, own, greeting)
					require.Contains(t, greeting, b.net.Pod("db").Addrs[f].String(), "the application sees its own proxy")
				}
				// The Service in its own pod: nobody captures that.
				b.reaches("db", virtual[f], secret)
				b.reaches("db", b.at("db", f, 8080), secret)

				// In clear to what is not in the mesh, and from there nowhere.
				b.reaches("web", b.at("legacy", f, 8080), "to legacy")
				b.fails("legacy", b.at("db", f, 8080))
				probed, err := b.dial("legacy", b.at("db", f, 8080)) // who says nothing says nothing in clear
				require.NoError(t, err)
				require.NoError(t, probed.Close())

				// Ports that are excluded are not touched at all.
				greeting, own := b.reaches("legacy", b.at("db", f, 9250), "excluded inbound")
				require.Equal(t, own, greeting)
				greeting, own = b.reaches("web", b.at("legacy", f, 9400), "excluded outbound")
				require.Equal(t, own, greeting)

				// Probes come from the pod's own node, in clear; other nodes' do not.
				for i, n := range b.net.Nodes {
					c, err := n.NS.DialContext(t.Context(), "tcp", b.at("db", f, 8080).String())
					require.NoError(t, err)
					if i == 1 {
						greeting, err := says(c, "probe")
						require.NoError(t, err)
						require.Equal(t, c.LocalAddr().String(), greeting)
					} else {
						require.Error(t, cut(c))
					}
					_ = c.Close()
				}

				// Closed ports refuse by themselves; so do the proxy's own.
				for _, port := range []uint16{8081, 9100, 15001, 15006} {
					b.refused("legacy", b.at("db", f, port))
				}
				for _, port := range []uint16{15001, 15006} {
					b.refused("db", b.at("db", f, port))
					b.refused("db", netip.AddrPortFrom(loopback[f], port))
				}
				// A Service without such a port, an address that nobody has.
				b.fails("web", netip.AddrPortFrom(virtual[f].Addr(), 81))
				b.fails("web", netip.AddrPortFrom([2]netip.Addr{netip.MustParseAddr("10.244.2.99"), netip.MustParseAddr("fd00:10:244:2::99")}[f], 80))

				// Loopback, all of it.
				for _, a := range map[int][]string{0: {"127.0.0.1", "127.1.2.3"}, 1: {"::1"}}[f] {
					l := b.echo("web", net.JoinHostPort(a, "0"))
					greeting, own := b.reaches("web", l.Addr().(*net.TCPAddr).AddrPort(), "loopback")
					require.Equal(t, own, greeting)
				}
			})
		}
		b.t = t
		wire.Settle()
		require.Zero(t, wire.Saw(secret))
		require.True(t, wire.Wait("still in clear"))
		require.True(t, wire.Wait("to legacy"))
		require.True(t, wire.Wait("excluded outbound"))
		if m == nodeMode {
			// Each connection came once: nothing went round in a circle.
			require.Equal(t, 4.0, b.counted("mesh_connections_total", "shop/db", "inbound", "mtls"))
			require.Equal(t, 4.0, b.counted("mesh_connections_refused_total", "shop/db", "inbound", "plaintext"))
			require.Equal(t, 2.0, b.counted("mesh_connections_refused_total", "shop/web", "outbound", "unknown"))
			require.Equal(t, 2.0, b.counted("mesh_connections_refused_total", "shop/web", "outbound", "no-endpoint"))
			require.Zero(t, b.counted("mesh_connections_refused_total", "direct"))
		}
	})
}

var loopback = [2]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}

// A server that begins to listen is captured soon, and is not reached in clear
// before.
func TestNewListener(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, m mode) {
		b := newBed(t, m, "web@a", "db@b", "-legacy@b")
		b.enrol()
		for _, f := range families {
			port := uint16(8080 + f)
			l, err := b.net.Pod("db").NS.Listen(t.Context(), "tcp", netip.AddrPortFrom(b.at("db", f, 0).Addr(), port).String())
			require.NoError(t, err)
			defer l.Close()
			serveEcho(l)
			began := time.Now()
			for {
				c, err := b.dial("legacy", b.at("db", f, port))
				if err != nil {
					require.ErrorContains(t, err, "connection refused")
					require.Less(t, time.Since(began), 5*time.Second)
					continue
				}
				err = cut(c)
				require.Error(t, err, "it was reached in clear after %v", time.Since(began))
				_ = c.Close()
				break
			}
			t.Logf("captured after %v", time.Since(began))
			b.reaches("web", b.at("db", f, port), secret)
			require.NoError(t, l.Close())
			began = time.Now()
			for {
				c, err := b.dial("legacy", b.at("db", f, port))
				if err != nil {
					require.ErrorContains(t, err, "connection refused")
					break
				}
				_ = c.Close()
				require.Less(t, time.Since(began), 5*time.Second)
			}
		}
	})
}
