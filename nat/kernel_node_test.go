package nat_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

var anyAddr = map[bool]netip.Addr{false: netip.IPv4Unspecified(), true: netip.IPv6Unspecified()}

// nodePorts leads port 30080 of the host's addresses to the pods.
func nodePorts(m nat.Masquerade, pods ...nstest.End) []nat.Forward {
	list := forwards(pods...)
	for i, f := range list {
		list[i].Addr, list[i].Port, list[i].Masquerade = anyAddr[f.Addr.Is6()], 30080, m
	}
	return list
}

func TestNodePort(t *testing.T) {
	needs(t)
	cluster := nstest.NewCluster(t, 2, 2)
	cluster.RouteDirectly(t)
	node, far, outside := cluster.Nodes[0], cluster.Nodes[1], cluster.Underlay
	serve(t, node.Pods[1], far.Pods[0])
	for v6, prefix := range map[bool]string{false: "10.96.0.0/16", true: "fd96::/108"} {
		nstest.Route(t, outside, netip.MustParsePrefix(prefix), node.Addr(v6))
		at := netip.AddrPortFrom(node.Addr(v6), 22).String()
		nstest.ServeTCP(t, node.NS, at, "host")
		nstest.ServeUDP(t, node.NS, at, "host")
		loopback := map[bool]string{false: "127.0.0.1:30080", true: "[::1]:30080"}[v6]
		nstest.ServeTCP(t, node.NS, loopback, "host")
		nstest.ServeUDP(t, node.NS, loopback, "host")
	}
	c := client(t, node.NS)
	gateway := map[bool]netip.Addr{false: node.PodV4.Addr().Next(), true: node.PodV6.Addr().Next()}
	// A forward of the same port on another address, which masquerades less.
	unlike := forwards(node.Pods[1])
	for i := range unlike {
		unlike[i].Port = 30080
	}
	want := nat.State{Forwards: append(nodePorts(nat.MasqueradeAll, node.Pods[1], far.Pods[0]), unlike...)}
	sync(t, c, want)
	each(t, func(t *testing.T, network string, v6 bool) {
		for _, own := range []netip.Addr{node.Addr(v6), gateway[v6]} {
			if own == gateway[v6] && network != "" {
				nstest.Route(t, outside, netip.PrefixFrom(own, own.BitLen()), node.Addr(v6))
			}
			hits := map[string]netip.Addr{}
			for range 30 {
				a := nstest.Reaches(t, outside, network, netip.AddrPortFrom(own, 30080))
				hits[a.Server] = a.Client.Addr()
			}
			require.Equal(t, map[string]netip.Addr{
				node.Pods[1].Addr(v6).String(): gateway[v6], far.Pods[0].Addr(v6).String(): node.Addr(v6),
			}, hits, "both targets, under an address of the host")
			nstest.Run(t, outside, "ip", "route", "flush", "cache")
			if own == gateway[v6] {
				nstest.Run(t, outside, "ip", "route", "del", own.String())
			}
		}
		// From a pod and from the host itself.
		nstest.Reaches(t, node.Pods[0].NS, network, netip.AddrPortFrom(node.Addr(v6), 30080))
		nstest.Reaches(t, node.NS, network, netip.AddrPortFrom(node.Addr(v6), 30080))
		// Not on loopback, not on other hosts, not on other ports.
		loopback := map[bool]netip.Addr{false: netip.MustParseAddr("127.0.0.1"), true: netip.IPv6Loopback()}[v6]
		require.Equal(t, "host", nstest.Reaches(t, node.NS, network, netip.AddrPortFrom(loopback, 30080)).Server)
		require.Equal(t, "host", nstest.Reaches(t, outside, network, netip.AddrPortFrom(node.Addr(v6), 22)).Server)
		nstest.Refused(t, node.Pods[0].NS, network, netip.AddrPortFrom(far.Addr(v6), 30080))
		// The other forward of the port keeps the client's address.
		require.Equal(t, outsideAddr(v6), nstest.Reaches(t, outside, network, netip.AddrPortFrom(service[v6], 30080)).Client.Addr())
	})
	got, err := client(t, node.NS).Read(within(t))
	require.NoError(t, err)
	require.Empty(t, nat.Diff(got, want).String())
	require.True(t, plan(t, client(t, node.NS), want).Empty())

	// Only on some addresses.
	want.Local = []netip.Prefix{node.PodV4, node.PodV6}
	sync(t, c, want)
	each(t, func(t *testing.T, network string, v6 bool) {
		nstest.Refused(t, outside, network, netip.AddrPortFrom(node.Addr(v6), 30080))
		nstest.Reaches(t, node.Pods[0].NS, network, netip.AddrPortFrom(gateway[v6], 30080))
	})
	got, err = client(t, node.NS).Read(within(t))
	require.NoError(t, err)
	require.Empty(t, nat.Diff(got, want).String())

	// Without targets: refused, on those addresses only.
	for _, empty := range []nat.Refusal{nat.Reject, nat.Drop} {
		want.Forwards = nodePorts(nat.MasqueradeHairpin)
		for i := range want.Forwards {
			want.Forwards[i].Empty, want.Forwards[i].Port = empty, 22
		}
		sync(t, c, want)
		each(t, func(t *testing.T, network string, v6 bool) {
			require.Equal(t, "host", nstest.Reaches(t, outside, network, netip.AddrPortFrom(node.Addr(v6), 22)).Server)
			check := map[nat.Refusal]func(testing.TB){
				nat.Reject: func(t testing.TB) { nstest.Refused(t, node.Pods[0].NS, network, netip.AddrPortFrom(gateway[v6], 22)) },
				nat.Drop:   func(t testing.TB) { nstest.TimesOut(t, node.Pods[0].NS, network, netip.AddrPortFrom(gateway[v6], 22)) },
			}
			check[empty](t)
		})
	}
	want.Local = nil
	sync(t, c, want)
	each(t, func(t *testing.T, network string, v6 bool) {
		nstest.TimesOut(t, outside, network, netip.AddrPortFrom(node.Addr(v6), 22))
	})
}

// A UDP client of a node port follows when the target goes.
func TestNodePortUDP(t *testing.T) {
	needs(t)
	cluster := nstest.NewCluster(t, 1, 3)
	node := cluster.Nodes[0]
	serve(t, node.Pods[1:]...)
	c := client(t, node.NS)
	for name, v6 := range families {
		t.Run(name, func(t *testing.T) {
			sync(t, c, nat.State{Forwards: nodePorts(nat.MasqueradeHairpin, node.Pods[1])})
			flow, err := nstest.Dial(t, cluster.Underlay, "udp", netip.AddrPortFrom(node.Addr(v6), 30080))
			require.NoError(t, err)
			for _, pod := range []nstest.End{node.Pods[1], node.Pods[2]} {
				sync(t, c, nat.State{Forwards: nodePorts(nat.MasqueradeHairpin, pod)})
				a, err := flow.Ask()
				require.NoError(t, err)
				require.Equal(t, pod.Addr(v6).String(), a.Server)
			}
		})
	}
}

// No node port stands in for a forward of the address itself that has no
// targets.
func TestNodePortBehindForward(t *testing.T) {
	needs(t)
	cluster := nstest.NewCluster(t, 1, 1)
	node, outside := cluster.Nodes[0], cluster.Underlay
	serve(t, node.Pods[0])
	c := client(t, node.NS)
	for _, empty := range []nat.Refusal{nat.Reject, nat.Drop} {
		want := nat.State{Forwards: nodePorts(nat.MasqueradeAll, node.Pods[0])}
		sync(t, c, want)
		each(t, func(t *testing.T, network string, v6 bool) {
			nstest.Reaches(t, outside, network, netip.AddrPortFrom(node.Addr(v6), 30080))
		})
		for _, f := range want.Forwards {
			f.Addr, f.To, f.Empty = node.Addr(f.Addr.Is6()), nil, empty
			want.Forwards = append(want.Forwards, f)
		}
		sync(t, c, want)
		each(t, func(t *testing.T, network string, v6 bool) {
			to := netip.AddrPortFrom(node.Addr(v6), 30080)
			if empty == nat.Drop {
				nstest.TimesOut(t, outside, network, to)
				return
			}
			nstest.Refused(t, outside, network, to)
			nstest.Refused(t, node.NS, network, to)
		})
	}
}
