package nat_test

import (
	"context"
	"net/netip"
	"os/exec"
	stdsync "sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
)

func needs(t testing.TB) {
	t.Helper()
	nstest.Require(t, nstest.NFTables)
	loadModules.Do(func() {
		// A modular kernel loads conntrack with the first chain of type nat;
		// nothing loads what lets netfilter see the packets of a bridge.
		_ = exec.Command("/sbin/modprobe", "br_netfilter").Run()
		_, _ = nstest.TryRun(t, nstest.New(t), "nft", "add table ip load; add chain ip load nat { type nat hook prerouting priority dstnat; }")
	})
	nstest.Require(t, nstest.Conntrack)
	nstest.Require(t, nstest.BrNetfilter)
}

var loadModules stdsync.Once

func client(t testing.TB, ns *netns.NS, change ...func(*nat.Config)) *nat.Client {
	t.Helper()
	c := nat.Config{NetNS: ns}
	for _, f := range change {
		f(&c)
	}
	cl, err := nat.New(c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = cl.Close() })
	return cl
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func sync(t testing.TB, c *nat.Client, want nat.State) nat.Plan {
	t.Helper()
	p, err := c.Sync(within(t), want)
	require.NoError(t, err)
	again, err := c.Sync(within(t), want)
	require.NoError(t, err)
	require.True(t, again.Empty(), "the second Sync has something to do:\n%s", again)
	return p
}

// Addresses of services; nothing but a forward makes them work.
var (
	service = map[bool]netip.Addr{false: netip.MustParseAddr("10.96.0.10"), true: netip.MustParseAddr("fd96::10")}
	ranges  = []nat.Virtual{
		{Prefix: netip.MustParsePrefix("10.96.0.0/16"), Miss: nat.Drop},
		{Prefix: netip.MustParsePrefix("fd96::/108"), Miss: nat.Drop},
	}
	families = map[string]bool{"v4": false, "v6": true}
	protos   = map[string]nat.Proto{"tcp": nat.TCP, "udp": nat.UDP}
)

// serve runs servers on port 8080 of the pods, labelled by their addresses.
func serve(t testing.TB, pods ...nstest.End) {
	t.Helper()
	for _, p := range pods {
		for _, a := range p.Addrs() {
			at := netip.AddrPortFrom(a, 8080).String()
			nstest.ServeTCP(t, p.NS, at, a.String())
			nstest.ServeUDP(t, p.NS, at, a.String())
		}
	}
}

// forwards leads port 80 of the service addresses to the pods' port 8080, for
// both families and protocols.
func forwards(pods ...nstest.End) []nat.Forward {
	var list []nat.Forward
	for _, v6 := range families {
		for _, proto := range protos {
			f := nat.Forward{Name: "default/web", Addr: service[v6], Port: 80, Proto: proto}
			for _, p := range pods {
				f.To = append(f.To, nat.Target{Addr: p.Addr(v6), Port: 8080})
			}
			list = append(list, f)
		}
	}
	return list
}

// each runs f for both families and protocols.
func each(t *testing.T, f func(t *testing.T, network string, v6 bool)) {
	t.Helper()
	for family, v6 := range families {
		for network := range protos {
			t.Run(family+"/"+network, func(t *testing.T) { f(t, network, v6) })
		}
	}
}

func TestForward(t *testing.T) {
	needs(t)
	node := nstest.NewCluster(t, 1, 3).Nodes[0]
	serve(t, node.Pods[1:]...)
	c := client(t, node.NS)
	want := nat.State{Virtual: ranges, Forwards: forwards(node.Pods[1:]...)}
	sync(t, c, want)
	each(t, func(t *testing.T, network string, v6 bool) {
		to := netip.AddrPortFrom(service[v6], 80)
		hits := map[string]int{}
		for range 40 {
			a := nstest.Reaches(t, node.Pods[0].NS, network, to)
			require.Equal(t, node.Pods[0].Addr(v6), a.Client.Addr(), "a pod is seen under its own address")
			hits[a.Server]++
		}
		require.Len(t, hits, 2, "connections spread over the targets")
		// The node itself.
		nstest.Reaches(t, node.NS, network, to)
		// Another port of a forward's address, and an address of the range without forward.
		nstest.Refused(t, node.Pods[0].NS, network, netip.AddrPortFrom(service[v6], 81))
		nstest.Refused(t, node.NS, network, netip.AddrPortFrom(service[v6], 81))
		nstest.TimesOut(t, node.Pods[0].NS, network, netip.AddrPortFrom(service[v6].Next(), 80))
	})

	nstest.Run(t, node.NS, "nft", "-j", "list", "ruleset")
	got, err := c.Read(within(t))
	require.NoError(t, err)
	require.True(t, nat.Diff(got, want).Empty(), "%s", nat.Diff(got, want))
	sync(t, c, nat.State{})
	require.Empty(t, nstest.Run(t, node.NS, "nft", "list", "ruleset"))
}
