package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/examples/node/agent"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

const envAgent = "PODPLUMB_NODE_TEST_AGENT" // set: this process is the agent and not its tests

func TestMain(m *testing.M) {
	if os.Getenv(envAgent) != "" {
		run.Main(agent.Run)
	}
	os.Exit(kerneltest.Main(m, agent.Run))
}

const patience = 30 * time.Second

// lab is a wire with nodes on it, each a namespace that stands for a machine's own network.
type lab struct {
	wire  *netns.NS
	nodes []*node
	dir   string // of the manifests that all nodes read
}

type node struct {
	name     string
	addrs    []netip.Prefix
	ranges   []netip.Prefix
	ns       *netns.NS
	conflist string
	pods     *veth.Client
	state    veth.State
	serves   bool
}

// outside is a machine that is no node.
var outside = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

func newLab(t *testing.T, count int) *lab {
	t.Helper()
	kerneltest.Require(t)
	l := &lab{wire: newNS(t), dir: t.TempDir()}
	bridge := veth.Bridge{Name: "switch", Addresses: prefixes("192.168.50.1/24", "fd00:50::1/64", "192.0.2.1/32", "2001:db8::1/128")}
	want := veth.State{Bridges: []veth.Bridge{bridge}}
	for i := 1; i <= count; i++ {
		n := &node{
			name:   fmt.Sprintf("node-%c", 'a'+i-1),
			addrs:  prefixes(fmt.Sprintf("192.168.50.%d/24", 10+i), fmt.Sprintf("fd00:50::%d/64", 10+i)),
			ranges: prefixes(fmt.Sprintf("10.244.%d.0/24", i), fmt.Sprintf("fd00:10:244:%d::/64", i)),
			ns:     newNS(t), conflist: filepath.Join(t.TempDir(), "net.d", "10-podplumb.conflist"),
		}
		l.nodes = append(l.nodes, n)
		want.Pairs = append(want.Pairs, veth.Pair{
			Host: veth.Host{Name: n.name, Bridge: "switch"},
			Pod: veth.Pod{
				NetNS: n.ns.Path(), Name: "eth0", Addresses: n.addrs,
				Routes: []veth.Route{veth.DefaultVia(netip.MustParseAddr("192.168.50.1")), veth.DefaultVia(netip.MustParseAddr("fd00:50::1"))},
			},
		})
	}
	wire, err := veth.New(veth.Config{NetNS: l.wire, Owner: "wire"})
	require.NoError(t, err)
	defer wire.Close()
	_, err = wire.Sync(t.Context(), want)
	require.NoError(t, err)
	for _, n := range l.nodes {
		n.pods, err = veth.New(veth.Config{NetNS: n.ns})
		require.NoError(t, err)
		t.Cleanup(func() { _ = n.pods.Close() })
		n.state.Bridges = []veth.Bridge{{Name: "cni0", MTU: 1450}}
		for _, r := range n.ranges {
			n.state.Bridges[0].Addresses = append(n.state.Bridges[0].Addresses, netip.PrefixFrom(r.Addr().Next(), r.Bits()))
		}
	}
	return l
}

var namespaces atomic.Int32

// newNS makes a named namespace: links are put into it by its path.
func newNS(t *testing.T) *netns.NS {
	t.Helper()
	name := fmt.Sprintf("podplumb-node-%d-%d", os.Getpid(), namespaces.Add(1))
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

// declare writes the manifest of a node where all agents look for it.
func (l *lab) declare(t *testing.T, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		text := fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s}\nspec: {podCIDRs: [%q, %q]}\nstatus:\n  addresses:\n  - {type: InternalIP, address: %s}\n  - {type: InternalIP, address: %q}\n",
			n.name, n.ranges[0], n.ranges[1], n.addrs[0].Addr(), n.addrs[1].Addr())
		require.NoError(t, os.WriteFile(filepath.Join(l.dir, n.name+".yaml"), []byte(text), 0o644))
	}
}

// pod is a pod of a node, whose servers run in this process: they say to whom they talk.
type pod struct {
	ns    *netns.NS
	addrs []netip.Addr
}

// addPod attaches a pod the way a CNI plugin does it.
func (n *node) addPod(t *testing.T) *pod {
	t.Helper()
	p := &pod{ns: newNS(t)}
	number := len(n.state.Pairs) + 2
	eth0 := veth.Pod{NetNS: p.ns.Path(), Name: "eth0", MTU: 1450}
	for i, r := range n.ranges {
		addr := r.Addr()
		for range number {
			addr = addr.Next()
		}
		p.addrs = append(p.addrs, addr)
		eth0.Addresses = append(eth0.Addresses, netip.PrefixFrom(addr, r.Bits()))
		eth0.Routes = append(eth0.Routes, veth.DefaultVia(n.ranges[i].Addr().Next()))
	}
	n.state.Pairs = append(n.state.Pairs, veth.Pair{Host: veth.Host{Name: fmt.Sprintf("veth%d", number), Bridge: "cni0"}, Pod: eth0})
	_, err := n.pods.Sync(t.Context(), n.state)
	require.NoError(t, err)
	serve(t, p.ns)
	return p
}

// serve answers TCP and UDP on port 8080 of a namespace with the address of who asked.
func serve(t *testing.T, ns *netns.NS) {
	t.Helper()
	listener, err := ns.Listen(t.Context(), "tcp", ":8080")
	require.NoError(t, err)
	packets, err := ns.ListenPacket(t.Context(), "udp", ":8080")
	require.NoError(t, err)
	var running sync.WaitGroup
	t.Cleanup(func() {
		_, _ = listener.Close(), packets.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
			_ = conn.Close()
		}
	})
	running.Go(func() {
		buffer := make([]byte, 2000)
		for {
			n, from, err := packets.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo(buffer[:n], from)
		}
	})
}

// ask connects from a namespace to a server and returns as whom that saw it.
func ask(t *testing.T, from *netns.NS, to netip.Addr) netip.Addr {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := from.DialContext(ctx, "tcp", netip.AddrPortFrom(to, 8080).String())
	require.NoErrorf(t, err, "dial %s", to)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	text, err := io.ReadAll(conn)
	require.NoError(t, err)
	seen, err := netip.ParseAddr(string(text))
	require.NoError(t, err)
	return seen
}

// process is a running agent.
type process struct {
	cmd  *exec.Cmd
	out  lockedBuffer
	done chan struct{}
}

// start starts the agent on a node with the manifests of the lab.
func (l *lab) start(t *testing.T, n *node, args ...string) *process {
	t.Helper()
	return startAgent(t, n, append([]string{"-name", n.name, "-nodes", l.dir, "-conflist", n.conflist}, args...)...)
}

func startAgent(t *testing.T, n *node, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	a := &process{done: make(chan struct{})}
	a.cmd = exec.Command(self, args...)
	a.cmd.Env = append(os.Environ(), envAgent+"=1", "GORACE=atexit_sleep_ms=0")
	a.cmd.Stdout, a.cmd.Stderr = &a.out, &a.out
	require.NoError(t, n.ns.Start(a.cmd))
	go func() {
		_ = a.cmd.Wait()
		close(a.done)
	}()
	t.Cleanup(func() {
		_ = a.cmd.Process.Kill()
		<-a.done
		if t.Failed() {
			t.Logf("agent %v of %s:\n%s", args, n.name, a.out.String())
		}
	})
	return a
}

// ready waits until the agent says so.
func (a *process) ready(t *testing.T) {
	t.Helper()
	a.says(t, "\nready: ")
}

func (a *process) says(t *testing.T, what string) {
	t.Helper()
	eventually(t, "the agent says "+what, func() bool { return strings.Contains("\n"+a.out.String(), what) })
}

// stop ends the agent with a signal and returns its exit code.
func (a *process) stop(t *testing.T, signal syscall.Signal) int {
	t.Helper()
	_ = a.cmd.Process.Signal(signal)
	return a.wait(t)
}

func (a *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-a.done:
	case <-time.After(patience):
		t.Fatalf("the agent does not end\n%s", a.out.String())
	}
	return a.cmd.ProcessState.ExitCode()
}

// down removes what an agent has made and requires that the namespace then is as it was.
func (n *node) down(t *testing.T) {
	t.Helper()
	a := startAgent(t, n, "-down", "-conflist", n.conflist)
	require.Zero(t, a.wait(t), a.out.String())
	require.NoFileExists(t, n.conflist)
	require.NoError(t, n.ns.Do(func() error {
		if _, err := net.InterfaceByName("vxlan0"); err == nil {
			return errors.New("vxlan0 is there")
		}
		return nil
	}))
	require.NotContains(t, n.look(t, "nft", "list", "ruleset"), "podplumb-node")
	require.NotContains(t, n.look(t, "ip", "route"), "vxlan0")
}

// look runs a tool in the node's namespace.
func (n *node) look(t *testing.T, tool string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		return "" // the guest has no tools
	}
	var out bytes.Buffer
	cmd := exec.Command(tool, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, n.ns.Start(cmd))
	require.NoError(t, cmd.Wait(), out.String())
	return out.String()
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
