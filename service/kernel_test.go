package service_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/service"
	"github.com/podplumb/podplumb/service/servicetest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

func natClient(t testing.TB, ns *netns.NS) *nat.Client {
	t.Helper()
	nstest.Require(t, nstest.NFTables)
	c, err := nat.New(nat.Config{NetNS: ns})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func TestNATConformance(t *testing.T) {
	nstest.Leaks(t)
	servicetest.Run(t, servicetest.Config{
		New:   func(t testing.TB, node *netns.NS) service.Backend { return service.NAT(natClient(t, node)) },
		Lacks: []servicetest.Feature{servicetest.SourceRanges, servicetest.NodePorts, servicetest.ExternalLocal, servicetest.Affinity},
	})
}
