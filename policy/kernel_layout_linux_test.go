package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/policy"
)

// A table that another version of this package made is replaced in one transaction, whatever is in it.
func TestOtherLayout(t *testing.T) {
	needs(t)
	for name, change := range map[string]func(*policy.Config){"owned": func(*policy.Config) {}, "shared": shared} {
		t.Run(name, func(t *testing.T) {
			ns, fresh := nstest.New(t), nstest.New(t)
			conn, err := nft.Open(ns.Fd())
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			old := nft.NewBatch()
			old.AddTable(&nft.Table{
				Family: nft.FamilyInet, Name: "podplumb-policy", Comment: "podplumb policy, layout 0", Chains: []*nft.Chain{{Name: "forward"}, {Name: "left"}},
			})
			require.NoError(t, conn.Commit(within(t), old, 0))
			c := client(t, ns, change)
			require.Equal(t, "- table podplumb-policy\n", sync(t, c, policy.State{}).String())
			require.Empty(t, nstest.Run(t, ns, "nft", "list", "ruleset"))

			require.NoError(t, conn.Commit(within(t), old, 0))
			require.NoError(t, c.Close())
			c = client(t, ns, change)
			sync(t, c, large(20, 10))
			require.True(t, plan(t, c, large(20, 10)).Empty())
			sync(t, client(t, fresh, change), large(20, 10))
			list := func(at *netns.NS) string { return nstest.Run(t, at, "nft", "-s", "list", "ruleset") }
			require.Equal(t, list(fresh), list(ns))

			sync(t, c, policy.State{})
			require.Empty(t, list(ns))
		})
	}
}
