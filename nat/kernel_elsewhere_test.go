package nat_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
)

// TestElsewhere: what another load balancer leads is let through to it, guarded and masqueraded as the forward says. Here the other one is
// a table of its own, and then a server of the host that has the address by a local route.
func TestElsewhere(t *testing.T) {
	needs(t)
	cluster := nstest.NewCluster(t, 1, 2)
	cluster.RouteDirectly(t)
	node, outside := cluster.Nodes[0], cluster.Underlay
	serve(t, node.Pods[1])
	for v6, p := range map[bool]string{false: "10.96.0.0/16", true: "fd96::/108"} {
		nstest.Route(t, outside, netip.MustParsePrefix(p), node.Addr(v6))
	}
	c := client(t, node.NS)
	want := nat.State{Virtual: ranges, Forwards: forwards(node.Pods[1])}
	for i := range want.Forwards {
		want.Forwards[i].Elsewhere, want.Forwards[i].Masquerade = true, nat.MasqueradeRemote
	}
	sync(t, c, want)
	got, err := client(t, node.NS).Read(within(t))
	require.NoError(t, err)
	require.Empty(t, nat.Diff(got, want).String())

	// Later than nat's own hook, so that what nat leads would not come here.
	nstest.Run(t, node.NS, "nft", "add table inet other; add chain inet other pre { type nat hook prerouting priority -90; };"+
		"add rule inet other pre ip daddr 10.96.0.10 meta l4proto { tcp, udp } th dport 80 dnat ip to "+node.Pods[1].Addr(false).String()+":8080;"+
		"add rule inet other pre ip6 daddr fd96::10 meta l4proto { tcp, udp } th dport 80 dnat ip6 to ["+node.Pods[1].Addr(true).String()+"]:8080")
	each(t, func(t *testing.T, network string, v6 bool) {
		a := nstest.Reaches(t, outside, network, netip.AddrPortFrom(service[v6], 80))
		require.Equal(t, node.Pods[1].Addr(v6).String(), a.Server)
		own := map[bool]string{false: "192.168.50.1", true: "fd50::1"}[v6]
		require.NotEqual(t, own, a.Client.Addr().String(), "masqueraded")
	})
	nstest.Run(t, node.NS, "nft", "delete table inet other")

	for _, p := range []string{"10.96.0.0/16", "fd96::/108"} {
		nstest.Run(t, node.NS, "ip", "route", "add", "local", p, "dev", "lo")
	}
	for _, port := range []string{":80", ":81"} {
		nstest.ServeTCP(t, node.NS, port, "host")
		nstest.ServeUDP(t, node.NS, port, "host")
	}
	each(t, func(t *testing.T, network string, v6 bool) {
		other := netip.AddrPortFrom(service[v6].Next(), 80)
		for _, from := range []*netns.NS{outside, node.NS} {
			if network == "tcp" { // a datagram's answer may come from another address
				require.Equal(t, "host", nstest.Reaches(t, from, network, netip.AddrPortFrom(service[v6], 80)).Server)
			}
			nstest.Refused(t, from, network, netip.AddrPortFrom(service[v6], 81))
		}
		nstest.TimesOut(t, outside, network, other)
	})
	for i := range want.Forwards {
		p := netip.MustParsePrefix("198.51.100.0/24")
		if want.Forwards[i].Addr.Is6() {
			p = netip.MustParsePrefix("2001:db8::/32")
		}
		want.Forwards[i].Allow = []netip.Prefix{p}
	}
	sync(t, c, want)
	each(t, func(t *testing.T, network string, v6 bool) {
		nstest.TimesOut(t, outside, network, netip.AddrPortFrom(service[v6], 80))
	})

	want.Forwards[0].Addr = anyAddr[want.Forwards[0].Addr.Is6()]
	want.Forwards[1].Algorithm = nat.Maglev
	_, err = c.Sync(within(t), want)
	require.ErrorContains(t, err, "forwards[0].elsewhere: a node port cannot be left to others")
	require.ErrorContains(t, err, "forwards[1].elsewhere: algorithm and affinity are for who leads the connections")
}
