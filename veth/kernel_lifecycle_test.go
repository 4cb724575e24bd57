package veth_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

// named makes a namespace with a path under /run/netns that is removed at the end of the test.
func named(t testing.TB, name string) *netns.NS {
	t.Helper()
	ns, err := netns.Create(name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = ns.Close()
		if err := netns.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			require.NoError(t, err)
		}
	})
	nstest.Run(t, ns, "ip", "link", "set", "lo", "up")
	return ns
}

// attachment is what one container wants: the shared bridge and its own pair.
func attachment(i int, path string) veth.State {
	s := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{{
		Host: veth.Host{Name: fmt.Sprintf("veth%d", i), Bridge: "cni0"},
		Pod: veth.Pod{
			NetNS: path, Name: "eth0",
			Addresses: prefixes(fmt.Sprintf("10.1.0.%d/24", 10+i), fmt.Sprintf("fd01::%d/64", 10+i)),
			Routes:    []veth.Route{veth.DefaultVia(addr("10.1.0.1")), veth.DefaultVia(addr("fd01::1"))},
		},
	}}}
	return s
}

// TestKernelAttachments walks through the life of containers whose plugin runs in a new process each time: ADD, CHECK and DEL with a
// client of their own, on a bridge that they share.
func TestKernelAttachments(t *testing.T) {
	n := newNode(t, veth.Config{Owner: "net1"})
	a, b := nstest.New(t), nstest.New(t)
	first := n.open(veth.Config{Owner: "net1", Attachment: "ctr1/eth0"})
	second := n.open(veth.Config{Owner: "net1", Attachment: "ctr2/eth0"})
	wantA, wantB := attachment(1, podPath(a)), attachment(2, podPath(b))

	p, err := first.Sync(n.ctx, wantA)
	require.NoError(t, err)
	require.Contains(t, p.String(), "+ bridge cni0")
	p, err = second.Sync(n.ctx, wantB)
	require.NoError(t, err)
	require.NotContains(t, p.String(), "bridge cni0:")
	flows(t, a, wantA.Pairs[0].Pod.Addresses, b, wantB.Pairs[0].Pod.Addresses)

	names, err := n.client.Attachments(n.ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"ctr1/eth0", "ctr2/eth0"}, names)

	// Each sees its own, and the shared bridge.
	again := n.open(veth.Config{Owner: "net1", Attachment: "ctr1/eth0"})
	got, err := again.Read(n.ctx)
	require.NoError(t, err)
	require.Equal(t, text(t, given(wantA.Canonical(), got)), text(t, got))
	p, err = again.Plan(n.ctx, wantA)
	require.NoError(t, err)
	require.True(t, p.Empty(), p.String())

	// The owner may not take the bridge away from under them.
	_, err = n.client.Sync(n.ctx, veth.State{})
	var busy *veth.BusyError
	require.ErrorAs(t, err, &busy)
	require.Equal(t, "cni0", busy.Bridge)
	require.ElementsMatch(t, []string{"veth1", "veth2"}, busy.Ports)

	// DEL of the first leaves the bridge and the second alone; a second DEL is fine.
	for range 2 {
		_, err = first.Sync(n.ctx, veth.State{})
		require.NoError(t, err)
	}
	flows(t, n.ns, gateways, b, wantB.Pairs[0].Pod.Addresses)
	got, err = first.Read(n.ctx)
	require.NoError(t, err)
	require.Equal(t, veth.State{}, got)

	_, err = second.Sync(n.ctx, veth.State{})
	require.NoError(t, err)
	require.Contains(t, n.links(), "cni0")
	_, err = n.client.Sync(n.ctx, veth.State{})
	require.NoError(t, err)
	require.NotContains(t, n.links(), "cni0")
}

// TestKernelPodGone: pairs are removed also when the path of the pod's namespace is gone, or leads to another namespace by now.
func TestKernelPodGone(t *testing.T) {
	n := newNode(t, veth.Config{})
	pod := named(t, "podplumb-gone")
	path := pod.Path()
	want := attachment(1, path)
	n.sync(want)

	require.NoError(t, netns.Remove("podplumb-gone")) // pod, the handle, keeps it alive
	_, err := n.client.Plan(n.ctx, want)
	var gone *veth.PodGoneError
	require.ErrorAs(t, err, &gone)
	require.Equal(t, path, gone.NetNS)
	require.ErrorIs(t, err, fs.ErrNotExist)
	got, err := n.client.Read(n.ctx)
	require.NoError(t, err)
	require.Equal(t, path, got.Pairs[0].Pod.NetNS)
	require.Empty(t, got.Pairs[0].Pod.Name)

	// Another namespace at the same path: the pair is made anew in it.
	other := named(t, "podplumb-gone")
	p, err := n.client.Sync(n.ctx, want)
	require.NoError(t, err)
	require.Contains(t, p.String(), "- pair veth1\n+ pair veth1: eth0 in "+path)
	n.settled(want)
	flows(t, n.ns, gateways, other, want.Pairs[0].Pod.Addresses)

	require.NoError(t, netns.Remove("podplumb-gone"))
	_, err = n.client.Sync(n.ctx, veth.State{})
	require.NoError(t, err)
	require.NotContains(t, n.links(), "veth1")

	// When the namespace dies, the kernel takes the pair along.
	last := named(t, "podplumb-gone")
	n.sync(want)
	require.NoError(t, last.Close())
	require.NoError(t, netns.Remove("podplumb-gone"))
	require.NoError(t, other.Close())
	_, err = n.client.Sync(n.ctx, veth.State{})
	require.NoError(t, err)
	n.sync(veth.State{})

	_, err = n.client.Sync(n.ctx, want)
	require.ErrorAs(t, err, &gone)
	require.NotContains(t, n.links(), "cni0", "something was made although the pod is not there")
	err = n.client.Attach(n.ctx, bridged(1, nstest.New(t)))
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "veth: find bridge cni0")
}

// TestKernelForeign: links of others are reported and stay as they are.
func TestKernelForeign(t *testing.T) {
	n := newNode(t, veth.Config{})
	a := nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a)}}
	isForeign := func(name, netNS string) {
		t.Helper()
		addresses := func() string {
			return strings.ReplaceAll(nstest.Run(t, n.ns, "ip", "address"), " tentative", "")
		}
		before := addresses()
		_, err := n.client.Sync(n.ctx, want)
		var foreign *veth.ForeignError
		require.ErrorAs(t, err, &foreign)
		require.Equal(t, name, foreign.Name)
		require.Equal(t, netNS, foreign.NetNS)
		require.ErrorIs(t, err, fs.ErrExist)
		require.Equal(t, before, addresses())
	}
	nstest.AddBridge(t, n.ns, "cni0")
	isForeign("cni0", "")
	nstest.Run(t, n.ns, "ip", "link", "set", "cni0", "alias", "somebody")
	isForeign("cni0", "")
	nstest.Run(t, n.ns, "ip", "link", "del", "cni0")

	nstest.Run(t, n.ns, "ip", "link", "add", "pod1", "type", "veth", "peer", "name", "peer1")
	isForeign("pod1", "")
	require.ErrorIs(t, n.client.Detach(n.ctx, "pod1"), fs.ErrExist)
	nstest.Run(t, n.ns, "ip", "link", "set", "pod1", "group", "42")
	require.ErrorIs(t, n.client.DetachGroup(n.ctx, 42), fs.ErrExist)
	require.Contains(t, n.links(), "pod1")
	nstest.Run(t, n.ns, "ip", "link", "del", "pod1")

	nstest.AddBridge(t, a, "eth0")
	isForeign("eth0", podPath(a))
	nstest.Run(t, a, "ip", "link", "del", "eth0")

	// Another owner's.
	other := n.open(veth.Config{Owner: "other"})
	_, err := other.Sync(n.ctx, want)
	require.NoError(t, err)
	_, err = n.client.Sync(n.ctx, want)
	require.ErrorContains(t, err, `taken by a bridge of "other", which is left alone`)
	require.ErrorContains(t, err, "plan pair pod1: the name pod1 is taken", "all obstacles are named at once")
	got, err := n.client.Read(n.ctx)
	require.NoError(t, err)
	require.Equal(t, veth.State{}, got)
	_, err = other.Sync(n.ctx, veth.State{})
	require.NoError(t, err)

	// A port of others stays on the bridge, and keeps the bridge.
	n.sync(want)
	nstest.AddBridge(t, n.ns, "spare0")
	nstest.Run(t, n.ns, "ip", "link", "add", "guest0", "type", "veth", "peer", "name", "guest1")
	nstest.Run(t, n.ns, "ip", "link", "set", "guest0", "master", "cni0")
	n.sync(want)
	_, err = n.client.Sync(n.ctx, veth.State{})
	var busy *veth.BusyError
	require.ErrorAs(t, err, &busy)
	require.Equal(t, []string{"guest0"}, busy.Ports)
	require.Contains(t, n.links(), "pod1", "nothing is removed when the bridge has to stay")
	n.sync(veth.State{Bridges: want.Bridges})
	nstest.Run(t, n.ns, "ip", "link", "del", "guest0")
	n.sync(veth.State{})
	require.Contains(t, n.links(), "spare0")

	// A bridge that is not the client's can be used, and is not touched.
	nstest.AddBridge(t, n.ns, "cni0")
	n.sync(veth.State{Pairs: want.Pairs})
	n.sync(veth.State{})
	require.Contains(t, n.links(), "cni0")
}

// TestKernelForceAddress: a gateway address that is not wanted is refused, or replaced when that is asked for.
func TestKernelForceAddress(t *testing.T) {
	n := newNode(t, veth.Config{})
	a := nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a)}}
	n.sync(want)
	moved := want.Canonical()
	moved.Bridges[0].Addresses = prefixes("10.1.0.2/24", "fd01::2/64")
	moved.Pairs[0].Pod.Routes = []veth.Route{veth.DefaultVia(addr("10.1.0.2")), veth.DefaultVia(addr("fd01::2"))}
	_, err := n.client.Sync(n.ctx, moved)
	var refused *veth.AddressError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, &veth.AddressError{Bridge: "cni0", Have: gateways, Want: moved.Bridges[0].Addresses}, refused)
	n.settled(want)

	n.client = n.open(veth.Config{ForceAddress: true})
	n.sync(moved)
	flows(t, a, moved.Pairs[0].Pod.Addresses, n.ns, moved.Bridges[0].Addresses)
}

// TestKernelUndo: when a pair cannot be made whole, nothing of it stays, nor of the bridge that was made for it.
func TestKernelUndo(t *testing.T) {
	n := newNode(t, veth.Config{})
	a, b := nstest.New(t), nstest.New(t)
	// The pod has another link with a default route of the same metric.
	nstest.Join(t, a, "other0", b, "other1")
	nstest.Run(t, a, "ip", "address", "add", "10.50.0.1/24", "dev", "other0")
	nstest.Run(t, a, "ip", "route", "add", "default", "via", "10.50.0.2")
	before, inside := n.links(), nstest.Run(t, a, "ip", "route")
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a)}}
	_, err := n.client.Sync(n.ctx, want)
	var route *veth.RouteError
	require.ErrorAs(t, err, &route)
	require.Equal(t, "0.0.0.0/0", route.Route.To.String())
	require.Equal(t, before, n.links())
	require.Equal(t, inside, nstest.Run(t, a, "ip", "route"))

	// A metric of its own makes it possible.
	want.Pairs[0].Pod.Routes[0].Metric = 100
	n.sync(want)

	// A pair that exists goes back to what it was.
	changed := want.Canonical()
	changed.Pairs[0].Host.MTU, changed.Pairs[0].Pod.MTU = 1400, 1400
	changed.Pairs[0].Pod.Addresses = prefixes("10.1.0.99/24", "fd01::99/64")
	changed.Pairs[0].Pod.Sysctls = map[string]string{"net.ipv4.conf.IFNAME.forwarding": "1"}
	changed.Pairs[0].Pod.Routes = []veth.Route{veth.DefaultVia(addr("10.1.0.1"))}
	_, err = n.client.Sync(n.ctx, changed)
	require.ErrorAs(t, err, &route)
	n.settled(want)

	// A sysctl that does not exist, in a pair that is new.
	broken := bridged(2, b)
	broken.Pod.Sysctls = map[string]string{"net.ipv4.conf.IFNAME.no_such_thing": "1"}
	_, err = n.client.Sync(n.ctx, veth.State{Bridges: want.Bridges, Pairs: []veth.Pair{want.Pairs[0], broken}})
	require.ErrorContains(t, err, "veth: apply pair pod2: sysctl net.ipv4.conf.IFNAME.no_such_thing: no such file or directory")
	require.NotContains(t, n.links(), "pod2")
	require.Error(t, n.client.Attach(n.ctx, broken))
	require.NotContains(t, n.links(), "pod2")
	n.settled(want)
	flows(t, n.ns, gateways, a, want.Pairs[0].Pod.Addresses)
}

// TestKernelStale: a plan that the kernel has outrun changes nothing.
func TestKernelStale(t *testing.T) {
	n := newNode(t, veth.Config{})
	a := nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a)}}
	p, err := n.client.Plan(n.ctx, want)
	require.NoError(t, err)
	require.NoError(t, n.client.Apply(n.ctx, p))
	n.settled(want)
	before := nstest.Run(t, n.ns, "ip", "address")
	require.ErrorIs(t, n.client.Apply(n.ctx, p), veth.ErrStale)
	require.Equal(t, before, nstest.Run(t, n.ns, "ip", "address"))

	nstest.Run(t, n.ns, "ip", "link", "set", "pod1", "nomaster")
	p, err = n.client.Plan(n.ctx, want)
	require.NoError(t, err)
	nstest.Run(t, a, "ip", "route", "del", "default")
	require.ErrorIs(t, n.client.Apply(n.ctx, p), veth.ErrStale)
	require.Contains(t, nstest.Run(t, n.ns, "ip", "-br", "link", "show", "nomaster"), "pod1")
	n.sync(want)
	require.NoError(t, n.client.Apply(n.ctx, veth.Plan{}))
}

// TestKernelRestart: a client that knows nothing reads everything back: settings, sysctls, several addresses and routes, groups.
func TestKernelRestart(t *testing.T) {
	n := newNode(t, veth.Config{})
	a, b := named(t, "podplumb-restart-a"), named(t, "podplumb restart b")
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a), routed(2, b)}}
	want.Pairs[0].Pod.NetNS, want.Pairs[1].Pod.NetNS = a.Path(), b.Path()
	br, first, second := &want.Bridges[0], &want.Pairs[0], &want.Pairs[1]
	br.MTU, br.Promiscuous, br.MulticastSnooping, br.GroupForwardMask, br.Ageing, br.DAD, br.CallIPTables = 9000, true, true, 0x4000, -1, true, true
	br.Sysctls = map[string]string{"net.ipv4.conf.IFNAME.proxy_arp_pvlan": "1"}
	br.Routes = []veth.Route{{To: prefixes("fd77::/64")[0], Via: addr("fd01::77"), Metric: 3}}
	first.Group = 99
	first.Host.MTU = 9000
	first.Host.Port = veth.Port{Hairpin: true, Isolated: true}
	first.Host.Sysctls = map[string]string{"net/ipv4/conf/IFNAME/rp_filter": "2", "net.ipv4.neigh.IFNAME.gc_stale_time": "61"}
	first.Pod.Addresses = append(first.Pod.Addresses, prefixes("10.1.0.200/24", "10.44.0.1/16", "fd44::1/64")...)
	first.Pod.Sysctls = map[string]string{"net.core.somaxconn": "777", "net.ipv4.ip_local_port_range": "40000 50000", "net.ipv6.conf.IFNAME.accept_ra": "0"}
	second.Host.ProxyARP, second.Host.Proxy = true, []netip.Addr{addr("fe80::99")}
	second.Host.Unrouted = []netip.Addr{addr("fd02::12")}
	second.Host.Routes = []veth.Route{{To: prefixes("10.2.0.12/32")[0], MTU: 1300}}
	second.Pod.DAD = true
	n.sync(want)

	n.client = n.open(veth.Config{})
	n.settled(want)
	n.client = n.open(veth.Config{Owner: "other"})
	got, err := n.client.Read(n.ctx)
	require.NoError(t, err)
	require.Equal(t, veth.State{}, got)

	// What is dropped goes back to what new links get.
	n.client = n.open(veth.Config{ForceAddress: true})
	plain := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a), routed(2, b)}}
	plain.Pairs[0].Pod.NetNS, plain.Pairs[1].Pod.NetNS = a.Path(), b.Path()
	n.sync(plain)
	for _, key := range []string{"proxy_arp_pvlan", "rp_filter"} {
		require.Equal(t, sysctl(t, n.ns, "net.ipv4.conf.default."+key), sysctl(t, n.ns, "net.ipv4.conf.pod1."+key))
	}
	require.Equal(t, "1", sysctl(t, a, "net.ipv6.conf.eth0.accept_ra"))
	flows(t, n.ns, gateways, a, bridged(1, a).Pod.Addresses)
}

func sysctl(t testing.TB, ns *netns.NS, key string) string {
	t.Helper()
	v, err := ns.Sysctl(key)
	require.NoError(t, err)
	return v
}

// TestKernelDetach: by name, several at once, and by group; what is not there is no error.
func TestKernelDetach(t *testing.T) {
	n := newNode(t, veth.Config{})
	n.sync(veth.State{Bridges: []veth.Bridge{bridge()}})
	var pods []*netns.NS
	for i := range 6 {
		pods = append(pods, nstest.New(t))
		p := bridged(i, pods[i])
		p.Group = uint32(1 + i/4)
		require.NoError(t, n.client.Attach(n.ctx, p))
		err := n.client.Attach(n.ctx, p)
		require.ErrorIs(t, err, fs.ErrExist)
		p.Host.Name = "another"
		var foreign *veth.ForeignError
		require.ErrorAs(t, n.client.Attach(n.ctx, p), &foreign)
		require.Equal(t, podPath(pods[i]), foreign.NetNS)
	}
	flows(t, pods[0], bridged(0, pods[0]).Pod.Addresses, pods[5], bridged(5, pods[5]).Pod.Addresses)
	left := func() int {
		s, err := n.client.Read(n.ctx)
		require.NoError(t, err)
		return len(s.Pairs)
	}
	require.NoError(t, n.client.Detach(n.ctx, "pod0", "nothing", "pod1"))
	require.Equal(t, 4, left())
	require.NoError(t, n.client.Detach(n.ctx, "pod1"))
	require.NoError(t, n.client.DetachGroup(n.ctx, 2))
	require.NoError(t, n.client.DetachGroup(n.ctx, 2))
	require.Equal(t, 2, left())
	require.ErrorIs(t, n.client.DetachGroup(n.ctx, 0), fs.ErrInvalid)
	n.sync(veth.State{})
}

// TestKernelParallel: 64 containers come and go at once, each with a client of its own, and share a bridge that none of them had.
func TestKernelParallel(t *testing.T) {
	const many = 64
	n := newNode(t, veth.Config{Owner: "net1"})
	pods := make([]*netns.NS, many)
	clients := make([]*veth.Client, many)
	for i := range many {
		pods[i] = nstest.New(t)
		clients[i] = n.open(veth.Config{Owner: "net1", Attachment: fmt.Sprintf("ctr%d", i)})
	}
	each := func(f func(i int) error) {
		t.Helper()
		errs := make([]error, many)
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() { errs[i] = f(i) })
		}
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
	}
	each(func(i int) error {
		_, err := clients[i].Sync(n.ctx, attachment(i, podPath(pods[i])))
		return err
	})
	each(func(i int) error {
		p, err := clients[i].Plan(n.ctx, attachment(i, podPath(pods[i])))
		if err == nil && !p.Empty() {
			err = fmt.Errorf("attachment %d: %s", i, p)
		}
		return err
	})
	flows(t, pods[0], attachment(0, "/").Pairs[0].Pod.Addresses, pods[many-1], attachment(many-1, "/").Pairs[0].Pod.Addresses)
	each(func(i int) error {
		_, err := clients[i].Sync(n.ctx, veth.State{})
		return err
	})
	require.NotContains(t, n.links(), "veth")

	// The same on one client.
	each(func(i int) error { return n.client.Attach(n.ctx, bridged(i, pods[i])) })
	flows(t, pods[1], bridged(1, pods[1]).Pod.Addresses, pods[2], bridged(2, pods[2]).Pod.Addresses)
	each(func(i int) error { return n.client.Detach(n.ctx, fmt.Sprintf("pod%d", i)) })
	n.sync(veth.State{})
	require.NotContains(t, n.links(), "cni0")
}
