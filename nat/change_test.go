package nat_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/nat"
)

func TestValidateChange(t *testing.T) {
	t.Parallel()
	pod, prefix := netip.MustParseAddr("10.244.0.2"), netip.MustParsePrefix
	bad := hostPort(80, pod, "b")
	bad.Drain, bad.Algorithm = nat.DrainLater, 9
	other := hostPort(81, pod, "a")
	other.Grace = time.Second
	c := nat.Change{
		Set: []nat.Forward{bad, other}, Drop: []nat.Key{bad.Key()},
		SetNetworks:  []nat.Network{{Prefix: prefix("10.244.0.0/24"), Name: "a"}, {Prefix: prefix("10.244.0.2/32"), Name: "b"}},
		DropNetworks: []netip.Prefix{prefix("10.244.0.7/24")},
		SetExclude:   []netip.Prefix{{}}, DropExclude: []netip.Prefix{prefix("10.0.0.0/8"), prefix("10.0.0.1/8")},
		SetLocalhost: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
		Owner:        "a",
	}
	require.ElementsMatch(t, []string{
		`drop[0]: 0.0.0.0:80/tcp is set[0] already`,
		`dropExclude[1]: 10.0.0.0/8 is dropExclude[0] already`,
		`dropNetworks[0]: 10.244.0.0/24 is setNetworks[0] already`,
		`setLocalhost[0]: 127.0.0.1 is a loopback address`,
		`set[0].algorithm: unknown algorithm(9)`,
		`set[0].grace: 0s is not whole seconds up to 24h0m0s`,
		`set[0].name: "b" is not the owner's, "a"`,
		`set[1].grace: 1s means nothing with drain keep`,
		`setExclude[0]: no prefix`,
		`setNetworks[1].name: "b" is not the owner's, "a"`,
		`setNetworks[1]: 10.244.0.2/32 lies inside setNetworks[0] 10.244.0.0/24 and differs from it`,
	}, nat.Faults(c.Validate()))
	require.NoError(t, nat.Change{}.Validate())
}
