package nstest_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
)

var networks = []string{"tcp", "udp"}

func TestPair(t *testing.T) {
	nstest.Leaks(t)
	a, b := nstest.Pair(t)
	tcp := nstest.ServeTCP(t, b.NS, ":7", "b")
	udp := nstest.ServeUDP(t, b.NS, ":7", "b")
	require.Equal(t, uint16(7), tcp.Port())
	require.Equal(t, uint16(7), udp.Port())
	for i, server := range b.Addrs() {
		for _, network := range networks {
			answer := nstest.Reaches(t, a.NS, network, netip.AddrPortFrom(server, 7))
			require.Equal(t, "b", answer.Server)
			require.Equal(t, a.Addrs()[i], answer.Client.Addr())
			require.Equal(t, netip.AddrPortFrom(server, 7), answer.Local)
			nstest.Refused(t, a.NS, network, netip.AddrPortFrom(server, 8))
		}
	}
	// A second address of the server: UDP answers from the one that was asked.
	nstest.Address(t, nstest.End{NS: b.NS, Link: b.Link, V4: netip.MustParsePrefix("192.0.2.77/24"), V6: netip.MustParsePrefix("2001:db8::77/64")})
	nstest.Reaches(t, a.NS, "udp", netip.MustParseAddrPort("192.0.2.77:7"))
	nstest.Reaches(t, a.NS, "udp", netip.MustParseAddrPort("[2001:db8::77]:7"))
	// A route into the void is silent.
	nstest.Void(t, a, b, netip.MustParsePrefix("198.51.100.0/24"))
	nstest.Void(t, a, b, netip.MustParsePrefix("2001:db8:1::/64"))
	for _, network := range networks {
		nstest.TimesOut(t, a.NS, network, netip.MustParseAddrPort("198.51.100.1:7"))
		nstest.TimesOut(t, a.NS, network, netip.MustParseAddrPort("[2001:db8:1::1]:7"))
	}
}

func TestCluster(t *testing.T) {
	nstest.Leaks(t)
	c := nstest.NewCluster(t, 2, 2)
	client, server := c.Nodes[0].Pods[0], c.Nodes[1].Pods[1]
	nstest.ServeTCP(t, server.NS, ":80", "server")
	nstest.ServeTCP(t, c.Nodes[0].Pods[1].NS, ":80", "sibling")
	c.RouteDirectly(t)
	for i := range 2 {
		answer := nstest.Reaches(t, client.NS, "tcp", netip.AddrPortFrom(server.Addrs()[i], 80))
		require.Equal(t, client.Addrs()[i], answer.Client.Addr())
		nstest.Reaches(t, client.NS, "tcp", netip.AddrPortFrom(c.Nodes[0].Pods[1].Addrs()[i], 80))
		nstest.Reaches(t, c.Nodes[1].NS, "tcp", netip.AddrPortFrom(server.Addrs()[i], 80))
		nstest.Reaches(t, c.Underlay, "tcp", netip.AddrPortFrom(server.Addrs()[i], 80))
	}
}

func TestFlow(t *testing.T) {
	a, b := nstest.Pair(t)
	to := netip.AddrPortFrom(b.V6.Addr(), nstest.ServeTCP(t, b.NS, ":0", "b").Port())
	f, err := nstest.Dial(t, a.NS, "tcp", to)
	require.NoError(t, err)
	first, err := f.Ask()
	require.NoError(t, err)
	second, err := f.Ask()
	require.NoError(t, err)
	require.Equal(t, first, second, "one connection, one client address")
}

func TestNode(t *testing.T) {
	nstest.Leaks(t)
	node := nstest.NewNode(t, 2)
	nstest.ServeTCP(t, node.Pods[1].NS, ":80", "pod")
	for i, to := range node.Pods[1].Addrs() {
		require.Equal(t, node.Pods[0].Addrs()[i], nstest.Reaches(t, node.Pods[0].NS, "tcp", netip.AddrPortFrom(to, 80)).Client.Addr())
		nstest.Reaches(t, node.NS, "tcp", netip.AddrPortFrom(to, 80))
	}
	require.Contains(t, nstest.Run(t, node.NS, "ip", "-o", "addr", "show", node.Bridge), "10.244.0.1/24")
}
