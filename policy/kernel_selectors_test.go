//go:build linux

package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/policy"
)

// Selectors with single ports, which are entries of maps; a port may be for several. What packets have made the table count goes with the
// rules that it was counted for, and only with them.
func TestSelectors(t *testing.T) {
	needs(t)
	c := newCluster(t)
	c.serve(t, "db", 8080, 8081, 8082)
	cl := client(t, c.node.NS, func(c *policy.Config) { c.Node = "node0" })
	rule := func(app string, port int) string {
		return fmt.Sprintf(`{"from":[{"podSelector":{"matchLabels":{"app":%q}}}],"ports":[{"port":%d},{"port":%[2]d,"protocol":"UDP"}]}`, app, port)
	}
	with := func(rules ...string) policy.State {
		return c.with(t, `{"metadata":{"namespace":"default","name":"db"},"spec":{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[`+strings.Join(rules, ",")+`]}}`)
	}
	rules := []string{rule("web", 8080), rule("probe", 8080), rule("web", 8081), rule("none", 8082), rule("db", 8082)}
	s := with(rules...)
	ask := func() {
		c.matrix(t, s, []uint16{8080, 8081, 8082}, []string{"web", "probe", "far-web", "outside", "node1"}, []string{"db"})
	}
	counted := func() map[int]uint64 {
		counters, err := cl.Counters(within(t))
		require.NoError(t, err)
		got := map[int]uint64{}
		for _, n := range counters {
			if n.By.Reason == policy.ByRule {
				got[n.By.Rule] += n.Packets
			}
		}
		return got
	}
	kept := func() int {
		return strings.Count(nstest.Run(t, c.node.NS, "nft", "list", "ruleset"), " counter packets ")
	}
	sync(t, cl, s)
	require.Contains(t, nstest.Run(t, c.node.NS, "nft", "list", "sets"), "members4")
	ask()
	first := counted()
	require.Len(t, first, len(rules))
	require.NotZero(t, first[0])
	require.NotZero(t, first[1])
	require.NotZero(t, first[2])
	require.Zero(t, first[3]+first[4])
	nstest.Run(t, c.node.NS, "nft", "-j", "list", "ruleset")
	counters := kept()
	require.NotZero(t, counters)
	got, err := cl.Read(within(t))
	require.NoError(t, err)
	want, err := policy.Config{Node: "node0"}.Compile(s)
	require.NoError(t, err)
	require.Empty(t, policy.Diff(got, want).String())

	// An edit takes the counters of the rules that it takes away, and those only.
	s = with(rules[0], rules[1], rules[3], rules[4], rule("db", 8083))
	update(t, cl, policy.Change{Set: policy.State{Policies: s.Policies}})
	second := counted()
	require.Equal(t, first[0], second[0])
	require.Equal(t, first[1], second[1])
	require.Less(t, kept(), counters)
	ask()
	require.Greater(t, counted()[0], first[0])

	// So does a new State, for a Client that does not know what was before.
	require.NoError(t, cl.Close())
	cl = client(t, c.node.NS, func(c *policy.Config) { c.Node = "node0" })
	before := kept()
	s = with(rules[2], rules[3], rules[4], rule("db", 8083), rules[0])
	sync(t, cl, s)
	require.Less(t, kept(), before)
	ask()
	third := counted()
	require.NotZero(t, third[0])
	require.Greater(t, third[4], first[0])
	sync(t, cl, policy.State{})
	require.Empty(t, nstest.Run(t, c.node.NS, "nft", "list", "ruleset"))
}
