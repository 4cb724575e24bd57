package nat_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

// Targets take turns, as often as their weights say, and what other forwards
// do does not count.
func TestRoundRobin(t *testing.T) {
	needs(t)
	node := nstest.NewCluster(t, 1, 4).Nodes[0]
	serve(t, node.Pods[1:]...)
	c := client(t, node.NS)
	var want nat.State
	for port := range uint16(2) {
		for _, f := range forwards(node.Pods[1:]...) {
			f.Algorithm, f.Port, f.To[0].Weight = nat.RoundRobin, 80+port, 2
			want.Forwards = append(want.Forwards, f)
		}
	}
	sync(t, c, want)
	each(t, func(t *testing.T, network string, v6 bool) {
		ask := func(port uint16) string {
			// It stays open: a port that is used again is of the same connection for a while.
			flow, err := nstest.Dial(t, node.Pods[0].NS, network, netip.AddrPortFrom(service[v6], port))
			require.NoError(t, err)
			a, err := flow.Ask()
			require.NoError(t, err)
			return a.Server
		}
		var first, second []string
		for range 8 {
			first = append(first, ask(80))
			second = append(second, ask(81), ask(81), ask(81), ask(81))
		}
		for i := range 4 {
			require.Equal(t, first[i], first[i+4], "each round is like the last: %v", first)
			require.NotEqual(t, node.Pods[1].Addr(v6).String()+first[i], first[i]+first[(i+1)%4], "the heavy one never comes twice at once: %v", first)
		}
		hits := map[string]int{}
		for _, s := range second {
			hits[s]++
		}
		require.Equal(t, map[string]int{
			node.Pods[1].Addr(v6).String(): 16, node.Pods[2].Addr(v6).String(): 8, node.Pods[3].Addr(v6).String(): 8,
		}, hits)
	})
	list := nstest.Run(t, node.NS, "nft", "list", "ruleset")
	require.Contains(t, list, "chain turn-tcp-80-fd96__10-4")
	got, err := client(t, node.NS).Read(within(t))
	require.NoError(t, err)
	require.Empty(t, nat.Diff(got, want).String())

	// Its chain goes with a forward, also by the hand of a Client that knows no other.
	require.NoError(t, c.Close())
	other := client(t, node.NS)
	_, err = other.Update(within(t), nat.Change{Drop: []nat.Key{want.Forwards[0].Key()}})
	require.NoError(t, err)
	require.NoError(t, other.Close())
	c = client(t, node.NS)
	want.Forwards = want.Forwards[1:]
	p, err := c.Plan(within(t), want)
	require.NoError(t, err)
	require.Empty(t, p.String())
	for i := range want.Forwards {
		want.Forwards[i].Algorithm = nat.Random
	}
	sync(t, c, want)
	require.NotContains(t, nstest.Run(t, node.NS, "nft", "list", "ruleset"), "chain turn-")

	// There are only as many as there are numbers.
	crowd := nat.State{}
	for i := range 300 {
		crowd.Forwards = append(crowd.Forwards, nat.Forward{
			Addr: netip.AddrFrom4([4]byte{10, 96, 1, byte(i)}), Port: uint16(1 + i), Proto: nat.TCP, Algorithm: nat.RoundRobin,
			To: []nat.Target{{Addr: node.Pods[1].Addr(false), Port: 8080}},
		})
	}
	_, err = c.Sync(within(t), crowd)
	require.ErrorContains(t, err, "Config.Mark has too few bits")
}
