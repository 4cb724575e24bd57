package plugin_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/netns"
)

// doctor runs the doctor on the node.
func (n *node) doctor(t *testing.T) (string, int) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	var out bytes.Buffer
	cmd := exec.Command(self, "doctor", "-data", filepath.Join(n.dir, "data"))
	cmd.Env = append(os.Environ(), envPlugin+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, n.ns.Start(cmd))
	_ = cmd.Wait()
	return strings.ReplaceAll(out.String(), n.dir, "/var/lib/cni"), cmd.ProcessState.ExitCode()
}

// TestDoctor finds what is wrong on a node and says what to do.
func TestDoctor(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	well, sick, gone, dead := n.pod(t), n.pod(t), n.pod(t), n.pod(t)
	for i, p := range []*pod{well, sick, gone} {
		n.ok(t, "ADD", p, n.conf.with("runtimeConfig", ports(8080+i, 80, "tcp")).with("sysctl", map[string]string{"net.ipv4.conf.IFNAME.log_martians": "1"}))
	}
	out, code := n.doctor(t)
	require.Equal(t, 0, code, out)
	require.Equal(t, 3, strings.Count(out, ": ok\n"), out)

	require.Equal(t, -1, n.call(t, "ADD", dead, nil, envKill+"=addresses").code)
	in(t, n.ns, "sysctl", "-qw", "net.ipv4.ip_forward=0")
	in(t, n.ns, "nft", "delete", "element", "inet", "podplumb-cni", "forwards4", "{ 0.0.0.0 . tcp . 8080 }")
	in(t, sick.ns, "ip", "addr", "del", "10.88.0.3/16", "dev", "eth0")
	in(t, sick.ns, "sysctl", "-qw", "net.ipv4.conf.eth0.log_martians=0")
	require.NoError(t, gone.ns.Close())
	require.NoError(t, netns.Unpin(gone.path))
	out, code = n.doctor(t)
	require.Equal(t, 1, code, out)
	for _, want := range []string{
		"fix: sysctl -w net.ipv4.ip_forward=1\n",
		"pod address 10.88.0.3/16\n  fix: remove the container",
		"sysctl -w net.ipv4.conf.eth0.log_martians=1\n",
		"forward 0.0.0.0:8080/tcp",
		"fix: nothing, it is repaired",
		"namespace /var/lib/cni/" + gone.id + " is gone\n  fix: the runtime's DEL, or GC",
		dead.id + "/eth0 : 1 found\n  ADD was killed before its end",
	} {
		require.Contains(t, out, want)
	}
	require.NoError(t, os.Remove(filepath.Join(n.dir, "data", "net", "attachments", well.id+"@eth0")))
	out, _ = n.doctor(t)
	require.Contains(t, out, "net 10.88.0.2: leased without a record")
}
