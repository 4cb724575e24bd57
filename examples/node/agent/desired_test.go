package agent

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

func node(name string, ranges []string, addrs ...string) corev1.Node {
	n := corev1.Node{Spec: corev1.NodeSpec{PodCIDRs: ranges}}
	n.Name = name
	for _, a := range addrs {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: name})
	return n
}

var nodeA = node("a", []string{"10.244.1.0/24", "fd00:1::/64"}, "192.168.0.1", "fd00::1")

func TestDesireLeavesOutWhatIsFaulty(t *testing.T) {
	t.Parallel()
	o := &options{name: "a", device: "vxlan0", vni: 1, port: 4789, masquerade: true, network: "n", keep: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}}
	want, warnings, err := desire(o, []corev1.Node{
		node("z", []string{"10.244.9.0/24"}, "192.168.0.9"), // of one family alone
		nodeA,
		node("fresh", nil, "192.168.0.3"),
		node("nowhere", []string{"10.244.4.0/24"}),
		node("overlap", []string{"10.244.1.128/25"}, "192.168.0.5"),
		node("twin", []string{"10.244.6.0/24"}, "192.168.0.9"),
		node("six", []string{"10.244.7.0/24"}, "fd00::7"),
		node("bad", []string{"10.244.8.0"}, "192.168.0.8"),
		node("name", []string{"10.244.10.0/24"}, "example.org"),
	})
	require.NoError(t, err)
	require.Equal(t, []string{
		"node fresh is left out: has no podCIDR yet",
		"node nowhere is left out: has no InternalIP yet",
		`node bad is left out: podCIDR "10.244.8.0" is no address range`,
		`node name is left out: InternalIP "example.org" is no IP address`,
		"node overlap is left out: podCIDR 10.244.1.128/25 overlaps 10.244.1.0/24 of node a",
		"node six is left out: has no InternalIP of the family of 192.168.0.1, from which this node sends",
		"node z is left out: InternalIP 192.168.0.9 is node twin's too",
	}, warnings)
	require.Len(t, want.overlay.Peers, 1)
	require.Equal(t, "192.168.0.9", want.overlay.Peers[0].VTEP.String())
	require.Equal(t, "[10.96.0.0/16 10.244.1.0/24 10.244.6.0/24 fd00:1::/64]", stringOf(want.nat.Exclude))
	require.Len(t, want.nat.Networks, 2)

	o.name, o.masquerade = "z", false
	want, _, err = desire(o, []corev1.Node{node("z", []string{"10.244.9.0/24"}, "192.168.0.9"), nodeA})
	require.NoError(t, err)
	require.Empty(t, want.nat)
	require.Equal(t, "fd00::1", want.overlay.Peers[0].Hosts[0].String())
}

func stringOf(list []netip.Prefix) string { return "[" + joinWith(list, " ") + "]" }

func joinWith(list []netip.Prefix, separator string) (text string) {
	for i, p := range list {
		if i > 0 {
			text += separator
		}
		text += p.String()
	}
	return text
}

func TestDesireNeedsThisNode(t *testing.T) {
	t.Parallel()
	for want, nodes := range map[string][]corev1.Node{
		`no Node has the name "b" (-name says which one this is)`: {nodeA},
		"this node, b, has no podCIDR yet":                        {nodeA, node("b", nil, "192.168.0.2")},
		"this node, b, has no InternalIP yet":                     {nodeA, node("b", []string{"10.244.2.0/24"})},
	} {
		_, _, err := desire(&options{name: "b"}, nodes)
		require.EqualError(t, err, want)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	parse := func(args ...string) error {
		var o options
		flags := o.flags("node")
		flags.SetOutput(io.Discard)
		if err := flags.Parse(args); err != nil {
			return err
		}
		return o.validate()
	}
	require.NoError(t, parse("-name", "a", "-nodes", "x"))
	require.NoError(t, parse("-down"))
	require.EqualError(t, parse("-name", "", "-nodes", "x", "-in-cluster", "-vni", "0", "-port", "70000"),
		"exactly one of -nodes, -kubeconfig and -in-cluster says where the nodes come from\n"+
			"-name: required: this machine has no host name\n-vni: 0 is not in 1-16777215\n-port: 70000 is not in 1-65535")
	require.ErrorContains(t, parse("-no-masquerade", "10.1.0.0/8"), "10.0.0.0/8 was meant?")
}

func TestConflistIsReplacedAndWithdrawn(t *testing.T) {
	t.Parallel()
	o := &options{plugin: "podplumb-cni", conflist: filepath.Join(t.TempDir(), "net.d", "10.conflist")}
	write := func(mtu int) bool {
		changed, err := replace(o.conflist, render(o, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, mtu))
		require.NoError(t, err)
		return changed
	}
	require.True(t, write(1450))
	require.False(t, write(1450))
	require.True(t, write(1430))
	entries, err := os.ReadDir(filepath.Dir(o.conflist))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file is left")

	removed, err := withdraw(o)
	require.NoError(t, err)
	require.True(t, removed)
	removed, err = withdraw(o)
	require.NoError(t, err)
	require.False(t, removed)
	require.NoError(t, os.WriteFile(o.conflist, []byte(`{"plugins":[{"type":"bridge"}]}`), 0o600))
	_, err = withdraw(o)
	require.ErrorContains(t, err, "is not what an agent writes")
	require.FileExists(t, o.conflist)
}
