package plugin_test

import (
	"bufio"
	"bytes"
	"net/netip"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/nat"
)

func (n *node) holder() *exec.Cmd {
	cmd := n.command("")
	cmd.Args = append(cmd.Args, "hold", "-data", filepath.Join(n.dir, "data"))
	return cmd
}

// startHolder starts podplumb-cni hold on the node and waits until it holds.
func (n *node) startHolder(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := n.holder()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, n.ns.Start(cmd))
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return cmd
}

// canOwn reports whether this kernel keeps others from a table that has an owner (from Linux 6.9 on).
func canOwn(t *testing.T) bool {
	t.Helper()
	n := newNode(t)
	c, err := nat.New(nat.Config{NetNS: n.ns})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Sync(t.Context(), nat.State{Networks: []nat.Network{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}})
	require.NoError(t, err)
	return n.try(t, "nft", "delete", "table", "inet", nat.DefaultTable) != nil
}

// TestHeldTable refuses an outside flush while there is a holder, and does as without one when that is gone.
func TestHeldTable(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	rules := func() []string { return elements(in(t, n.ns, "nft", "list", "ruleset")) }
	flush := func() {
		in(t, n.ns, "nft", "flush", "ruleset")
		require.Error(t, n.try(t, "nft", "delete", "table", "inet", "podplumb-cni"))
	}
	a, b := n.pod(t), n.pod(t)
	published := n.conf.with("runtimeConfig", ports(8080, 80, "tcp", "udp"))
	n.ok(t, "ADD", a, published) // before there is a holder, which takes the table over
	if !canOwn(t) {              // there is nothing to hold, and the holder says so
		cmd := n.holder()
		var out bytes.Buffer
		cmd.Stdout = &out
		require.NoError(t, n.ns.Start(cmd))
		require.Error(t, cmd.Wait())
		require.Contains(t, out.String(), "no owned tables")
		return
	}
	whole := rules()
	holder := n.startHolder(t)
	flush()
	require.Equal(t, whole, rules())
	n.ok(t, "CHECK", a, published)
	other := n.conf.with("runtimeConfig", ports(8081, 81, "tcp"))
	n.ok(t, "ADD", b, other)
	flush()
	n.ok(t, "CHECK", b, other)
	n.ok(t, "DEL", b, other)
	require.Equal(t, whole, rules())

	// A process that dies at its work leaves answers in the socket.
	for _, step := range []string{"table", "link"} {
		require.Equal(t, -1, n.call(t, "ADD", b, other, envKill+"="+step).code)
		flush()
		n.ok(t, "DEL", b, other)
		require.Equal(t, whole, rules())
	}
	n.ok(t, "STATUS", nil, published)

	require.NoError(t, holder.Process.Kill())
	_ = holder.Wait()
	in(t, n.ns, "nft", "flush", "ruleset")
	require.Empty(t, rules())
	n.refused(t, 104, "CHECK", a, published, "lost, and has again")
	require.Equal(t, whole, rules())
	second := n.startHolder(t)
	flush()
	require.Equal(t, whole, rules())
	n.ok(t, "DEL", a, published)
	n.ok(t, "GC", nil, published.with("cni.dev/valid-attachments", []any{}))
	require.Empty(t, in(t, n.ns, "nft", "list", "ruleset"))
	n.ok(t, "ADD", a, published)
	flush()
	n.ok(t, "CHECK", a, published)
	require.NoError(t, second.Process.Signal(syscall.SIGTERM))
	require.NoError(t, second.Wait())
	n.ok(t, "DEL", a, published)
}

// try runs a program on the node.
func (n *node) try(t *testing.T, name string, args ...string) error {
	t.Helper()
	cmd := exec.Command(name, args...)
	require.NoError(t, n.ns.Start(cmd))
	return cmd.Wait()
}
