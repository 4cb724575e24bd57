package service_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/service"
)

func TestNATState(t *testing.T) {
	t.Parallel()
	frontends, err := service.Resolve(service.State{
		Services:      []service.Service{webService("one", "10.96.0.1")},
		Pods:          []service.Pod{webPod("p", "one", "10.244.0.1")},
		ServiceRanges: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
	}, nodeA)
	require.NoError(t, err)
	pods := nat.Network{Prefix: netip.MustParsePrefix("10.244.0.0/24"), Name: "pods"}
	got, err := service.NATState(nat.State{
		Networks: []nat.Network{pods},
		Forwards: []nat.Forward{{Addr: netip.MustParseAddr("10.96.0.9"), Port: 80, Proto: nat.TCP}},
	}, frontends)
	require.NoError(t, err)
	require.Equal(t, []nat.Network{pods}, got.Networks, "what is not the Backend's stays")
	require.Equal(t, []nat.Virtual{{Prefix: netip.MustParsePrefix("10.96.0.0/16"), Miss: nat.Drop}}, got.Virtual)
	require.Len(t, got.Forwards, 1)
	require.Equal(t, "10.96.0.1:80/tcp", got.Forwards[0].Key().String())
	require.NoError(t, got.Validate())
}
