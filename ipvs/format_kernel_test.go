//go:build linux

package ipvs_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
)

// TestFormat: what Format prints of every setting is what ipvsadm prints.
func TestFormat(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	c := newClient(t, ns, ipvs.Everything())
	_, err := c.Sync(t.Context(), everyKind())
	require.NoError(t, err)
	info, err := c.Info(t.Context())
	require.NoError(t, err)
	have, err := c.Read(t.Context())
	require.NoError(t, err)
	stats, err := c.Stats(t.Context())
	require.NoError(t, err)
	// Blanks at the ends and the order of destinations apart: ipvsadm does not compare addresses as numbers.
	lines := func(s string) []string {
		list := strings.Split(strings.TrimSpace(s), "\n")
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
		return slices.Sorted(slices.Values(list))
	}
	require.Equal(t, lines(nstest.Run(t, ns, "ipvsadm", "-Ln")), lines(ipvs.Format(info, have, stats)))
	require.Equal(t, lines(nstest.Run(t, ns, "ipvsadm", "-Ln")), lines(ipvs.Format(info, have, nil)))
}
