package veth_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

// TestKernelUpdate makes, repairs and refuses what its state lists, and leaves the client's other pairs alone.
func TestKernelUpdate(t *testing.T) {
	n := newNode(t, veth.Config{})
	a, b := nstest.New(t), nstest.New(t)
	first, second := attachment(1, podPath(a)), attachment(2, podPath(b))
	for _, want := range []veth.State{first, second} {
		p, err := n.client.PlanUpdate(n.ctx, want)
		require.NoError(t, err)
		require.Contains(t, p.String(), "+ pair "+want.Pairs[0].Host.Name)
		_, err = n.client.Update(n.ctx, want)
		require.NoError(t, err)
		p, err = n.client.PlanUpdate(n.ctx, want)
		require.NoError(t, err)
		require.True(t, p.Empty(), p.String())
	}
	flows(t, a, first.Pairs[0].Pod.Addresses, b, second.Pairs[0].Pod.Addresses)
	both := veth.State{Bridges: first.Bridges, Pairs: []veth.Pair{first.Pairs[0], second.Pairs[0]}}
	n.settled(both)

	// A plan of PlanUpdate can be applied, and goes stale like any other.
	run := func(ns *netns.NS, args ...string) { t.Helper(); nstest.Run(t, ns, args[0], args[1:]...) }
	run(a, "ip", "address", "del", "10.1.0.11/24", "dev", "eth0")
	run(n.ns, "ip", "link", "set", "cni0", "down")
	p, err := n.client.PlanUpdate(n.ctx, first)
	require.NoError(t, err)
	require.Contains(t, p.String(), "10.1.0.11/24")
	require.NoError(t, n.client.Apply(n.ctx, p))
	require.ErrorIs(t, n.client.Apply(n.ctx, p), veth.ErrStale)
	n.settled(both)

	// A port that was moved elsewhere comes back.
	run(n.ns, "ip", "link", "add", "other0", "type", "bridge")
	run(n.ns, "ip", "link", "set", "veth1", "master", "other0")
	p, err = n.client.Update(n.ctx, first)
	require.NoError(t, err)
	require.Contains(t, p.String(), "other0")
	run(n.ns, "ip", "link", "del", "other0")
	n.settled(both)

	// Foreign names are refused as ever.
	run(n.ns, "ip", "link", "add", "veth3", "type", "bridge")
	third := attachment(3, podPath(a))
	third.Pairs[0].Pod.Name = "eth1"
	_, err = n.client.Update(n.ctx, third)
	var foreign *veth.ForeignError
	require.True(t, errors.As(err, &foreign), "%v", err)

	m, err := n.client.MAC(n.ctx, "cni0")
	require.NoError(t, err)
	require.NotZero(t, m)
	_, err = n.client.MAC(n.ctx, "nothing")
	require.ErrorIs(t, err, fs.ErrNotExist)
	run(n.ns, "ip", "link", "del", "veth3")
	_, err = n.client.Sync(n.ctx, veth.State{})
	require.NoError(t, err)
}
