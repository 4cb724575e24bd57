package nat_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

// TestWhole hands the generation on from one short-lived client to the next: each trusts the one before until somebody else has changed a
// rule.
func TestWhole(t *testing.T) {
	t.Parallel()
	needs(t)
	ns := nstest.New(t)
	whole := uint32(0)
	update := func(port uint16) nat.Plan {
		c, err := nat.New(nat.Config{NetNS: ns, Whole: whole})
		require.NoError(t, err)
		defer c.Close()
		f := nat.Forward{Addr: netip.MustParseAddr("10.0.0.1"), Port: port, Proto: nat.TCP, To: []nat.Target{{Addr: netip.MustParseAddr("10.0.0.2"), Port: 80}}}
		p, err := c.Update(t.Context(), nat.Change{Set: []nat.Forward{f}})
		require.NoError(t, err)
		whole = c.Generation()
		return p
	}
	read := func() int {
		c, err := nat.New(nat.Config{NetNS: ns})
		require.NoError(t, err)
		defer c.Close()
		s, err := c.Read(t.Context())
		require.NoError(t, err)
		return len(s.Forwards)
	}
	for port := range uint16(3) {
		require.NotEmpty(t, update(8000+port).String())
		require.NotZero(t, whole)
	}
	require.Empty(t, update(8001).String())
	require.Equal(t, 3, read())
	nstest.Run(t, ns, "nft", "delete", "table", "inet", nat.DefaultTable)
	require.Contains(t, update(8004).String(), "+ table")
	require.Equal(t, 1, read())
}
