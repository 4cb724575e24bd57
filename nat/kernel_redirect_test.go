package nat_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

func TestRedirect(t *testing.T) {
	needs(t)
	host, peer := nstest.Pair(t)
	for _, at := range []string{":8080", ":8081"} {
		nstest.ServeTCP(t, host.NS, at, at)
		nstest.ServeUDP(t, host.NS, at, at)
	}
	c := client(t, host.NS)
	state := func(to uint16, own bool) nat.State {
		var s nat.State
		for _, proto := range []nat.Proto{nat.TCP, nat.UDP, nat.SCTP} {
			s.Redirects = append(s.Redirects, nat.Redirect{Port: 80, Proto: proto, To: to, Own: own, Name: "web"})
		}
		return s
	}
	for _, want := range []nat.State{state(8080, false), state(8081, true), state(8080, true), state(8081, false)} {
		sync(t, c, want)
		r := want.Redirects[0]
		each(t, func(t *testing.T, network string, v6 bool) {
			to := netip.AddrPortFrom(host.Addr(v6), 80)
			a := nstest.Reaches(t, peer.NS, network, to)
			require.Equal(t, netip.AddrPortFrom(host.Addr(v6), r.To), a.Local)
			require.Equal(t, peer.Addr(v6), a.Client.Addr())
			loopback := map[bool]netip.Addr{false: netip.AddrFrom4([4]byte{127, 0, 0, 1}), true: netip.IPv6Loopback()}[v6]
			for _, addr := range []netip.Addr{host.Addr(v6), loopback} {
				to := netip.AddrPortFrom(addr, 80)
				if !r.Own {
					nstest.Refused(t, host.NS, network, to)
					continue
				}
				a := nstest.Reaches(t, host.NS, network, to)
				require.Equal(t, netip.AddrPortFrom(loopback, r.To), a.Local)
				require.Equal(t, addr, a.Client.Addr())
			}
			// Other ports are as they were.
			require.Equal(t, uint16(8080), nstest.Reaches(t, peer.NS, network, netip.AddrPortFrom(host.Addr(v6), 8080)).Local.Port())
			nstest.Refused(t, peer.NS, network, netip.AddrPortFrom(host.Addr(v6), 81))
		})
		got, err := client(t, host.NS).Read(within(t))
		require.NoError(t, err)
		require.Empty(t, nat.Diff(got, want).String())
	}
	nstest.Run(t, host.NS, "nft", "list", "ruleset")
	nstest.Run(t, host.NS, "nft", "-j", "list", "ruleset")
	require.Contains(t, nstest.Run(t, host.NS, "nft", "list", "map", "inet", "podplumb-nat", "redirects"), `sctp . 80 comment "web" : 8081`)
	sync(t, c, nat.State{})
	each(t, func(t *testing.T, network string, v6 bool) {
		nstest.Refused(t, peer.NS, network, netip.AddrPortFrom(host.Addr(v6), 80))
	})
}

// A redirect is for what comes to the host, not for what passes it; a forward
// of the address comes before it, it before a node port.
func TestRedirectOrder(t *testing.T) {
	needs(t)
	cluster := nstest.NewCluster(t, 1, 2)
	cluster.RouteDirectly(t)
	node, pods := cluster.Nodes[0], cluster.Nodes[0].Pods
	serve(t, pods...)
	nstest.ServeTCP(t, node.NS, ":8080", "node")
	nstest.ServeUDP(t, node.NS, ":8080", "node")
	var s nat.State
	for _, v6 := range families {
		for _, proto := range protos {
			s.Forwards = append(s.Forwards,
				nat.Forward{Addr: node.Addr(v6), Port: 80, Proto: proto, To: []nat.Target{{Addr: pods[0].Addr(v6), Port: 8080}}},
				nat.Forward{Addr: node.Addr(v6), Port: 81, Proto: proto})
		}
	}
	for _, proto := range protos {
		for _, port := range []uint16{80, 81, 82} {
			s.Redirects = append(s.Redirects, nat.Redirect{Port: port, Proto: proto, To: 8080})
		}
	}
	c := client(t, node.NS)
	sync(t, c, s)
	each(t, func(t *testing.T, network string, v6 bool) {
		at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(node.Addr(v6), port) }
		require.Equal(t, pods[0].Addr(v6).String(), nstest.Reaches(t, cluster.Underlay, network, at(80)).Server)
		nstest.Refused(t, cluster.Underlay, network, at(81))
		require.Equal(t, "node", nstest.Reaches(t, cluster.Underlay, network, at(82)).Server)
		nstest.Refused(t, cluster.Underlay, network, netip.AddrPortFrom(pods[0].Addr(v6), 82))
		// A node port comes later: an Update can bring it in.
		_, err := c.Update(within(t), nat.Change{Set: []nat.Forward{{
			Addr: anyAddr[v6], Port: 82, Proto: protos[network], To: []nat.Target{{Addr: pods[1].Addr(v6), Port: 8080}},
		}}})
		require.NoError(t, err)
		require.Equal(t, "node", nstest.Reaches(t, cluster.Underlay, network, at(82)).Server)
	})
}
