package nat_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

func TestAffinity(t *testing.T) {
	needs(t)
	cluster := nstest.NewCluster(t, 1, 4)
	node := cluster.Nodes[0]
	serve(t, node.Pods[1:]...)
	c := client(t, node.NS)
	sticky := func(timeout time.Duration, pods ...nstest.End) nat.State {
		s := nat.State{Forwards: append(forwards(pods...), nodePorts(nat.MasqueradeAll, pods...)...)}
		for i := range s.Forwards {
			s.Forwards[i].Affinity = timeout
		}
		return s
	}
	const long = 3 * time.Hour
	want := sticky(long, node.Pods[1:]...)
	sync(t, c, want)
	servers := func(t *testing.T, from nstest.End, network string, to netip.AddrPort) map[string]bool {
		hits := map[string]bool{}
		for range 20 {
			hits[nstest.Reaches(t, from.NS, network, to).Server] = true
		}
		return hits
	}
	each(t, func(t *testing.T, network string, v6 bool) {
		for _, to := range []netip.AddrPort{netip.AddrPortFrom(service[v6], 80), netip.AddrPortFrom(node.Addr(v6), 30080)} {
			require.Len(t, servers(t, node.Pods[0], network, to), 1, "a pod keeps its target")
			require.Len(t, servers(t, nstest.End{NS: node.NS}, network, to), 1, "the host keeps its target")
		}
	})
	got, err := client(t, node.NS).Read(within(t))
	require.NoError(t, err)
	require.Empty(t, nat.Diff(got, want).String())
	require.True(t, plan(t, client(t, node.NS), want).Empty(), "what was learnt is no drift")
	nstest.Run(t, node.NS, "nft", "list", "ruleset")

	// The target that goes is forgotten at once; clients of others keep theirs.
	each(t, func(t *testing.T, network string, v6 bool) {
		to := netip.AddrPortFrom(service[v6], 80)
		mine := nstest.Reaches(t, node.Pods[0].NS, network, to).Server
		for round := range 6 {
			stay := node.Pods[1:]
			if round%2 == 0 {
				stay = without(stay, v6, mine)
			} else {
				stay = []nstest.End{find(stay, v6, mine), stay[round%3]}
			}
			sync(t, c, sticky(long, stay...))
			hits := servers(t, node.Pods[0], network, to)
			require.Len(t, hits, 1)
			if round%2 == 0 {
				require.NotContains(t, hits, mine)
			} else {
				require.Contains(t, hits, mine)
			}
			for s := range hits {
				mine = s
			}
		}
		sync(t, c, want)
	})

	// Learning ends with the timeout, and without affinity.
	sync(t, c, sticky(time.Second, node.Pods[1:]...))
	each(t, func(t *testing.T, network string, v6 bool) {
		to := netip.AddrPortFrom(service[v6], 80)
		require.Eventually(t, func() bool {
			a := nstest.Reaches(t, node.Pods[0].NS, network, to).Server
			time.Sleep(1200 * time.Millisecond)
			return nstest.Reaches(t, node.Pods[0].NS, network, to).Server != a
		}, 30*time.Second, time.Millisecond)
	})
	sync(t, c, sticky(0, node.Pods[1:]...))
	each(t, func(t *testing.T, network string, v6 bool) {
		require.Greater(t, len(servers(t, node.Pods[0], network, netip.AddrPortFrom(service[v6], 80))), 1)
	})
}

func find(pods []nstest.End, v6 bool, label string) nstest.End {
	for _, p := range pods {
		if p.Addr(v6).String() == label {
			return p
		}
	}
	panic(label)
}

func without(pods []nstest.End, v6 bool, label string) []nstest.End {
	var out []nstest.End
	for _, p := range pods {
		if p.Addr(v6).String() != label {
			out = append(out, p)
		}
	}
	return out
}
