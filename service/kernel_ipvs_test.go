package service_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/service"
	"github.com/podplumb/podplumb/service/servicetest"
)

func ipvsClient(t testing.TB, ns *netns.NS, owns ipvs.Owns) *ipvs.Client {
	t.Helper()
	c, err := ipvs.New(ipvs.Config{NetNS: ns, Owns: owns})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func ipvsBackend(t testing.TB, ns *netns.NS) *service.IPVSBackend {
	t.Helper()
	b := service.IPVS(ipvsClient(t, ns, ipvs.Everything()), natClient(t, ns))
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func TestIPVSConformance(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	servicetest.Run(t, servicetest.Config{
		New: func(t testing.TB, node *netns.NS) service.Backend {
			b := ipvsBackend(t, node)
			if fault, ok := faults[os.Getenv(brokenEnv)]; ok {
				return brokenBackend{b, fault.apply}
			}
			return b
		},
	})
}
