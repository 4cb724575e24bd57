package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

// lab is a wire with nodes on it. The wire's own namespace is a machine outside of the cluster.
type lab struct {
	dir   string
	wire  *netns.NS
	nodes []*node
}

// outside are the addresses of the machine outside.
var outside = prefixes("192.168.60.1/24", "fd00:60::1/64")

// node is a machine: namespaces of every kind but the user's, with a process 1.
type node struct {
	name   string
	dir    string // short: the paths of sockets are
	addrs  []netip.Prefix
	ranges []netip.Prefix
	ns     *netns.NS
	init   *exec.Cmd
}

func newLab(t *testing.T, count int) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "pe")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Mkdir(filepath.Join(dir, "nodes"), 0o755))
	l := &lab{dir: dir, wire: newNS(t)}
	want := veth.State{Bridges: []veth.Bridge{{Name: "switch", Addresses: outside}}}
	for i := 1; i <= count; i++ {
		n := &node{
			name:   fmt.Sprintf("node-%c", 'a'+i-1),
			addrs:  prefixes(fmt.Sprintf("192.168.60.%d/24", 10+i), fmt.Sprintf("fd00:60::%d/64", 10+i)),
			ranges: prefixes(fmt.Sprintf("10.246.%d.0/24", i), fmt.Sprintf("fd00:10:246:%d::/64", i)),
			ns:     newNS(t),
		}
		n.dir = filepath.Join(dir, n.name)
		require.NoError(t, os.Mkdir(n.dir, 0o755))
		l.nodes = append(l.nodes, n)
		want.Pairs = append(want.Pairs, veth.Pair{
			Host: veth.Host{Name: n.name, Bridge: "switch"},
			Pod: veth.Pod{
				NetNS: n.ns.Path(), Name: "eth0", Addresses: n.addrs,
				Routes: []veth.Route{veth.DefaultVia(outside[0].Addr()), veth.DefaultVia(outside[1].Addr())},
			},
		})
		manifest := fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s}\nspec: {podCIDRs: [%q, %q]}\nstatus:\n  addresses:\n  - {type: InternalIP, address: %s}\n  - {type: InternalIP, address: %q}\n",
			n.name, n.ranges[0], n.ranges[1], n.addrs[0].Addr(), n.addrs[1].Addr())
		require.NoError(t, os.WriteFile(filepath.Join(dir, "nodes", n.name+".yaml"), []byte(manifest), 0o600))
	}
	wire, err := veth.New(veth.Config{NetNS: l.wire, Owner: "wire"})
	require.NoError(t, err)
	defer wire.Close()
	_, err = wire.Sync(t.Context(), want)
	require.NoError(t, err)
	var starting sync.WaitGroup
	for _, n := range l.nodes {
		starting.Go(func() { n.boot(t) })
	}
	starting.Wait()
	return l
}

var namespaces atomic.Int32

// newNS makes a named namespace: links are put into it by its path.
func newNS(t *testing.T) *netns.NS {
	t.Helper()
	name := fmt.Sprintf("podplumb-e2e-%d-%d", os.Getpid(), namespaces.Add(1))
	ns, err := netns.Create(name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = ns.Close()
		require.NoError(t, netns.Remove(name))
	})
	require.NoError(t, ns.LoopbackUp())
	return ns
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// boot starts process 1 of the node, with which everything in it ends.
func (n *node) boot(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Error(err)
		return
	}
	var out bytes.Buffer
	n.init = exec.Command(self)
	n.init.Env = append(os.Environ(), envNode+"="+n.dir)
	n.init.Stdout, n.init.Stderr = &out, &out
	n.init.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := n.ns.Start(n.init); err != nil {
		t.Errorf("start %s: %v", n.name, err)
		return
	}
	ended := make(chan struct{})
	go func() {
		_ = n.init.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = n.init.Process.Kill()
		<-ended
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(n.dir, "*.log"))
			for _, log := range logs {
				text, _ := os.ReadFile(log)
				t.Logf("%s:\n%s", log, text[max(0, len(text)-6000):])
			}
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(n.dir, "ready")); err == nil {
			return
		}
		select {
		case <-ended:
			t.Errorf("%s did not come up: %s", n.name, out.String())
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Errorf("%s did not come up", n.name)
			return
		}
	}
}

// command is a program that runs in all namespaces of the node.
func (n *node) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(n.init.Process.Pid), "-m", "-n", "-p", "-i", "-u", "--"}, args...)...)
}

// daemon starts a program in the node that runs until the end, with its output in a file.
func (n *node) daemon(t testing.TB, name string, args ...string) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(n.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()
	cmd := n.command(context.WithoutCancel(t.Context()), args...)
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// must runs a program in the node and returns what it printed.
func (n *node) must(t testing.TB, args ...string) string {
	t.Helper()
	out, err := n.try(t, args...)
	require.NoErrorf(t, err, "%v\n%s", args, out)
	return out
}

func (n *node) try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := n.command(ctx, args...).CombinedOutput()
	return string(out), err
}

// state is everything of the node that containers may leave something in.
func (n *node) state(t testing.TB) []string {
	t.Helper()
	var found []string
	each := func(what, text string) {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				found = append(found, what+": "+line)
			}
		}
	}
	each("link", n.must(t, "sh", "-c", `ip -br link | awk '{print $1}'`))
	each("address", n.must(t, "sh", "-c", `ip -o address | awk '{print $2, $4}' | grep -v ' fe80:'`))
	each("route", n.must(t, "sh", "-c", `(ip route; ip -6 route | grep -v -e '^fe80' -e '^multicast') | sed 's/ linkdown//'`))
	each("nftables", n.must(t, "nft", "-s", "list", "ruleset"))
	each("qdisc", n.must(t, "sh", "-c", `tc qdisc | grep -e tbf -e ingress -e clsact || true`))
	each("namespace", n.must(t, "ls", "/run/netns"))
	each("process", n.must(t, "sh", "-c", `ps -eo comm= | grep -v -e '^ps$' -e '^sh$' -e '^grep$' -e '^sort$' | sort`))
	each("mount", n.must(t, "sh", "-c", `awk '{print $5}' /proc/self/mountinfo | grep -e "^$0" -e ^/run/containerd -e ^/run/netns/cni- | sort`, n.dir))
	each("file", n.must(t, "sh", "-c", `cd /var/lib/cni && find . -type f ! -name '*lock' | sort`))
	return found
}

// same requires that nothing has come or gone since before.
func (n *node) same(t testing.TB, before []string) {
	t.Helper()
	var difference []string
	eventually(t, n.name+" is as it was", func() error { // the kernel takes links and namespaces apart in the background
		now := n.state(t)
		difference = nil
		for _, line := range now {
			if !slices.Contains(before, line) {
				difference = append(difference, "+ "+line)
			}
		}
		for _, line := range before {
			if !slices.Contains(now, line) {
				difference = append(difference, "- "+line)
			}
		}
		if len(difference) == 0 && len(now) != len(before) {
			difference = append(difference, fmt.Sprintf("%d lines, not %d", len(now), len(before)))
		}
		if len(difference) > 0 {
			return errors.New(strings.Join(difference[:min(len(difference), 40)], "\n"))
		}
		return nil
	})
}
