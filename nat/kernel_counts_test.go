package nat_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

func counting(c *nat.Config) { c.Counters = true }

// Connections are counted when that is asked for, by forward and target.
func TestCounts(t *testing.T) {
	needs(t)
	node := nstest.NewCluster(t, 1, 3).Nodes[0]
	serve(t, node.Pods[1:]...)
	c := client(t, node.NS, counting)
	want := nat.State{Networks: []nat.Network{{Prefix: node.PodV4}, {Prefix: node.PodV6}}, Forwards: forwards(node.Pods[1:]...)}
	for i := range want.Forwards {
		want.Forwards[i].Algorithm = nat.RoundRobin
		if i%2 == 0 { // a pod is near
			want.Forwards[i].Near, want.Forwards[i].To = want.Forwards[i].To, want.Forwards[i].To[:1]
		}
	}
	sync(t, c, want)
	each(t, func(t *testing.T, network string, v6 bool) {
		for range 6 {
			nstest.Reaches(t, node.Pods[0].NS, network, netip.AddrPortFrom(service[v6], 80))
		}
	})
	expect := map[netip.AddrPort]uint64{}
	for _, f := range want.Forwards {
		for _, t := range f.To {
			expect[netip.AddrPortFrom(t.Addr, t.Port)] = 3
		}
		for _, t := range f.Near {
			expect[netip.AddrPortFrom(t.Addr, t.Port)] = 3
		}
	}
	all, err := c.Counts(within(t))
	require.NoError(t, err)
	var keys []nat.Key
	for _, f := range want.Forwards {
		keys = append(keys, f.Key())
	}
	require.NoError(t, c.Close())
	named, err := client(t, node.NS, counting).Counts(within(t), keys...)
	require.NoError(t, err)
	require.Equal(t, all, named)
	require.Len(t, all, 8)
	for _, n := range all {
		require.Equal(t, expect[n.Target], n.Connections, "%v", n)
	}
	require.Contains(t, nstest.Run(t, node.NS, "nft", "list", "map", "inet", "podplumb-nat", "targets4"), "counter packets 3 bytes")

	c = client(t, node.NS)
	_, err = c.Counts(within(t))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	sync(t, c, want)
	require.NotContains(t, nstest.Run(t, node.NS, "nft", "list", "ruleset"), "counter packets")
}
