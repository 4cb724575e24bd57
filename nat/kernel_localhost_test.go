package nat_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

var loopbacks = map[bool]netip.Addr{false: netip.MustParseAddr("127.0.0.1"), true: netip.IPv6Loopback()}

// Node ports, and forwards of a loopback address, are served on the loopback
// addresses, without a sysctl.
func TestLocalhost(t *testing.T) {
	needs(t)
	cluster := nstest.NewCluster(t, 2, 2)
	cluster.RouteDirectly(t)
	node, far := cluster.Nodes[0], cluster.Nodes[1]
	serve(t, node.Pods[0], far.Pods[0])
	own := map[bool]netip.Addr{}
	for _, v6 := range families {
		own[v6] = map[bool]netip.Addr{false: node.PodV4.Addr().Next(), true: node.PodV6.Addr().Next()}[v6]
		for _, port := range []uint16{22, 8080} {
			for _, a := range []netip.Addr{loopbacks[v6], node.Addr(v6)} {
				at := netip.AddrPortFrom(a, port).String()
				nstest.ServeTCP(t, node.NS, at, "host")
				nstest.ServeUDP(t, node.NS, at, "host")
			}
		}
	}
	c := client(t, node.NS)
	host := nstest.End{NS: node.NS, V4: node.V4, V6: node.V6} // a target on the host itself
	want := nat.State{Forwards: nodePorts(nat.MasqueradeHairpin, node.Pods[0], far.Pods[0], host), Localhost: []netip.Addr{own[true], own[false]}}
	direct := forwards(node.Pods[0])
	for i := range direct {
		direct[i].Addr, direct[i].Port = loopbacks[direct[i].Addr.Is6()], 8080
	}
	want.Forwards = append(want.Forwards, direct...)
	sync(t, c, want)
	each(t, func(t *testing.T, network string, v6 bool) {
		to := netip.AddrPortFrom(loopbacks[v6], 30080)
		hits := map[string]bool{}
		for range 30 {
			a := nstest.Reaches(t, node.NS, network, to)
			require.False(t, a.Client.Addr().IsLoopback(), "a target is never asked from a loopback address")
			hits[a.Server] = true
		}
		require.Equal(t, map[string]bool{node.Pods[0].Addr(v6).String(): true, far.Pods[0].Addr(v6).String(): true, "host": true}, hits)
		// The address itself, its other ports, and what is not for the host.
		require.Equal(t, node.Pods[0].Addr(v6).String(), nstest.Reaches(t, node.NS, network, netip.AddrPortFrom(loopbacks[v6], 8080)).Server)
		require.Equal(t, "host", nstest.Reaches(t, node.NS, network, netip.AddrPortFrom(loopbacks[v6], 22)).Server)
		require.Equal(t, "host", nstest.Reaches(t, node.NS, network, netip.AddrPortFrom(node.Addr(v6), 8080)).Server)
		require.Contains(t, hits, nstest.Reaches(t, node.NS, network, netip.AddrPortFrom(node.Addr(v6), 30080)).Server)
		nstest.Refused(t, node.Pods[1].NS, network, to)
		// From the very address in its place, loopback servers are reached as ever.
		var conn net.Conn
		require.NoError(t, node.NS.Do(func() (err error) {
			conn, err = dialFrom(own[v6], network, netip.AddrPortFrom(loopbacks[v6], 22))
			return err
		}))
		defer conn.Close()
		a, err := (&nstest.Flow{Conn: conn}).Ask()
		require.NoError(t, err)
		require.Equal(t, own[v6], a.Client.Addr())
	})
	value, err := node.NS.Sysctl("net.ipv4.conf.all.route_localnet")
	require.NoError(t, err)
	require.Equal(t, "0", value)
	nstest.Run(t, node.NS, "nft", "list", "ruleset")
	got, err := client(t, node.NS).Read(within(t))
	require.NoError(t, err)
	require.Empty(t, nat.Diff(got, want).String())

	for _, empty := range []nat.Refusal{nat.Reject, nat.Drop} {
		want.Forwards = nodePorts(nat.MasqueradeHairpin)
		for i := range want.Forwards {
			want.Forwards[i].Empty = empty
		}
		sync(t, c, want)
		each(t, func(t *testing.T, network string, v6 bool) {
			to := netip.AddrPortFrom(loopbacks[v6], 30080)
			if empty == nat.Drop {
				_, err := ask(nstest.End{NS: node.NS}, network, to)
				require.Error(t, err)
				return
			}
			nstest.Refused(t, node.NS, network, to)
		})
	}
	// Without the setting the port is the host's own.
	want.Localhost = nil
	sync(t, c, want)
	each(t, func(t *testing.T, network string, v6 bool) {
		to := netip.AddrPortFrom(loopbacks[v6], 30080)
		nstest.ServeTCP(t, node.NS, to.String(), "host")
		nstest.ServeUDP(t, node.NS, to.String(), "host")
		require.Equal(t, "host", nstest.Reaches(t, node.NS, network, to).Server)
	})
	want.Forwards = direct
	_, err = c.Sync(within(t), want)
	require.ErrorContains(t, err, "needs an address in localhost")
	for name, fault := range map[string]nat.State{
		"localhost[0]: 127.0.0.1 is a loopback address":       {Localhost: []netip.Addr{loopbacks[false]}},
		"localhost[1]: fd00::2 is of the family of localhost": {Localhost: []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")}},
	} {
		require.ErrorContains(t, fault.Validate(), name, fmt.Sprint(fault.Localhost))
	}
	// A change of one thing brings it back.
	_, err = client(t, node.NS, func(c *nat.Config) { c.Table = "other" }).Update(within(t), nat.Change{
		Set: nodePorts(nat.MasqueradeHairpin, node.Pods[0])[:1], SetLocalhost: []netip.Addr{own[false], own[true]},
	})
	require.NoError(t, err)
	got, err = client(t, node.NS, func(c *nat.Config) { c.Table = "other" }).Read(within(t))
	require.NoError(t, err)
	require.Equal(t, []netip.Addr{own[false], own[true]}, got.Localhost)
}
