package plugin_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/cni/ipam"
)

// leases lists which addresses are leased in each network.
func (n *node) leases(t testing.TB) (lines []string) {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(n.dir, "data", "*", "leases"))
	require.NoError(t, err)
	for _, dir := range dirs {
		s, err := ipam.Open(t.Context(), dir)
		require.NoError(t, err)
		count := 0
		_, err = s.Retain(func(uint64) bool { count++; return true })
		require.NoError(t, err)
		require.NoError(t, s.Close())
		lines = append(lines, fmt.Sprintf("leases %s: %d", filepath.Base(filepath.Dir(dir)), count))
	}
	return lines
}

// withoutLeases is a snapshot without the line that there is once a network has had a lease.
func withoutLeases(snapshot string) string {
	var out []string
	for line := range strings.Lines(snapshot) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "leases ") || !strings.HasSuffix(line, ": 0") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}
