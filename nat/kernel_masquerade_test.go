package nat_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

func TestNetworks(t *testing.T) {
	needs(t)
	cluster := nstest.NewCluster(t, 2, 2)
	cluster.RouteDirectly(t)
	near, far := cluster.Nodes[0], cluster.Nodes[1]
	outside := cluster.Underlay
	serve(t, far.Pods[0])
	for _, a := range []string{"192.168.50.1:8080", "[fd50::1]:8080"} {
		nstest.ServeTCP(t, outside, a, "outside")
		nstest.ServeUDP(t, outside, a, "outside")
	}
	c := client(t, near.NS)
	want := nat.State{
		Networks: []nat.Network{{Prefix: near.PodV4, Name: "pods of node0"}, {Prefix: near.PodV6}},
		Exclude:  []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/32")},
	}
	each(t, func(t *testing.T, network string, v6 bool) {
		a := nstest.Reaches(t, near.Pods[0].NS, network, netip.AddrPortFrom(outsideAddr(v6), 8080))
		require.Equal(t, near.Pods[0].Addr(v6), a.Client.Addr(), "nothing is translated before Sync")
	})
	sync(t, c, want)
	each(t, func(t *testing.T, network string, v6 bool) {
		pod := near.Pods[0]
		a := nstest.Reaches(t, pod.NS, network, netip.AddrPortFrom(outsideAddr(v6), 8080))
		require.Equal(t, near.Addr(v6), a.Client.Addr(), "leaves under the node's address")
		a = nstest.Reaches(t, pod.NS, network, netip.AddrPortFrom(far.Pods[0].Addr(v6), 8080))
		require.Equal(t, pod.Addr(v6), a.Client.Addr(), "pod to pod is not translated")
	})
	require.Contains(t, nstest.Run(t, near.NS, "nft", "list", "set", "inet", "podplumb-nat", "networks4"), `10.244.0.0/24 comment "pods of node0"`)

	// Neighbouring, nested and whole ranges come back as they went in.
	want.Networks = append(want.Networks,
		nat.Network{Prefix: netip.MustParsePrefix("10.244.1.0/24")}, nat.Network{Prefix: netip.MustParsePrefix("10.244.2.0/23")},
		nat.Network{Prefix: netip.MustParsePrefix("10.244.2.7/32")}, nat.Network{Prefix: netip.MustParsePrefix("255.0.0.0/8")},
		nat.Network{Prefix: netip.MustParsePrefix("fd44:0:0:1::/64")}, nat.Network{Prefix: netip.MustParsePrefix("ffff::/16")})
	want.Exclude = append(want.Exclude, netip.MustParsePrefix("0.0.0.0/0"))
	sync(t, c, want)
	got, err := client(t, near.NS).Read(within(t))
	require.NoError(t, err)
	require.Empty(t, nat.Diff(got, want).String())
	want.Networks = want.Networks[3:]
	sync(t, c, want)
	got, err = c.Read(within(t))
	require.NoError(t, err)
	require.Empty(t, nat.Diff(got, want).String())
}

func outsideAddr(v6 bool) netip.Addr {
	if v6 {
		return netip.MustParseAddr("fd50::1")
	}
	return netip.MustParseAddr("192.168.50.1")
}

func TestMasqueradeModes(t *testing.T) {
	needs(t)
	cluster := nstest.NewCluster(t, 2, 2)
	cluster.RouteDirectly(t)
	node, far := cluster.Nodes[0], cluster.Nodes[1]
	serve(t, node.Pods[0], far.Pods[0])
	// A bridge that lets netfilter see its packets sends them back out of
	// the port that they came in by only when told to.
	nstest.Run(t, node.NS, "bridge", "link", "set", "dev", "pod0", "hairpin", "on")
	// A client outside of the cluster that sends to the service over node.
	outside := cluster.Underlay
	for v6, prefix := range map[bool]string{false: "10.96.0.0/16", true: "fd96::/108"} {
		nstest.Route(t, outside, netip.MustParsePrefix(prefix), node.Addr(v6))
	}
	c := client(t, node.NS)
	seen := func(t *testing.T, from nstest.End, network string, v6 bool) netip.Addr {
		return nstest.Reaches(t, from.NS, network, netip.AddrPortFrom(service[v6], 80)).Client.Addr()
	}
	gateway := map[bool]netip.Addr{false: node.PodV4.Addr().Next(), true: node.PodV6.Addr().Next()}
	state := func(m nat.Masquerade, to nstest.End) nat.State {
		s := nat.State{
			Forwards: forwards(to),
			Exclude:  []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/32")},
		}
		for i := range s.Forwards {
			s.Forwards[i].Masquerade = m
		}
		return s
	}
	for _, m := range []nat.Masquerade{nat.MasqueradeHairpin, nat.MasqueradeRemote, nat.MasqueradeAll} {
		t.Run(m.String(), func(t *testing.T) {
			sync(t, c, state(m, node.Pods[0]))
			each(t, func(t *testing.T, network string, v6 bool) {
				require.Equal(t, gateway[v6], seen(t, node.Pods[0], network, v6), "a target that reaches itself")
				if m == nat.MasqueradeAll {
					require.Equal(t, gateway[v6], seen(t, node.Pods[1], network, v6))
				} else {
					require.Equal(t, node.Pods[1].Addr(v6), seen(t, node.Pods[1], network, v6))
				}
				from := nstest.End{NS: outside}
				if m == nat.MasqueradeHairpin {
					require.Equal(t, outsideAddr(v6), seen(t, from, network, v6))
				} else {
					require.Equal(t, gateway[v6], seen(t, from, network, v6))
				}
			})
			// To a target elsewhere, answers come back here only when masqueraded.
			sync(t, c, state(m, far.Pods[0]))
			each(t, func(t *testing.T, network string, v6 bool) {
				want := node.Pods[1].Addr(v6)
				if m == nat.MasqueradeAll {
					want = node.Addr(v6)
				}
				require.Equal(t, want, seen(t, node.Pods[1], network, v6))
			})
			got, err := client(t, node.NS).Read(within(t))
			require.NoError(t, err)
			require.Empty(t, nat.Diff(got, state(m, far.Pods[0])).String())
		})
	}
}
