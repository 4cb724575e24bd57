package veth_test

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

// TestKernelCancel: whenever a call is cancelled, the pair is there as a whole or not at all, and so is the bridge.
func TestKernelCancel(t *testing.T) {
	n := newNode(t, veth.Config{})
	a := nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a)}}
	const steps = 40
	start := time.Now()
	_, err := n.client.Sync(n.ctx, want)
	require.NoError(t, err)
	whole := time.Since(start)
	n.sync(veth.State{})
	undone := 0
	for i := range steps {
		ctx, cancel := context.WithTimeout(n.ctx, whole*time.Duration(i)/(steps-1))
		_, err := n.client.Sync(ctx, want)
		cancel()
		if err == nil {
			n.settled(want)
			n.sync(veth.State{})
			continue
		}
		undone++
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotContains(t, n.links(), "pod1")
		require.NotContains(t, n.links(), "br", "a bridge, or one that is half made")
	}
	require.NotZero(t, undone)
}

// TestKernelOddLinks: links without IPv6, bridges that are down, ends that are down.
func TestKernelOddLinks(t *testing.T) {
	n := newNode(t, veth.Config{})
	a, b := nstest.New(t), nstest.New(t)
	small := veth.State{
		Bridges: []veth.Bridge{{Name: "cni0", Addresses: gateways[:1], MTU: 1000}},
		Pairs: []veth.Pair{{
			Host: veth.Host{Name: "pod1", Bridge: "cni0", MTU: 1000},
			Pod:  veth.Pod{NetNS: podPath(a), Name: "eth0", Addresses: prefixes("10.1.0.11/24")},
		}},
	}
	n.sync(small)
	flows(t, a, small.Pairs[0].Pod.Addresses, n.ns, gateways[:1])
	small.Pairs[0].Host.Bridge = ""
	small.Pairs[0].Host.Addresses = prefixes("169.254.1.1/32")
	n.sync(small)
	small.Pairs[0].Host.Bridge, small.Pairs[0].Host.Addresses = "cni0", nil
	n.sync(small)
	flows(t, a, small.Pairs[0].Pod.Addresses, n.ns, gateways[:1])

	down := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a), bridged(2, b)}}
	down.Bridges[0].Down = true
	down.Pairs[1].Pod.Down, down.Pairs[1].Pod.Routes = true, nil
	n.sync(veth.State{})
	n.sync(down) // and waits for no carrier that cannot come
	down.Bridges[0].Down, down.Pairs[1].Pod.Down = false, false
	n.sync(down)
	flows(t, a, down.Pairs[0].Pod.Addresses, b, down.Pairs[1].Pod.Addresses)

	// From a bridge port to a routed end and back.
	moved := veth.State{Bridges: down.Bridges, Pairs: []veth.Pair{down.Pairs[0], routed(2, b)}}
	moved.Pairs[1].Host.Name = "pod2"
	n.sync(moved)
	own := nstest.Run(t, n.ns, "ip", "-6", "address", "show", "dev", "pod2")
	require.Equal(t, 2, strings.Count(own, "inet6 fe80::"), "the gateway's address and the link's own: %s", own)
	flows(t, n.ns, prefixes("169.254.1.1/32"), b, moved.Pairs[1].Pod.Addresses[:1])
	n.sync(down)
	flows(t, a, down.Pairs[0].Pod.Addresses, b, down.Pairs[1].Pod.Addresses)
}

// TestKernelOwnBridge: a pair cannot stay on a bridge of the client's own that is to go.
func TestKernelOwnBridge(t *testing.T) {
	n := newNode(t, veth.Config{})
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, nstest.New(t))}}
	n.sync(want)
	_, err := n.client.Sync(n.ctx, veth.State{Pairs: want.Pairs})
	require.ErrorContains(t, err, "cni0 is this client's own and the state does not list it")
	n.settled(want)
}

// TestKernelAliasFull: what does not fit into a link's alias is refused before anything is made.
func TestKernelAliasFull(t *testing.T) {
	n := newNode(t, veth.Config{Owner: strings.Repeat("o", 100), Attachment: strings.Repeat("a", 100)})
	p := bridged(1, nstest.New(t))
	p.Pod.NetNS = "/" + strings.Repeat("p", 60)
	before := n.links()
	_, err := n.client.Sync(n.ctx, veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{p}})
	require.ErrorContains(t, err, "pair pod1: owner, sysctl names and namespace path take more than the 255 bytes of a link alias")
	require.ErrorIs(t, err, fs.ErrInvalid)
	require.ErrorIs(t, n.client.Attach(n.ctx, p), fs.ErrInvalid)
	require.Equal(t, before, n.links())

	for _, c := range []veth.Config{{Owner: "a b"}, {Owner: "a/b"}, {Attachment: "a\tb"}, {Owner: strings.Repeat("o", 256)}} {
		_, err := veth.New(c)
		require.ErrorIs(t, err, fs.ErrInvalid)
	}
}

func TestKernelClosedNamespace(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	ns, err := netns.New()
	require.NoError(t, err)
	require.NoError(t, ns.Close())
	_, err = veth.New(veth.Config{NetNS: ns})
	require.ErrorIs(t, err, fs.ErrClosed)
}
