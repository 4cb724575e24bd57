package plugin_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGC removes what is not valid, in one pass, and what no record knows of.
func TestGC(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	full := n.everything()
	stays := n.pod(t)
	n.ok(t, "ADD", stays, n.conf.with("runtimeConfig", ports(9000, 90, "tcp")))
	other := n.conf.with("name", "other").with("bridge", "other0").with("ipam", config{"dataDir": n.hostLocal(), "ranges": []any{[]any{config{"subnet": "10.99.0.0/16"}}}})
	n.ok(t, "ADD", n.pod(t), other)
	before := n.snapshot(t)
	for i := range 10 {
		n.ok(t, "ADD", n.pod(t), full.with("runtimeConfig", ports(8080+i, 80, "tcp", "udp")))
	}
	valid := full.with("cni.dev/valid-attachments", []any{config{"containerID": stays.id, "ifname": "eth0"}})
	n.ok(t, "GC", nil, valid)
	require.Equal(t, before, n.snapshot(t))
	n.ok(t, "CHECK", stays, nil)

	// Records that are lost: the links, leases, elements and claims are found by themselves.
	p := n.pod(t)
	n.ok(t, "ADD", p, full)
	require.NoError(t, os.Remove(filepath.Join(n.dir, "data", "net", "attachments", p.id+"@eth0")))
	in(t, n.ns, "ip", "link", "add", "br0123456789ab", "type", "bridge") // of a process that died before it could name it
	n.ok(t, "GC", nil, valid)
	require.Equal(t, before, n.snapshot(t))

	n.ok(t, "GC", nil, full.with("cni.dev/valid-attachments", []any{}))
	n.ok(t, "GC", nil, other.with("cni.dev/valid-attachments", []any{}))
	require.Equal(t, "link cni0\nlink lo\nlink other0", withoutLeases(n.snapshot(t)))
	require.Empty(t, in(t, n.ns, "nft", "list", "ruleset"))
}

// TestTakeOver runs a network on from the leases that host-local has handed out.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	dir := filepath.Join(n.dir, "host-local", "net")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	old := n.pod(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "10.88.0.2"), []byte(old.id+"\r\neth0"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "fd88::2"), []byte(old.id+"\r\neth0"), 0o600))
	v4, v6 := addrs(t, n.add(t, n.pod(t), nil))
	require.Equal(t, []string{"10.88.0.3", "fd88::3"}, []string{v4, v6})
	n.ok(t, "DEL", old, nil)
	require.NoFileExists(t, filepath.Join(dir, "10.88.0.2"))
	r := n.add(t, n.pod(t), n.conf.with("runtimeConfig", config{"ips": []string{"10.88.0.2", "fd88::2"}}))
	v4, v6 = addrs(t, r)
	require.Equal(t, []string{"10.88.0.2", "fd88::2"}, []string{v4, v6})
}

// TestStatus says whether the next ADD can succeed.
func TestStatus(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.ok(t, "STATUS", nil, nil)
	n.ok(t, "STATUS", nil, n.routed())
	small := n.conf.with("ipam", config{"dataDir": n.hostLocal(), "ranges": []any{[]any{config{"subnet": "10.88.0.0/30"}}}})
	n.ok(t, "STATUS", nil, small)
	p := n.pod(t)
	n.ok(t, "ADD", p, small)
	n.refused(t, 51, "STATUS", nil, small, "10.88.0.2", "no address is free", "another range")
	n.ok(t, "DEL", p, small)
	n.ok(t, "STATUS", nil, small)
	block, err := filepath.Glob(filepath.Join(n.dir, "data", "net", "leases", "10*.block"))
	require.NoError(t, err)
	require.NoError(t, os.Truncate(block[0], 100))
	n.refused(t, 50, "STATUS", nil, small, block[0], "damaged")
	n.refused(t, 50, "STATUS", nil, n.conf.with("dataDir", "/proc/nothing"), "/proc/nothing")
	require.Equal(t, "link cni0\nlink lo", withoutLeases(n.snapshotWithoutLeases(t)))
}
