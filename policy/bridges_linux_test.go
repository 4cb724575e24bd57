package policy_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/rtnl"
	"github.com/podplumb/podplumb/policy"
)

// Which bridge a pod is behind is told by the routes.
func TestUnseen(t *testing.T) {
	t.Parallel()
	const veth, bridge, uplink = 1, 2, 3
	route := func(to string, link int) rtnl.Route {
		return rtnl.Route{Dst: netip.MustParsePrefix(to), Index: link, Type: unix.RTN_UNICAST}
	}
	remote := route("10.244.0.0/16", bridge)
	remote.Gateway = netip.MustParseAddr("192.168.0.9")
	local := route("10.244.1.5/32", bridge)
	local.Type = unix.RTN_LOCAL
	for name, tt := range map[string]struct {
		routes []rtnl.Route
		shows  [2]bool
		hidden string
	}{
		"behind it":                            {[]rtnl.Route{route("0.0.0.0/0", uplink), route("10.244.1.0/24", bridge)}, [2]bool{}, "10.244.1.5"},
		"behind it, and shown":                 {[]rtnl.Route{route("10.244.1.0/24", bridge), route("fd00::/64", bridge)}, [2]bool{true, true}, ""},
		"one family is not shown":              {[]rtnl.Route{route("10.244.1.0/24", bridge), route("fd00::/64", bridge)}, [2]bool{true, false}, "fd00::5"},
		"behind its own link":                  {[]rtnl.Route{route("10.244.1.0/24", bridge), route("10.244.1.5/32", veth), route("fd00::5/128", veth)}, [2]bool{}, ""},
		"behind another machine":               {[]rtnl.Route{remote, route("fd00::/64", veth)}, [2]bool{}, ""},
		"somebody else's bridge":               {[]rtnl.Route{route("172.17.0.0/16", bridge), route("10.244.1.0/24", veth)}, [2]bool{}, ""},
		"the uplink's bridge":                  {[]rtnl.Route{route("0.0.0.0/0", bridge), route("10.244.1.5/32", veth), route("fd00::5/128", veth)}, [2]bool{}, ""},
		"no way to the pod, and to the bridge": {[]rtnl.Route{route("0.0.0.0/0", uplink)}, [2]bool{}, "10.244.1.5"},
		"no way to the pod":                    {[]rtnl.Route{route("172.17.0.0/16", bridge)}, [2]bool{}, ""},
		"link-local routes tell nothing":       {[]rtnl.Route{route("fe80::/64", bridge), route("10.244.1.5/32", veth)}, [2]bool{}, "fd00::5"},
		"routes to itself tell nothing":        {[]rtnl.Route{local, route("10.244.1.0/24", veth), route("fd00::/64", veth)}, [2]bool{}, ""},
	} {
		err := policy.Unseen(
			[]rtnl.Link{{Index: bridge, Name: "br0", Kind: "bridge", Flags: unix.IFF_UP, Bridge: &rtnl.BridgeAttrs{}}}, tt.routes,
			[]netip.Addr{netip.MustParseAddr("10.244.1.5"), netip.MustParseAddr("fd00::5")},
			func(_ *rtnl.Link, f int) bool { return tt.shows[f] })
		if tt.hidden == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorIs(t, err, policy.ErrBridged, name)
		require.ErrorContains(t, err, "bridge br0, behind which pod address "+tt.hidden+" is", name)
	}
}
