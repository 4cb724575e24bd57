package plugin

import (
	"encoding/json"
	"net"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/stretchr/testify/require"
)

// TestResultText compares what is printed with what the types package prints of the same result.
func TestResultText(t *testing.T) {
	t.Parallel()
	network := func(s string) net.IPNet {
		ip, n, err := net.ParseCIDR(s)
		require.NoError(t, err)
		return net.IPNet{IP: ip, Mask: n.Mask}
	}
	full := &types100.Result{
		Interfaces: []*types100.Interface{
			{Name: "cni0", Mac: "02:00:00:00:00:01"},
			{Name: "eth0", Mac: "02:00:00:00:00:02", Mtu: 1450, Sandbox: "/run/netns/a \"quoted\" \n path", SocketPath: "/s", PciID: "0000:00:1f.0"},
		},
		IPs: []*types100.IPConfig{
			{Interface: types100.Int(0), Address: network("10.88.0.2/16"), Gateway: net.ParseIP("10.88.0.1")},
			{Address: network("fd88::2/64")},
		},
		Routes: []*types.Route{
			{Dst: network("0.0.0.0/0"), GW: net.ParseIP("10.88.0.1"), MTU: 1400, AdvMSS: 1360, Priority: 7, Table: types100.Int(0), Scope: types100.Int(253)},
			{Dst: network("fd00::/8")},
		},
		DNS: types.DNS{Nameservers: []string{"10.96.0.10"}, Domain: "cluster.local", Search: []string{"a", "b"}, Options: []string{"ndots:5"}},
	}
	for _, r := range []*types100.Result{full, {}, {DNS: types.DNS{Nameservers: []string{}}}} {
		for _, version := range []string{"1.0.0", "1.1.0"} {
			same, err := r.GetAsVersion(version)
			require.NoError(t, err)
			want, err := json.Marshal(same)
			require.NoError(t, err)
			have, err := resultText(r, version)
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(have))
		}
	}
}
