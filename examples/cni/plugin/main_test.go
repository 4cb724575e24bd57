package plugin_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/cni/plugin"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/netns"
)

// The test binary is also the plugin, when the first of these is set. It writes the steps that it passes to a file, or dies right after
// one of them.
const (
	envPlugin = "PODPLUMB_TEST_PLUGIN"
	envSteps  = "PODPLUMB_TEST_STEPS"
	envKill   = "PODPLUMB_TEST_KILL"
)

func TestMain(m *testing.M) {
	if os.Getenv(envPlugin) != "" {
		plugin.Main(observe)
		os.Exit(0)
	}
	os.Exit(kerneltest.Main(m, nil))
}

func observe(step string) {
	if path := os.Getenv(envSteps); path != "" {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			fmt.Fprintln(f, step)
			f.Close()
		}
	}
	if os.Getenv(envKill) == step {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// config is a network configuration that tests change keys of.
type config map[string]any

func (c config) with(key string, value any) config {
	out := maps.Clone(c)
	out[key] = value
	if value == nil {
		delete(out, key)
	}
	return out
}

// node is a network namespace that the plugin runs in, as a node, with a directory of its own.
type node struct {
	ns   *netns.NS
	dir  string
	conf config // of calls that give none
}

func newNode(t testing.TB) *node {
	t.Helper()
	kerneltest.Require(t)
	ns, err := netns.New()
	require.NoError(t, err)
	t.Cleanup(func() { ns.Close() })
	require.NoError(t, ns.LoopbackUp())
	n := &node{ns: ns, dir: t.TempDir()}
	n.conf = config{
		"cniVersion": "1.1.0", "name": "net", "type": "podplumb-cni", "dataDir": filepath.Join(n.dir, "data"),
		"isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
		"capabilities": map[string]bool{"portMappings": true},
		"ipam": config{
			"type": "host-local", "dataDir": n.hostLocal(),
			"ranges": []any{[]any{config{"subnet": "10.88.0.0/16"}}, []any{config{"subnet": "fd88::/64"}}},
		},
	}
	return n
}

// hostLocal is where leases are taken over from: not from this machine's.
func (n *node) hostLocal() string { return filepath.Join(n.dir, "host-local") }

// pod is a container: an ID and a network namespace.
type pod struct {
	id   string
	path string
	ns   *netns.NS
}

var pods atomic.Int32

func (n *node) pod(t testing.TB) *pod {
	t.Helper()
	ns, err := netns.New()
	require.NoError(t, err)
	p := &pod{id: fmt.Sprintf("pod-%d", pods.Add(1)), ns: ns}
	p.path = filepath.Join(n.dir, p.id)
	require.NoError(t, ns.Pin(p.path))
	require.NoError(t, ns.LoopbackUp())
	t.Cleanup(func() {
		ns.Close()
		_ = netns.Unpin(p.path)
	})
	return p
}

// ports asks for a host port of each protocol.
func ports(host, container int, protocols ...string) config {
	var list []any
	for _, p := range protocols {
		list = append(list, config{"hostPort": host, "containerPort": container, "protocol": p})
	}
	return config{"portMappings": list}
}

// answer is what a call of the plugin came to.
type answer struct {
	code   int // exit code, -1 after death by a signal
	stdout string
	stderr string
}

// call runs the plugin.
func (n *node) call(t testing.TB, verb string, p *pod, c config, env ...string) answer {
	t.Helper()
	if c == nil {
		c = n.conf
	}
	stdin, err := json.Marshal(c)
	require.NoError(t, err)
	return n.raw(t, string(stdin), append(n.env(verb, p), env...)...)
}

func (n *node) env(verb string, p *pod) []string {
	env := []string{"CNI_COMMAND=" + verb, "CNI_PATH=/opt/cni/bin"}
	if p != nil {
		env = append(env, "CNI_CONTAINERID="+p.id, "CNI_NETNS="+p.path, "CNI_IFNAME=eth0")
	}
	return env
}

func (n *node) raw(t testing.TB, stdin string, env ...string) answer {
	t.Helper()
	cmd := n.command(stdin, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, n.ns.Start(cmd))
	err := cmd.Wait()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return answer{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func (n *node) command(stdin string, env ...string) *exec.Cmd {
	self, _ := os.Executable()
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), envPlugin+"=1", "GORACE=atexit_sleep_ms=0"), env...)
	cmd.Stdin = strings.NewReader(stdin)
	return cmd
}

// ok calls the plugin and requires success.
func (n *node) ok(t testing.TB, verb string, p *pod, c config, env ...string) answer {
	t.Helper()
	a := n.call(t, verb, p, c, env...)
	require.Equal(t, 0, a.code, "%s: %s%s", verb, a.stdout, a.stderr)
	return a
}

// add is ADD that must succeed, and its result.
func (n *node) add(t testing.TB, p *pod, c config, env ...string) *types100.Result {
	t.Helper()
	a := n.ok(t, "ADD", p, c, env...)
	r := &types100.Result{}
	require.NoError(t, json.Unmarshal([]byte(a.stdout), r), a.stdout)
	return r
}

// refused calls the plugin and requires an error with a code, whose text has all of the words.
func (n *node) refused(t testing.TB, code uint, verb string, p *pod, c config, words ...string) {
	t.Helper()
	n.call(t, verb, p, c).refused(t, code, words...)
}

func (a answer) refused(t testing.TB, code uint, words ...string) {
	t.Helper()
	require.Equal(t, 1, a.code, "%s%s", a.stdout, a.stderr)
	e := &types.Error{}
	require.NoError(t, json.Unmarshal([]byte(a.stdout), e), a.stdout)
	require.Equal(t, code, e.Code, a.stdout)
	for _, w := range words {
		require.Contains(t, e.Msg+"; "+e.Details, w)
	}
}

// in runs a program in a namespace and returns what it prints.
func in(t testing.TB, ns *netns.NS, name string, args ...string) string {
	t.Helper()
	var out, faults bytes.Buffer // ip remarks there on namespaces of others that have just gone
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &faults
	require.NoError(t, ns.Start(cmd))
	require.NoError(t, cmd.Wait(), "%s %v: %s%s", name, args, out.String(), faults.String())
	return out.String()
}

// snapshot is everything that the plugin can leave behind on the node: links, rules, records, claims and leases.
func (n *node) snapshot(t testing.TB) string {
	t.Helper()
	return strings.Join(append([]string{n.snapshotWithoutLeases(t)}, n.leases(t)...), "\n")
}

func (n *node) snapshotWithoutLeases(t testing.TB) string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(in(t, n.ns, "ip", "-o", "link")) {
		fields := strings.Fields(line)
		name, _, _ := strings.Cut(strings.TrimSuffix(fields[1], ":"), "@")
		lines = append(lines, "link "+name)
	}
	for line := range strings.Lines(in(t, n.ns, "tc", "qdisc")) {
		if !strings.Contains(line, "noqueue") {
			lines = append(lines, "tc "+strings.TrimSpace(line))
		}
	}
	slices.Sort(lines)
	lines = append(lines, elements(in(t, n.ns, "nft", "list", "ruleset"))...)
	data := filepath.Join(n.dir, "data")
	for _, pattern := range []string{"*/attachments/*", ".node/ports/*@*", ".node/ports/*/*"} {
		found, err := filepath.Glob(filepath.Join(data, pattern))
		require.NoError(t, err)
		for _, f := range found {
			lines = append(lines, strings.TrimPrefix(f, data))
		}
	}
	return strings.Join(lines, "\n")
}

// elements lists what is in the sets and maps of a ruleset, and tables of others. Like the bridge, the plugin's table stays for the next
// container, with a chain for host ports and with which of the node's addresses they are on.
func elements(ruleset string) (out []string) {
	set, inside := "", false
	for line := range strings.Lines(ruleset) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
		case fields[0] == "table" && fields[2] != "podplumb-cni":
			out = append(out, strings.Join(fields[:3], " "))
		case len(fields) == 3 && fields[2] == "{":
			set = fields[1]
		case fields[0] == "elements":
			inside = true
		}
		if inside && set != "lanes" && !strings.HasPrefix(set, "local") {
			out = append(out, "element of "+set+": "+strings.Join(fields, " "))
		}
		inside = inside && !strings.HasSuffix(strings.TrimSpace(line), "}")
	}
	return out
}
