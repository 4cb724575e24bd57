package vxlan_test

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/internal/rtnl"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/vxlan"
)

// outcome is what a Watch yielded once.
type outcome struct {
	plan vxlan.Plan
	err  error
}

// watch runs Watch until the end of the test and passes on what it yields. The first Sync is waited for and must succeed.
func watch(t testing.TB, ctx context.Context, c *vxlan.Client, want vxlan.State) chan outcome {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	out, done := make(chan outcome, 1000), make(chan struct{})
	go func() {
		defer close(done)
		for p, err := range c.Watch(ctx, want) {
			out <- outcome{p, err}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	require.NoError(t, next(t, out).err)
	return out
}

func next(t testing.TB, out chan outcome) outcome {
	t.Helper()
	select {
	case o := <-out:
		return o
	case <-time.After(patience(5 * time.Second)):
		require.Fail(t, "the watch does nothing")
	}
	return outcome{}
}

// settles waits until the client would change nothing, and returns how long that took.
func settles(t testing.TB, ctx context.Context, ns *netns.NS, want vxlan.State) time.Duration {
	t.Helper()
	start := time.Now()
	c := open(t, ns)
	for {
		p, err := c.Plan(ctx, want)
		if err == nil && p.Empty() {
			return time.Since(start)
		}
		require.Less(t, time.Since(start), patience(20*time.Second), "%d changes are left, error %v", p.Len(), err)
		time.Sleep(time.Millisecond)
	}
}

// eventually asks until something is so, on the test's own goroutine.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for start := time.Now(); !so(); time.Sleep(5 * time.Millisecond) {
		require.Less(t, time.Since(start), 10*time.Second, what)
	}
}

// TestWatchRepairs bends the overlay in every way and waits for it to be straight again.
func TestWatchRepairs(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		ctx := kernel(t)
		nstest.Leaks(t)
		cluster := nstest.NewCluster(t, 2, 1)
		node, a, b := cluster.Nodes[0], cluster.Nodes[0].Pods[0], cluster.Nodes[1].Pods[0]
		serve(t, b, "b")
		sync(t, ctx, open(t, cluster.Nodes[1].NS), overlay(cluster, 1, v6))
		want := overlay(cluster, 0, v6)
		out := watch(t, ctx, open(t, node.NS), want)
		reaches(t, a, b, "b")
		straight := look(t, node.NS)
		eventually(t, "the overlay is at rest", func() bool {
			before := straight
			time.Sleep(20 * time.Millisecond)
			straight = look(t, node.NS)
			return before == straight
		})
		far := cluster.Nodes[1]
		far4, far6, vtep, peerMAC := tunnel(far, false).String(), tunnel(far, true).String(), far.Addr(v6).String(), vxlan.MACFromKey(far.Addr(v6).String()).String()
		for _, command := range []string{
			"ip link del vx0",
			"ip link set vx0 down",
			"ip link set vx0 mtu 1300",
			"ip link set vx0 address 02:00:00:00:00:01",
			"ip link set vx0 type vxlan id 42 ttl 9",
			"ip link set vx0 type vxlan id 42 df set",
			"ip link set vx0 type vxlan id 42 remote " + vtep,
			"ip link set vx0 master cni0",
			"ip neigh del " + far4 + " dev vx0",
			"ip neigh replace " + far4 + " lladdr 02:00:00:00:00:01 dev vx0 nud permanent",
			"ip -6 neigh change " + far6 + " lladdr " + peerMAC + " dev vx0 nud reachable",
			"bridge fdb del " + peerMAC + " dev vx0 dst " + vtep,
			"bridge fdb replace " + peerMAC + " dev vx0 dst " + strings.Replace(vtep, "11", "12", 1),
			"bridge fdb append 00:00:00:00:00:00 dev vx0 dst " + vtep,
			"bridge fdb add 02:00:00:00:00:77 dev vx0 dst " + vtep,
			"ip route del " + far.PodV4.Masked().String(),
			"ip route replace " + far.PodV4.Masked().String() + " via 192.168.50.1 proto 113",
			"ip -6 route del " + far.PodV6.Masked().String(),
			"ip route add 10.99.0.0/16 via " + far4 + " dev vx0 onlink proto 113",
			"ip addr del " + tunnel(node, false).String() + "/32 dev vx0",
			"ip addr add 10.9.9.9/32 dev vx0",
			"ip -6 addr flush dev vx0 scope global",
			"ip neigh flush dev vx0 nud permanent",
			"ip route flush proto 113",
		} {
			f := strings.Fields(command)
			nstest.Run(t, node.NS, f[0], f[1:]...)
			require.Less(t, settles(t, ctx, node.NS, want), patience(time.Second), command)
			for o := next(t, out); o.err != nil; o = next(t, out) {
				require.Fail(t, command, "%v", o.err)
			}
			// A device that was made again has another index; everything else is as it was.
			// The kernel adds the local route of an IPv6 address some moments after the address.
			eventually(t, command, func() bool { return withoutIndexes(straight) == withoutIndexes(look(t, node.NS)) })
			for len(out) > 0 {
				require.NoError(t, (<-out).err, command)
			}
		}
		reaches(t, a, b, "b")
	})
}

// withoutIndexes drops the numbers of links and sorts what the kernel orders by age.
func withoutIndexes(text string) string {
	var out []string
	for f := range lines(text) {
		if strings.HasSuffix(f[0], ":") {
			f = f[1:]
		}
		if f[0] == "vx0:" {
			f[1] = strings.ReplaceAll(f[1], "MULTICAST,UP", "UP")
		}
		out = append(out, strings.Join(f, " "))
	}
	return sorted(out)
}

// TestWatchStorm flushes thousands of entries at once; the repairs are few, and nothing is missed.
func TestWatchStorm(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Peers: peers(1, 2001)}}}
	out := watch(t, ctx, c, want)
	for range 3 {
		nstest.Run(t, a.NS, "ip", "route", "flush", "proto", "113")
		nstest.Run(t, a.NS, "ip", "-6", "route", "flush", "proto", "113")
		t.Logf("straight after %v and %d repairs", settles(t, ctx, a.NS, want), len(out))
	}
	require.LessOrEqual(t, len(out), 60)
	// The peers that SetPeers and DropPeers change while a Watch runs are wanted from then on.
	_, err := c.SetPeers(ctx, device, peer(3000))
	require.NoError(t, err)
	_, err = c.DropPeers(ctx, device, peer(1).VTEP)
	require.NoError(t, err)
	nstest.Run(t, a.NS, "ip", "link", "del", device)
	settles(t, ctx, a.NS, vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Peers: append(peers(2, 2001), peer(3000))}}})
	// And so is what a later Sync says.
	sync(t, ctx, c, vxlan.State{})
	nstest.Run(t, a.NS, "ip", "link", "add", "vx9", "type", "vxlan", "id", "9", "dstport", "4789")
	nstest.Run(t, a.NS, "ip", "link", "set", "vx9", "alias", vxlan.DefaultAlias)
	// Of a link that is down the kernel tells no change of its alias. The watch may have met it by another event already.
	_, _ = nstest.TryRun(t, a.NS, "ip", "link", "set", "vx9", "up")
	defer func() {
		for len(out) > 0 {
			o := <-out
			t.Logf("%d changes, error %v", o.plan.Len(), o.err)
		}
	}()
	settles(t, ctx, a.NS, vxlan.State{})
}

// TestWatchChaos bends the overlay at random and without pause, while peers come and go. When that ends all is as last asked for.
func TestWatchChaos(t *testing.T) {
	ctx := kernel(t)
	nstest.Leaks(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Addrs: []netip.Prefix{prefix("10.0.0.0/32"), prefix("fd44::/128")}, Peers: peers(1, 20)}}}
	out := watch(t, ctx, c, want)
	vandal, err := rtnl.Open(a.NS)
	require.NoError(t, err)
	defer func() { require.NoError(t, vandal.Close()) }()
	yes, no := true, false
	r := rand.New(rand.NewPCG(1, 2))
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
		for len(out) > 0 {
			<-out
		}
		l, err := vandal.LinkByName(ctx, device)
		if err != nil {
			continue
		}
		p := peer(1 + r.IntN(19))
		// Each of these may meet a device that is gone again.
		switch r.IntN(9) {
		case 0:
			_ = vandal.DelLink(ctx, l.Index)
		case 1:
			_ = vandal.SetLink(ctx, l.Index, rtnl.LinkAttrs{Up: &no})
		case 2:
			_ = vandal.SetLink(ctx, l.Index, rtnl.LinkAttrs{MTU: 1300 + r.IntN(50)})
		case 3:
			_ = vandal.SetLink(ctx, l.Index, rtnl.LinkAttrs{MAC: rtnl.MAC{2, 0, 0, 0, 0, 1}, Up: &yes})
		case 4:
			_ = vandal.DelRoute(ctx, rtnl.Route{Dst: p.Subnets[r.IntN(2)]})
		case 5:
			_ = vandal.DelNeigh(ctx, rtnl.Neigh{Index: l.Index, IP: p.Tunnel[r.IntN(2)]})
		case 6:
			_ = vandal.DelAddr(ctx, rtnl.Addr{Index: l.Index, Prefix: prefix("fd44::/128")})
		case 7:
			_, _ = c.DropPeers(ctx, device, p.VTEP)
		case 8:
			_, _ = c.SetPeers(ctx, device, p)
		}
		time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
	}
	_, err = c.SetPeers(ctx, device, peers(1, 20)...)
	require.NoError(t, err)
	t.Logf("straight after %v", settles(t, ctx, a.NS, want))
}

// TestWatchUnderlay takes the underlay away and gives it back, with and without the device bound to it.
func TestWatchUnderlay(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		for name, bound := range map[string]bool{"bound": true, "free": false} {
			t.Run(name, func(t *testing.T) {
				ctx := kernel(t)
				a, b := nstest.Pair(t)
				state := func(self, other nstest.End, n, m int) vxlan.State {
					p := peer(m)
					p.VTEP = other.Addr(v6)
					d := vxlan.Device{Name: device, VNI: 42, Source: self.Addr(v6), DirectRouting: true, Addrs: []netip.Prefix{netip.PrefixFrom(peer(n).Tunnel[0], 32), netip.PrefixFrom(peer(n).Tunnel[1], 128)}, Peers: []vxlan.Peer{p, peer(77)}}
					if v6 {
						d.Peers = d.Peers[:1]
					}
					if bound {
						d.Underlay = "eth0"
						d.Source = netip.Addr{}
						if !v6 {
							d.Source = self.Addr(v6)
						}
					}
					return vxlan.State{Devices: []vxlan.Device{d}}
				}
				sync(t, ctx, open(t, b.NS), state(b, a, 2, 1))
				c := open(t, a.NS)
				out := watch(t, ctx, c, state(a, b, 1, 2))
				inner := nstest.End{NS: b.NS, V4: netip.PrefixFrom(peer(2).Tunnel[0], 24), V6: netip.PrefixFrom(peer(2).Tunnel[1], 64)}
				serve(t, inner, "b")
				ask := func() {
					t.Helper()
					for _, addr := range inner.Addrs() {
						answer := nstest.Reaches(t, a.NS, "tcp", netip.AddrPortFrom(addr, 80))
						require.Equal(t, "b", answer.Server)
					}
				}
				ask()
				// The underlay gets another MTU, and the device follows.
				for _, mtu := range []string{"1480", "1500"} {
					nstest.Run(t, a.NS, "ip", "link", "set", "eth0", "mtu", mtu)
					require.Less(t, settles(t, ctx, a.NS, state(a, b, 1, 2)), time.Second)
				}
				nstest.Run(t, a.NS, "ip", "link", "del", "eth0")
				o := next(t, out)
				for !errors.Is(o.err, fs.ErrNotExist) { // it may be met half gone
					o = next(t, out)
				}
				require.ErrorContains(t, o.err, "resolve device vx0: ")
				// Meanwhile a peer comes. It cannot be reached yet, but is not forgotten.
				late := peer(88)
				if v6 {
					late.VTEP = addr("2001:db8::88")
				}
				_, err := c.SetPeers(ctx, device, late)
				require.ErrorIs(t, err, fs.ErrNotExist)
				want := state(a, b, 1, 2)
				want.Devices[0].Peers = append(want.Devices[0].Peers, late)

				nstest.Join(t, a.NS, "eth0", b.NS, "eth0")
				nstest.Address(t, a)
				nstest.Address(t, b)
				require.Less(t, settles(t, ctx, a.NS, want), time.Second)
				sync(t, ctx, open(t, b.NS), state(b, a, 2, 1))
				ask()
			})
		}
	})
}

// TestWatchWaits: a Watch that begins too early makes the overlay as soon as its underlay is there and nothing is in the way.
func TestWatchWaits(t *testing.T) {
	ctx := kernel(t)
	a, b := nstest.New(t), nstest.New(t)
	nstest.Run(t, a, "ip", "link", "add", device, "type", "veth", "peer", "name", "vx1")
	c := open(t, a)
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Underlay: "eth0", Peers: peers(1, 3)}}}
	out := make(chan outcome, 1000)
	watching, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p, err := range c.Watch(watching, want) {
			out <- outcome{p, err}
		}
	}()
	require.ErrorIs(t, next(t, out).err, fs.ErrNotExist)
	nstest.Join(t, a, "eth0", b, "eth0")
	nstest.Address(t, nstest.End{NS: a, Link: "eth0", V4: prefix("192.0.2.1/24")})
	var conflict *vxlan.ConflictError
	for !errors.As(next(t, out).err, &conflict) {
		require.Nil(t, conflict)
	}
	nstest.Run(t, a, "ip", "link", "del", device)
	require.Less(t, settles(t, ctx, a, want), time.Second)
	cancel()
	<-done
}

// TestWatchOverflow keeps a Watch busy until the kernel has lost events, the one that matters among them.
func TestWatchOverflow(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Peers: peers(1, 3)}}}
	watching, cancel := context.WithCancel(ctx)
	held, release, repaired, done := make(chan struct{}), make(chan struct{}), make(chan vxlan.Plan, 100), make(chan struct{})
	go func() {
		defer close(done)
		first := true
		for p, err := range c.Watch(watching, want) {
			if first {
				first = false
				close(held)
				<-release
				continue
			}
			if err == nil {
				repaired <- p
			}
		}
	}()
	<-held
	var batch strings.Builder
	for n := range 20000 {
		address := netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)})
		_, _ = batch.WriteString("neigh add " + address.String() + " lladdr 02:00:00:00:00:01 dev eth0 nud permanent\nneigh del " + address.String() + " dev eth0\n")
	}
	file := filepath.Join(t.TempDir(), "batch")
	require.NoError(t, os.WriteFile(file, []byte(batch.String()), 0o644))
	lost := func() (n int) {
		for f := range lines(nstest.Run(t, a.NS, "cat", "/proc/thread-self/net/netlink")) {
			if drops, err := strconv.Atoi(f[len(f)-2]); err == nil {
				n += drops
			}
		}
		return n
	}
	for range 20 {
		if nstest.Run(t, a.NS, "ip", "-batch", file); lost() > 0 {
			break
		}
	}
	require.Positive(t, lost(), "the kernel lost events")
	nstest.Run(t, a.NS, "ip", "route", "del", "10.0.1.0/24")
	close(release)
	require.Less(t, settles(t, ctx, a.NS, want), time.Second)
	require.Equal(t, "+ route 10.0.1.0/24: via 10.0.1.0 dev vx0 onlink\n", (<-repaired).String())
	// The events hold again from then on.
	nstest.Run(t, a.NS, "ip", "route", "del", "10.0.2.0/24")
	require.Less(t, settles(t, ctx, a.NS, want), time.Second)
	cancel()
	<-done
}

// TestWatchEnds: the loop ends with its context or its caller, and a State that cannot be is told at once.
func TestWatchEnds(t *testing.T) {
	ctx := kernel(t)
	nstest.Leaks(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Peers: peers(1, 3)}}}
	for p, err := range c.Watch(ctx, want) {
		require.NoError(t, err)
		require.Equal(t, 11, p.Len())
		break
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	n := 0
	for p, err := range c.Watch(short, want) {
		require.NoError(t, err)
		require.Empty(t, p.String(), "the first Sync has nothing to do")
		n++
	}
	require.Equal(t, 1, n)
	require.ErrorIs(t, short.Err(), context.DeadlineExceeded)
	closed, err := vxlan.New(vxlan.Config{NetNS: a.NS})
	require.NoError(t, err)
	n = 0
	for _, err := range closed.Watch(ctx, want) {
		require.NoError(t, err)
		n++
		go func() { _ = closed.Close() }()
	}
	require.Equal(t, 1, n)
	for _, err := range c.Watch(ctx, vxlan.State{Devices: []vxlan.Device{{}}}) {
		require.ErrorContains(t, err, "vxlan: watch state: devices[0].name: needed")
	}
}
