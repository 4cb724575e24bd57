package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/netns"
)

// hook calls the CNI plugin for a pod.
func (b *bed) hook(pod, command, config string) (out string, err error) {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "PODPLUMB_KERNELTEST_EXAMPLE=1", "GORACE=atexit_sleep_ms=0", "CNI_COMMAND="+command, "CNI_CONTAINERID="+pod,
		"CNI_NETNS="+filepath.Join(netns.RunDir, b.net.Pod(pod).NS.Name()), "CNI_IFNAME=eth0", "CNI_PATH=/", "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME="+pod)
	cmd.Stdin = strings.NewReader(config)
	var text bytes.Buffer
	cmd.Stdout = &text
	err = cmd.Run()
	return text.String(), err
}

// A pod that the CNI plugin has held back says nothing in clear from its first packet on: it is refused until the agent has it
// in the mesh, or has let go of it.
func TestHook(t *testing.T) {
	t.Parallel()
	b := newBed(t, nodeMode, "web@a", "db@b", "-legacy@b", "-other@a")
	config := func(more string) string {
		return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "pods", "type": "podplumb-mesh" %s}`, more)
	}
	const before = `, "prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.244.1.10/24"}]}`
	gates := b.net.Nodes[1].Gates
	probes := fmt.Sprintf(`, "probes": [%q, %q]`, gates[0], netip.PrefixFrom(gates[1], 128))
	for _, pod := range []string{"web", "db", "legacy"} {
		out, err := b.hook(pod, "ADD", config(before+probes+`, "namespaces": ["kube-system", "shop"]`))
		require.NoError(t, err, out)
		require.Contains(t, out, "10.244.1.10/24")
	}
	_, err := b.hook("other", "ADD", config(before+`, "namespaces": ["kube-system"]`))
	require.NoError(t, err)
	for _, command := range []string{"CHECK", "DEL"} {
		out, err := b.hook("web", command, config(before))
		require.NoError(t, err, out)
	}
	out, err := b.hook("web", "ADD", config(`, "probes": ["10.0.0.0/33"]`))
	require.Error(t, err)
	for _, fault := range []string{"probes[0]", "prevResult"} {
		require.Contains(t, out, fault)
	}

	wire := b.tap()
	b.echo("db", ":8080")
	b.echo("legacy", ":8080")
	for _, f := range families {
		for _, from := range []string{"web", "legacy", "other"} {
			b.refused(from, b.at("db", f, 8080))
			if from != "legacy" {
				b.refused(from, b.at("legacy", f, 8080))
			}
		}
	}
	for _, f := range families {
		c, err := b.net.Nodes[1].NS.DialContext(t.Context(), "tcp", b.at("db", f, 8080).String())
		require.NoError(t, err, "a probe")
		_ = c.Close()
	}

	b.enrol()
	b.listened("web", "db", 8080)
	kerneltest.Eventually(t, "legacy is let go", func() bool {
		c, err := b.dial("other", b.at("legacy", 0, 8080))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	for _, f := range families {
		b.reaches("web", b.at("db", f, 8080), secret)
		b.fails("legacy", b.at("db", f, 8080))
		b.reaches("other", b.at("legacy", f, 8080), "to legacy")
	}
	wire.Settle()
	require.Zero(t, wire.Saw(secret))
}
