package veth_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// node is a namespace with a client, and pods that can be attached to it.
type node struct {
	t      testing.TB
	ns     *netns.NS
	client *veth.Client
	ctx    context.Context
}

func newNode(t testing.TB, c veth.Config) *node {
	t.Helper()
	nstest.Require(t, nstest.Veth)
	nstest.Require(t, nstest.Bridge)
	nstest.Leaks(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	n := &node{t: t, ns: nstest.New(t), ctx: ctx}
	n.client = n.open(c)
	return n
}

// open makes one more client of the node.
func (n *node) open(c veth.Config) *veth.Client {
	n.t.Helper()
	c.NetNS = n.ns
	client, err := veth.New(c)
	require.NoError(n.t, err)
	n.t.Cleanup(func() { require.NoError(n.t, client.Close()) })
	return client
}

// sync brings the node to want and checks that Read tells the same and that nothing is left to do.
func (n *node) sync(want veth.State) {
	n.t.Helper()
	_, err := n.client.Sync(n.ctx, want)
	require.NoError(n.t, err)
	n.settled(want)
}

func (n *node) settled(want veth.State) {
	n.t.Helper()
	p, err := n.client.Plan(n.ctx, want)
	require.NoError(n.t, err)
	require.Empty(n.t, p.String())
	require.True(n.t, p.Empty())
	got, err := n.client.Read(n.ctx)
	require.NoError(n.t, err)
	require.Equal(n.t, text(n.t, given(want.Canonical(), got)), text(n.t, got))
}

// given fills in what want leaves to the kernel: MAC addresses.
func given(want, got veth.State) veth.State {
	for i := range min(len(want.Bridges), len(got.Bridges)) {
		if want.Bridges[i].MAC == (veth.MAC{}) {
			want.Bridges[i].MAC = got.Bridges[i].MAC
		}
	}
	for i := range min(len(want.Pairs), len(got.Pairs)) {
		w, g := &want.Pairs[i], got.Pairs[i]
		if w.Host.MAC == (veth.MAC{}) {
			w.Host.MAC = g.Host.MAC
		}
		if w.Pod.MAC == (veth.MAC{}) {
			w.Pod.MAC = g.Pod.MAC
		}
	}
	return want
}

// text prints a state so that differences can be read.
func text(t testing.TB, s veth.State) string {
	t.Helper()
	b, err := json.MarshalIndent(s, "", " ")
	require.NoError(t, err)
	return string(b)
}

// links lists the names of the node's links.
func (n *node) links() string { return nstest.Run(n.t, n.ns, "ip", "-br", "link") }

// podPath gives an anonymous namespace a path that stays valid as long as its handle is open.
func podPath(ns *netns.NS) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ns.Fd()) }

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

var gateways = prefixes("10.1.0.1/24", "fd01::1/64")

func bridge() veth.Bridge { return veth.Bridge{Name: "cni0", Addresses: gateways} }

// bridged is the i-th pod behind the bridge.
func bridged(i int, ns *netns.NS) veth.Pair {
	return veth.Pair{
		Host: veth.Host{Name: fmt.Sprintf("pod%d", i), Bridge: "cni0"},
		Pod: veth.Pod{
			NetNS:     podPath(ns),
			Name:      "eth0",
			Addresses: prefixes(fmt.Sprintf("10.1.0.%d/24", 10+i), fmt.Sprintf("fd01::%d/64", 10+i)),
			Routes:    []veth.Route{veth.DefaultVia(addr("10.1.0.1")), veth.DefaultVia(addr("fd01::1"))},
		},
	}
}

// routed is the i-th pod that is routed point to point.
func routed(i int, ns *netns.NS) veth.Pair {
	v4, v6 := veth.DefaultVia(addr("169.254.1.1")), veth.DefaultVia(addr("fe80::1"))
	v4.OnLink, v6.OnLink = true, true
	return veth.Pair{
		Host: veth.Host{Name: fmt.Sprintf("ptp%d", i), Addresses: prefixes("169.254.1.1/32", "fe80::1/64")},
		Pod: veth.Pod{
			NetNS:     podPath(ns),
			Name:      "eth0",
			Addresses: prefixes(fmt.Sprintf("10.2.0.%d/32", 10+i), fmt.Sprintf("fd02::%d/128", 10+i)),
			Routes:    []veth.Route{v4, v6},
		},
	}
}

// flows proves that TCP and UDP of both families pass from one namespace to addresses in another, with the sender's own address.
func flows(t testing.TB, from *netns.NS, own []netip.Prefix, to *netns.NS, at []netip.Prefix) {
	t.Helper()
	for i, a := range at {
		target := netip.AddrPortFrom(a.Addr(), 0).String()
		tcp := nstest.ServeTCP(t, to, target, "tcp")
		udp := nstest.ServeUDP(t, to, target, "udp")
		for network, server := range map[string]netip.AddrPort{"tcp": tcp, "udp": udp} {
			answer := nstest.Reaches(t, from, network, server)
			require.Equal(t, own[i].Addr(), answer.Client.Addr(), "%s to %s", network, server)
		}
	}
}

func TestKernelBridge(t *testing.T) {
	n := newNode(t, veth.Config{})
	before := n.links()
	a, b := nstest.New(t), nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a), bridged(2, b)}}
	n.sync(want)
	flows(t, a, want.Pairs[0].Pod.Addresses, b, want.Pairs[1].Pod.Addresses)
	flows(t, a, want.Pairs[0].Pod.Addresses, n.ns, gateways)
	flows(t, n.ns, gateways, b, want.Pairs[1].Pod.Addresses)
	n.sync(veth.State{})
	require.Equal(t, before, n.links())
}

func TestKernelRouted(t *testing.T) {
	n := newNode(t, veth.Config{})
	nstest.Forward(t, n.ns)
	before := n.links()
	a, b := nstest.New(t), nstest.New(t)
	want := veth.State{Pairs: []veth.Pair{routed(1, a), routed(2, b)}}
	n.sync(want)
	flows(t, a, want.Pairs[0].Pod.Addresses, b, want.Pairs[1].Pod.Addresses)
	n.sync(veth.State{})
	require.Equal(t, before, n.links())
	require.Empty(t, nstest.Run(t, n.ns, "ip", "route"))
}
