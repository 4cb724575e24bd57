package plugin_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// steps runs a command and lists the steps that it passes.
func (n *node) steps(t *testing.T, verb string, p *pod, c config) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "steps")
	n.ok(t, verb, p, c, envSteps+"="+path)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.Fields(string(text))
}

// TestKilled kills ADD, DEL and GC after each of their steps. Whatever comes then, DEL, ADD again or GC, leaves exactly what should be
// there; another container of the network is not touched.
func TestKilled(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := n.pod(t)
	full := n.everything()
	add := n.steps(t, "ADD", p, full)
	require.GreaterOrEqual(t, len(add), 8, add)
	del := n.steps(t, "DEL", p, full)
	require.GreaterOrEqual(t, len(del), 4, del)
	n.ok(t, "ADD", p, full)
	gc := n.steps(t, "GC", nil, full.with("cni.dev/valid-attachments", []any{}))
	for _, command := range []struct {
		verb  string
		steps []string
	}{{"ADD", add}, {"DEL", del}, {"GC", gc}} {
		for _, step := range command.steps {
			t.Run(command.verb+"-"+step, func(t *testing.T) {
				t.Parallel()
				for _, then := range []string{"DEL", "ADD", "GC"} {
					killed(t, command.verb, step, then)
				}
			})
		}
	}
}

// killed kills verb after a step, does what comes then, and compares.
func killed(t *testing.T, verb, step, then string) {
	n := newNode(t)
	full := n.everything()
	other, p := n.pod(t), n.pod(t)
	n.ok(t, "ADD", other, full.with("runtimeConfig", ports(9000, 90, "tcp")))
	valid := full.with("cni.dev/valid-attachments", []any{config{"containerID": other.id, "ifname": "eth0"}})
	before := n.snapshot(t)
	if verb != "ADD" {
		n.ok(t, "ADD", p, full)
	}
	c := full
	if verb == "GC" {
		c = valid
	}
	a := n.call(t, verb, p, c, envKill+"="+step)
	require.Equal(t, -1, a.code, "it was not killed at %s: %s", step, a.stdout)
	switch then {
	case "DEL":
		n.ok(t, "DEL", p, full)
	case "ADD":
		n.ok(t, "ADD", p, full)
		n.ok(t, "CHECK", p, full)
		n.ok(t, "DEL", p, full)
	case "GC":
		n.ok(t, "GC", nil, valid)
	}
	require.Equal(t, before, n.snapshot(t), "%s killed after %s, then %s", verb, step, then)
	n.ok(t, "CHECK", other, full)
	require.Empty(t, strings.TrimSpace(in(t, p.ns, "ip", "-o", "link", "show", "type", "veth")))
}

// everything is a configuration that has the plugin make each kind of object that it can.
func (n *node) everything() config {
	asked := ports(8080, 80, "tcp", "udp", "sctp").with("bandwidth", config{
		"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000,
	})
	return n.conf.with("runtimeConfig", asked).with("sourceRouting", true).
		with("sysctl", map[string]string{"net.ipv4.conf.IFNAME.log_martians": "1"}).with("promisc", true).with("macspoofchk", true).with("allmulti", true).with("txQLen", 77)
}
