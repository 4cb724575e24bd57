package policy_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/policy"
)

// showBridged turns br_netfilter on or off in the node's namespace.
func (c *cluster) showBridged(t testing.TB, on bool) {
	t.Helper()
	value := map[bool]string{true: "1", false: "0"}[on]
	for _, key := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
		nstest.Run(t, c.node.NS, "sysctl", "-qw", key+"="+value)
	}
}

func (c *cluster) reach(t testing.TB, from, to string, want bool) {
	t.Helper()
	for _, v6 := range []bool{false, true} {
		for _, network := range []string{"tcp", "udp"} {
			at := netip.AddrPortFrom(c.ends[to].Addr(v6), 8080)
			require.Equal(t, want, reaches(c.ends[from].NS, network, at, want), "%s -> %s, %s %s", from, to, network, at)
		}
	}
}

// Where bridged packets pass by the policies, nobody is left to believe in them.
func TestBridgedUnseen(t *testing.T) {
	needs(t)
	c := newCluster(t)
	c.serve(t, "db", 8080)
	bridge := "br0"
	for _, line := range strings.Split(nstest.Run(t, c.node.NS, "ip", "-o", "link", "show", "type", "bridge"), "\n") {
		if f := strings.Fields(line); len(f) > 1 {
			bridge = strings.TrimSuffix(f[1], ":")
		}
	}
	s := c.with(t, allowWeb)
	lenient := client(t, c.node.NS, func(c *policy.Config) { c.Node, c.AllowBridged, c.Table = "node0", true, "lenient" })
	cl := client(t, c.node.NS, func(c *policy.Config) { c.Node = "node0" })
	sync(t, cl, s)
	c.reach(t, "web", "db", true)
	c.reach(t, "probe", "db", false)

	c.showBridged(t, false)
	_, err := cl.Sync(within(t), s)
	require.ErrorIs(t, err, policy.ErrBridged)
	require.ErrorContains(t, err, "bridge "+bridge+", behind which pod address")
	require.ErrorContains(t, err, "net.bridge.bridge-nf-call-iptables")
	c.reach(t, "probe", "db", true) // what the error is about
	require.ErrorIs(t, cl.Admit(within(t), s.Pods[0]), policy.ErrBridged)
	_, err = cl.Update(within(t), policy.Change{Set: policy.State{Namespaces: []policy.Namespace{{Meta: policy.Meta{Name: "elsewhere"}}}}})
	require.NoError(t, err)
	// The rest is in force all the same.
	c.reach(t, "far-web", "db", false)
	_, err = lenient.Sync(within(t), s)
	require.NoError(t, err)
	sync(t, lenient, policy.State{})

	// Half of the remedy is none.
	nstest.Run(t, c.node.NS, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1")
	_, err = cl.Sync(within(t), s)
	require.ErrorIs(t, err, policy.ErrBridged)
	require.ErrorContains(t, err, "bridge-nf-call-ip6tables")
	nstest.Run(t, c.node.NS, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")

	// The bridge's own options do.
	nstest.Run(t, c.node.NS, "ip", "link", "set", bridge, "type", "bridge", "nf_call_iptables", "1", "nf_call_ip6tables", "1")
	sync(t, cl, s)
	c.reach(t, "web", "db", true)
	c.reach(t, "probe", "db", false)

	// A bridge of somebody else's does not matter.
	nstest.Run(t, c.node.NS, "ip", "link", "add", "other0", "type", "bridge")
	nstest.Run(t, c.node.NS, "ip", "address", "add", "172.17.0.1/16", "dev", "other0")
	nstest.Run(t, c.node.NS, "ip", "link", "set", "other0", "up")
	sync(t, cl, s)
}

// What is turned off later is told by Watch.
func TestBridgedUnseenLater(t *testing.T) {
	needs(t)
	c := newCluster(t)
	told := make(chan error, 8)
	cl := client(t, c.node.NS, func(c *policy.Config) {
		c.Node = "node0"
		c.Repaired = func(_ policy.Plan, err error) { told <- err }
	})
	sync(t, cl, c.with(t, allowWeb))
	ctx, stop := context.WithCancel(within(t))
	done := make(chan error, 1)
	go func() { done <- cl.Watch(ctx) }()
	c.showBridged(t, false)
	// The setting makes no event; the next change of a link is one.
	require.Eventually(t, func() bool {
		nstest.Run(t, c.node.NS, "ip", "link", "add", "x", "type", "veth")
		nstest.Run(t, c.node.NS, "ip", "link", "delete", "x")
		select {
		case err := <-told:
			require.ErrorIs(t, err, policy.ErrBridged)
			return true
		case <-time.After(200 * time.Millisecond):
			return false
		}
	}, 20*time.Second, time.Millisecond)
	stop()
	require.ErrorIs(t, <-done, context.Canceled)
}
