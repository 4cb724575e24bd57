//go:build linux

package policy_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/policy"
)

// IPVS never forwards: it receives a packet and sends it to a real server. Policies see it on that way.
func TestBehindIPVS(t *testing.T) {
	needs(t)
	nstest.Require(t, nstest.IPVS)
	c := newCluster(t)
	c.serve(t, "db", 8080)
	servers, err := ipvs.New(ipvs.Config{NetNS: c.node.NS, Owns: ipvs.Everything()})
	require.NoError(t, err)
	defer servers.Close()
	service := map[bool]netip.Addr{false: netip.MustParseAddr("10.96.0.10"), true: netip.MustParseAddr("fd96::10")}
	var want ipvs.State
	for v6, addr := range service {
		bits := map[bool]int{false: 32, true: 128}[v6]
		nstest.Route(t, c.Nodes[1].NS, netip.PrefixFrom(addr, bits), c.node.Addr(v6))
		nstest.Run(t, c.node.NS, "ip", "route", "add", "local", netip.PrefixFrom(addr, bits).String(), "dev", "lo")
		for _, proto := range []ipvs.Protocol{ipvs.TCP, ipvs.UDP} {
			want.Services = append(want.Services, ipvs.Service{
				Key:          ipvs.Key{Protocol: proto, Address: netip.AddrPortFrom(addr, 80)},
				Destinations: []ipvs.Destination{{Address: netip.AddrPortFrom(c.ends["db"].Addr(v6), 8080), Weight: 1}},
			})
		}
	}
	_, err = servers.Sync(within(t), want)
	require.NoError(t, err)
	require.NoError(t, c.node.NS.SetSysctl("net.ipv4.vs.conntrack", "1"))
	cl := client(t, c.node.NS, func(c *policy.Config) { c.Node = "node0" })
	ask := func(from string, allowed bool) {
		t.Helper()
		for v6, addr := range service {
			for _, network := range []string{"tcp", "udp"} {
				require.Equal(t, allowed, reaches(c.ends[from].NS, network, netip.AddrPortFrom(addr, 80), allowed), "%s, %s, v6 %t", from, network, v6)
			}
		}
	}
	ask("far-web", true)
	ask("far-db", true)
	sync(t, cl, c.with(t, `{"metadata":{"namespace":"default","name":"in"},"spec":{"podSelector":{"matchLabels":{"app":"db"}},"policyTypes":["Ingress","Egress"],"ingress":[
		{"from":[{"podSelector":{"matchLabels":{"app":"far-web"}}}],"ports":[{"port":8080},{"port":8080,"protocol":"UDP"}]}]}}`))
	ask("far-web", true)
	ask("far-db", false)
	ask("node0", true)
}
