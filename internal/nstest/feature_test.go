package nstest_test

import (
	"flag"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
)

func TestMain(m *testing.M) {
	if os.Getenv(envInner) == "" {
		// These run by the hand of others only.
		if err := flag.Set("test.skip", "^TestInner"); err != nil {
			panic(err)
		}
	}
	os.Exit(nstest.Main(m))
}

// The probes find what ip and nft find.
func TestProbesAgreeWithTools(t *testing.T) {
	nstest.Require(t, nstest.Tool("ip"))
	nstest.Require(t, nstest.Tool("nft"))
	nstest.Leaks(t)
	for feature, command := range map[nstest.Feature][]string{
		nstest.Veth:          {"ip", "link", "add", "x", "type", "veth"},
		nstest.Bridge:        {"ip", "link", "add", "x", "type", "bridge"},
		nstest.VLANFiltering: {"ip", "link", "add", "x", "type", "bridge", "vlan_filtering", "1"},
		nstest.VXLAN:         {"ip", "link", "add", "x", "type", "vxlan", "id", "1", "dstport", "4789"},
		nstest.Dummy:         {"ip", "link", "add", "x", "type", "dummy"},
		nstest.IFB:           {"ip", "link", "add", "x", "type", "ifb"},
		nstest.VRF:           {"ip", "link", "add", "x", "type", "vrf", "table", "10"},
		nstest.Geneve:        {"ip", "link", "add", "x", "type", "geneve", "id", "1", "remote", "192.0.2.1"},
		nstest.WireGuard:     {"ip", "link", "add", "x", "type", "wireguard"},
		nstest.Macvlan:       {"ip", "link", "add", "x", "link", "eth0", "type", "macvlan"},
		nstest.IPVlan:        {"ip", "link", "add", "x", "link", "eth0", "type", "ipvlan"},
		nstest.VLAN:          {"ip", "link", "add", "x", "link", "eth0", "type", "vlan", "id", "7"},
		nstest.NFTables:      {"nft", "add table ip x; add table ip6 x; add table inet x"},
		nstest.NFTBridge:     {"nft", "add table bridge x"},
	} {
		a, _ := nstest.Pair(t)
		out, err := nstest.TryRun(t, a.NS, command[0], command[1:]...)
		probed := nstest.Probe(feature)
		require.Equal(t, err == nil, probed == nil, "%s: the probe says %v, the tool %v %s", feature, probed, err, out)
	}
	_, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_max")
	require.Equal(t, err == nil, nstest.Probe(nstest.Conntrack) == nil)
	for _, tool := range []string{"ip", "podplumb-no-such-tool"} {
		_, err := exec.LookPath(tool)
		require.Equal(t, err, nstest.Probe(nstest.Tool(tool)))
	}
}

// Every feature can be probed, and a name that is none cannot pass for one.
func TestFeatures(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	for _, f := range nstest.Features() {
		if err := nstest.Probe(f); err != nil {
			require.NotContains(t, err.Error(), "no feature has this name", f)
			t.Logf("%-16s %v", f, err)
		}
	}
	require.ErrorContains(t, nstest.Probe("no-such-feature"), "no feature has this name")
}

func TestOlder(t *testing.T) {
	require.True(t, nstest.Older("6.1.0-56-cloud-amd64", "6.9"))
	require.True(t, nstest.Older("5.19.3", "6.1"))
	for _, running := range []string{"6.9.0", "6.18.2", "7.0", "unknown", ""} {
		require.False(t, nstest.Older(running, "6.9"), running)
	}
}
