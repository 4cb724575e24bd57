package main_test

import (
	"context"
	_ "embed" // the README
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

//go:embed README.md
var readme string

func TestTwoNodes(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	a, b := l.nodes[0], l.nodes[1]
	l.declare(t, a, b)
	agents := []*process{l.start(t, a), l.start(t, b)}
	for _, agent := range agents {
		agent.ready(t)
	}
	(&kerneltest.Machine{Name: l.dir}).Readme(t, readme, "sudo node -name node-a -nodes /etc/podplumb/nodes", "/etc/podplumb/nodes",
		strings.ReplaceAll(agents[0].out.String(), a.conflist, "/etc/cni/net.d/10-podplumb.conflist"))
	written, err := os.ReadFile(a.conflist)
	require.NoError(t, err)
	require.Contains(t, readme, "```json\n"+string(written)+"```\n", "README.md shows the CNI configuration")

	p, q := a.addPod(t), b.addPod(t)
	serve(t, b.ns)
	serve(t, l.wire)
	for family := range 2 {
		require.Equal(t, p.addrs[family], ask(t, p.ns, q.addrs[family]), "pod to pod")
		require.Equal(t, q.addrs[family], ask(t, q.ns, p.addrs[family]), "pod to pod, back")
		require.Equal(t, a.ranges[family].Addr(), ask(t, a.ns, q.addrs[family]), "node to pod of another node")
		require.Equal(t, a.addrs[family].Addr(), ask(t, p.ns, b.addrs[family].Addr()), "pod to another node")
		require.Equal(t, a.addrs[family].Addr(), ask(t, p.ns, outside[family]), "pod to the world")
	}
	full := make([]byte, 1450-40-8)
	for family := range 2 {
		conn, err := p.ns.DialContext(t.Context(), "udp", netip.AddrPortFrom(q.addrs[family], 8080).String())
		require.NoError(t, err)
		require.True(t, echo(conn, full), "a packet of full size")
		require.NoError(t, conn.Close())
	}

	for i, n := range l.nodes {
		require.Zero(t, agents[i].stop(t, syscall.SIGTERM), agents[i].out.String())
		require.Equal(t, p.addrs[0], ask(t, p.ns, q.addrs[0]), "everything stays when the agent ends")
		again := l.start(t, n)
		again.ready(t)
		require.Equal(t, 1, strings.Count(again.out.String(), "\n"), "a second start changes nothing:\n%s", again.out.String())
		require.Zero(t, again.stop(t, syscall.SIGINT))
	}
	for _, n := range l.nodes {
		n.down(t)
	}
}

func TestNodesComeAndGo(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	a, b, c := l.nodes[0], l.nodes[1], l.nodes[2]
	l.declare(t, b)
	first := l.start(t, a)
	first.says(t, `no Node has the name "node-a"`)
	require.NoFileExists(t, a.conflist)
	l.declare(t, a)
	first.ready(t)
	l.start(t, b).ready(t)

	p, q := a.addPod(t), c.addPod(t)
	l.declare(t, c)
	first.says(t, "+ route 10.244.3.0/24")
	l.start(t, c).ready(t)
	for family := range 2 {
		require.Equal(t, p.addrs[family], ask(t, p.ns, q.addrs[family]))
	}

	// What cannot be read leaves everything as it is.
	require.NoError(t, os.WriteFile(l.dir+"/broken.yaml", []byte("kind: ["), 0o644))
	first.says(t, "broken.yaml")
	require.NoError(t, os.Remove(l.dir+"/broken.yaml"))
	require.Equal(t, p.addrs[0], ask(t, p.ns, q.addrs[0]))

	require.NoError(t, os.Remove(l.dir+"/node-c.yaml"))
	first.says(t, "- route 10.244.3.0/24")
	first.says(t, "- route fd00:10:244:3::/64")

	// Another agent for the same device is refused, and -down too while there is one.
	second := l.start(t, a)
	require.Equal(t, 1, second.wait(t))
	require.Contains(t, second.out.String(), "another agent looks after vxlan0")
	require.Equal(t, 1, startAgent(t, a, "-down", "-conflist", a.conflist).wait(t))
}

func TestDamageIsRepaired(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	a, b := l.nodes[0], l.nodes[1]
	l.declare(t, a, b)
	first := l.start(t, a)
	first.ready(t)
	l.start(t, b).ready(t)
	p, q := a.addPod(t), b.addPod(t)
	require.NoError(t, a.ns.SetSysctl("net/ipv4/conf/all/rp_filter", "1"))
	if a.look(t, "ip", "-V") == "" {
		return // the guest has no tools to do damage with
	}
	a.look(t, "ip", "link", "delete", "vxlan0")
	first.says(t, "repaired the overlay:\n+ device vxlan0")
	for family := range 2 {
		require.Equal(t, p.addrs[family], ask(t, p.ns, q.addrs[family]))
		require.Equal(t, a.addrs[family].Addr(), ask(t, p.ns, b.serveOnce(t, family)), "strict filtering of the way back")
	}
	a.look(t, "ip", "route", "delete", "10.244.2.0/24")
	first.says(t, "repaired the overlay:\n+ route 10.244.2.0/24")
	require.Equal(t, p.addrs[0], ask(t, p.ns, q.addrs[0]))
}

// serveOnce makes the node itself answer, and returns its address of the family.
func (n *node) serveOnce(t *testing.T, family int) netip.Addr {
	if !n.serves {
		n.serves = true
		serve(t, n.ns)
	}
	return n.addrs[family].Addr()
}

// Connections between pods do not notice that an agent is killed, that the cluster changes meanwhile, and that a new one starts.
func TestKilledAgentLosesNoPacket(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	a, b, c := l.nodes[0], l.nodes[1], l.nodes[2]
	l.declare(t, a, b)
	first := l.start(t, a)
	first.ready(t)
	l.start(t, b).ready(t)
	p, q := a.addPod(t), b.addPod(t)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var exchanged [2]atomic.Int64
	missing := make(chan int, 2)
	for family := range 2 {
		go func() { missing <- exchange(ctx, p, q.addrs[family], &exchanged[family]) }()
	}
	flow := func() {
		for family := range 2 {
			from := exchanged[family].Load()
			eventually(t, "packets flow", func() bool { return exchanged[family].Load() > from+20 })
		}
	}
	flow()
	for round := range 3 {
		require.Equal(t, -1, first.stop(t, syscall.SIGKILL))
		flow()
		if round == 1 {
			l.declare(t, c)
		}
		first = l.start(t, a)
		first.ready(t)
		flow()
	}
	require.Contains(t, first.out.String(), "other nodes: 2")
	cancel()
	for range 2 {
		require.Zero(t, <-missing, "packets lost")
	}
}

// exchange sends packets to an echo server, one after the other, until ctx ends, and returns how many did not come back.
func exchange(ctx context.Context, from *pod, to netip.Addr, count *atomic.Int64) (missing int) {
	conn, err := from.ns.DialContext(ctx, "udp", netip.AddrPortFrom(to, 8080).String())
	if err != nil {
		return 1
	}
	defer conn.Close()
	for number := uint64(1); ctx.Err() == nil; number++ {
		if !echo(conn, binary.BigEndian.AppendUint64(nil, number)) {
			missing++
			continue
		}
		count.Add(1)
		time.Sleep(time.Millisecond)
	}
	return missing
}

func echo(conn net.Conn, packet []byte) bool {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write(packet); err != nil {
		return false
	}
	answer := make([]byte, len(packet)+1)
	n, err := conn.Read(answer)
	return err == nil && string(answer[:n]) == string(packet)
}
