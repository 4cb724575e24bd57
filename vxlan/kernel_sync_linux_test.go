package vxlan_test

import (
	"context"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/internal/rtnl"
	"github.com/podplumb/podplumb/vxlan"
)

// TestRestart: a new client finds everything in place, rewrites nothing and loses no packet.
func TestRestart(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		ctx := kernel(t)
		nstest.Leaks(t)
		cluster := nstest.NewCluster(t, 2, 1)
		a, b := cluster.Nodes[0].Pods[0], cluster.Nodes[1].Pods[0]
		serve(t, b, "b")
		for n, node := range cluster.Nodes {
			sync(t, ctx, open(t, node.NS), overlay(cluster, n, v6))
		}
		reaches(t, a, b, "b")
		flow := stream(t, a.NS, netip.AddrPortFrom(b.Addr(v6), 80))
		happened := events(t, cluster.Nodes[0].NS)
		for range 10 {
			c, err := vxlan.New(vxlan.Config{NetNS: cluster.Nodes[0].NS})
			require.NoError(t, err)
			require.Empty(t, sync(t, ctx, c, overlay(cluster, 0, v6)).String())
			require.NoError(t, c.Close())
		}
		for _, e := range happened() {
			// The bridge may still settle, and neighbours on the underlay are found out. 0x80 is NUD_PERMANENT.
			alien := e.Link != nil && e.Link.Name != device || e.Neigh != nil && e.Neigh.State&0x80 == 0
			require.True(t, alien, "changed: %+v", e)
		}
		sent, answered := flow()
		require.Positive(t, sent)
		require.Equal(t, sent, answered)
	})
}

// TestStale: what an earlier life left goes, what others made stays.
func TestStale(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Addrs: []netip.Prefix{prefix("10.0.0.0/32"), prefix("fd44::/128")}, Peers: peers(1, 3)}}}
	sync(t, ctx, c, want)
	clean := look(t, a.NS)
	run := func(command string) {
		t.Helper()
		f := strings.Fields(command)
		nstest.Run(t, a.NS, f[0], f[1:]...)
	}
	for _, command := range []string{
		"bridge fdb add 02:00:00:00:00:99 dev vx0 dst 172.16.9.9",
		"bridge fdb append 00:00:00:00:00:00 dev vx0 dst 172.16.9.9",
		"bridge fdb append 00:00:00:00:00:00 dev vx0 dst 172.16.9.10",
		"ip neigh add 10.0.9.0 lladdr 02:00:00:00:00:99 dev vx0 nud permanent",
		"ip neigh add fd44:0:0:9:: lladdr 02:00:00:00:00:99 dev vx0 nud permanent proto 113",
		"ip route add 10.0.9.0/24 via 10.0.9.0 dev vx0 onlink proto 113",
		"ip route add 10.0.8.0/24 via 192.0.2.2 dev eth0 proto 113",
		"ip route add blackhole 10.0.7.0/24 proto 113",
		"ip route add 10.0.1.0/24 via 10.0.1.0 dev vx0 onlink proto 113 metric 50",
		"ip -6 route add fd44:0:0:9::/64 via fd44:0:0:9:: dev vx0 onlink proto 113",
		"ip addr add 10.0.9.1/32 dev vx0",
		"ip -6 addr add fd44:0:0:9::1/128 dev vx0 nodad",
		// And what should be there, bent.
		"ip route replace 10.0.2.0/24 via 10.0.1.0 dev vx0 onlink proto 113",
		"ip -6 route replace fd44:0:0:2::/64 via fd44:0:0:1:: dev vx0 onlink proto 113",
		"ip neigh replace 10.0.1.0 lladdr 02:00:00:00:00:98 dev vx0 nud permanent",
		"ip -6 neigh del fd44:0:0:1:: dev vx0",
		"bridge fdb replace " + vxlan.MACFromKey("172.16.0.2").String() + " dev vx0 dst 172.16.0.2 port 8472",
		"ip addr del 10.0.0.0/32 dev vx0",
		// A device of the client's, from a time with another configuration.
		"ip link add vxold type vxlan id 43 dstport 4789 local 192.0.2.1 nolearning",
		"ip link set vxold alias podplumb:vxlan",
	} {
		run(command)
	}
	plan := sync(t, ctx, c, want)
	require.Contains(t, plan.String(), "- device vxold\n")
	require.Contains(t, plan.String(), "- flood 172.16.9.10 dev vx0\n")
	require.Contains(t, plan.String(), "- route 10.0.1.0/24 metric 50\n")
	require.Contains(t, plan.String(), "(port 8472) -> dst 172.16.0.2\n")
	require.Equal(t, clean, look(t, a.NS))
	require.Empty(t, sync(t, ctx, c, want).String())
	require.Empty(t, plan.Foreign())
}

// TestForeign: what others put on the client's device, or next to its routes, is told and stays.
func TestForeign(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Peers: peers(1, 3)}}}
	sync(t, ctx, c, want)
	for _, command := range []string{
		"bridge fdb add 02:00:00:00:00:99 dev vx0 dst 172.16.9.9 static",
		"bridge fdb add 02:00:00:00:00:98 dev vx0 dst 172.16.9.9 extern_learn",
		"ip neigh add 10.0.9.0 lladdr 02:00:00:00:00:99 dev vx0 nud permanent proto 186",
		"ip neigh add 10.0.9.1 lladdr 02:00:00:00:00:99 dev vx0 nud noarp extern_learn",
		"ip neigh add 10.0.9.2 lladdr 02:00:00:00:00:99 dev vx0 nud reachable",
		"ip route add 10.0.9.0/24 via 10.0.9.0 dev vx0 onlink proto static",
		"ip route add 10.0.8.0/24 via 192.0.2.2 dev eth0 proto static",
		"ip addr add 10.0.9.9/32 dev vx0 proto 0x63",
	} {
		f := strings.Fields(command)
		if out, err := nstest.TryRun(t, a.NS, f[0], f[1:]...); err != nil {
			t.Logf("%s: %v %s", command, err, out) // an older iproute2 has no protocols of addresses
		}
	}
	p, err := c.Plan(ctx, want)
	require.NoError(t, err)
	require.Empty(t, p.String())
	var told []string
	for _, f := range p.Foreign() {
		require.Equal(t, device, f.Link)
		told = append(told, f.String())
	}
	require.Subset(t, told, []string{
		"fdb 02:00:00:00:00:99 dst 172.16.9.9 on vx0 (static)",
		"fdb 02:00:00:00:00:98 dst 172.16.9.9 on vx0 (externally learned)",
		"neighbour 10.0.9.0 lladdr 02:00:00:00:00:99 on vx0 (protocol 186)",
		"neighbour 10.0.9.1 lladdr 02:00:00:00:00:99 on vx0 (externally learned)",
		"route 10.0.9.0/24 via 10.0.9.0 on vx0 (protocol 4)",
	})
	before := look(t, a.NS)
	require.Empty(t, sync(t, ctx, c, want).String())
	require.Equal(t, before, look(t, a.NS))
	got, err := c.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, vxlan.Canonical(got).Devices[0].Peers[1].Subnets, got.Devices[0].Peers[1].Subnets)
	sync(t, ctx, c, vxlan.State{})
	require.Contains(t, nstest.Run(t, a.NS, "ip", "route"), "10.0.8.0/24 via 192.0.2.2 dev eth0 proto static")
}

// TestConflicts: each foreign object in the place of a wanted one is named, and nothing is changed.
func TestConflicts(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	for _, command := range []string{
		"link add vx0 type veth peer name vx0p",
		"link add other type vxlan id 42 dstport 4789 local 192.0.2.1 nolearning",
		"route add 10.0.1.0/24 via 192.0.2.2 proto static",
		"-6 route add fd44:0:0:2::/64 via 2001:db8::2 proto static",
		"route add 10.0.2.0/24 via 192.0.2.2 proto static metric 5",
	} {
		nstest.Run(t, a.NS, "ip", strings.Fields(command)...)
	}
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Peers: peers(1, 3)}}}
	before := look(t, a.NS)
	for _, op := range []func() error{
		func() error { _, err := c.Sync(ctx, want); return err },
		func() error { _, err := c.Plan(ctx, want); return err },
	} {
		err := op()
		require.ErrorIs(t, err, fs.ErrExist)
		var conflict *vxlan.ConflictError
		require.ErrorAs(t, err, &conflict)
		require.Equal(t, vxlan.ForeignLink, conflict.Foreign.Kind)
		for _, part := range []string{
			`device vx0: in its place stands link veth on vx0 (alias "")`,
			`device vx0: in its place stands link vxlan vni 42 port 4789 on other (alias "")`,
			"route 10.0.1.0/24: in its place stands route 10.0.1.0/24 via 192.0.2.2 on eth0 (protocol 4)",
			"route fd44:0:0:2::/64: in its place stands route fd44:0:0:2::/64 via 2001:db8::2 on eth0 (protocol 4)",
		} {
			require.ErrorContains(t, err, part)
		}
		require.NotContains(t, err.Error(), "10.0.2.0/24", "another metric is another place")
	}
	require.Equal(t, before, look(t, a.NS))
	for _, command := range []string{"link del vx0", "link del other", "route del 10.0.1.0/24", "-6 route del fd44:0:0:2::/64"} {
		nstest.Run(t, a.NS, "ip", strings.Fields(command)...)
	}
	sync(t, ctx, c, want)
}

// TestApply: a plan is carried out only on the state that it was made for.
func TestApply(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	two := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Peers: peers(1, 3)}}}
	three := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Peers: peers(1, 4)}}}
	p, err := c.Plan(ctx, two)
	require.NoError(t, err)
	require.NoError(t, c.Apply(ctx, p))
	err = c.Apply(ctx, p)
	require.ErrorIs(t, err, vxlan.ErrStale)
	require.EqualError(t, err, "vxlan: apply: the kernel changed since the plan was made")

	p, err = c.Plan(ctx, three)
	require.NoError(t, err)
	nstest.Run(t, a.NS, "ip", "neigh", "del", "10.0.1.0", "dev", device)
	before := look(t, a.NS)
	require.ErrorIs(t, c.Apply(ctx, p), vxlan.ErrStale)
	require.Equal(t, before, look(t, a.NS), "nothing changed")

	// A plan of Diff between states that were read and resolved does as well.
	have, err := c.Read(ctx)
	require.NoError(t, err)
	want, err := c.Resolve(ctx, three)
	require.NoError(t, err)
	require.NoError(t, c.Apply(ctx, vxlan.Diff(have, want)))
	have, err = c.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, want, have)
	require.ErrorIs(t, c.Apply(ctx, vxlan.Diff(have, vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 43, Source: a.V4.Addr()}}})), vxlan.ErrUnresolved)
	require.NoError(t, c.Apply(ctx, vxlan.Diff(have, have)))

	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, c.Apply(ended, vxlan.Plan{}), context.Canceled)
	_, err = c.Sync(ctx, vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Underlay: "eth7"}}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, "vxlan: resolve device vx0: underlay eth7: file does not exist")
	_, err = c.Sync(ctx, vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Bridge: "br7"}}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = c.Sync(ctx, vxlan.State{Devices: []vxlan.Device{{Name: device}}})
	require.ErrorContains(t, err, "devices[0].vni: 0 is not in")
}

// TestOnePeer counts what the kernel tells of: the change of one peer touches that peer alone.
func TestOnePeer(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Peers: peers(1, 200)}}}
	_, err := c.SetPeers(ctx, device, peer(1))
	require.ErrorIs(t, err, vxlan.ErrNotSynced)
	sync(t, ctx, c, want)
	happened := events(t, a.NS)

	touched := func(n int) {
		t.Helper()
		got := happened()
		require.NotEmpty(t, got)
		for _, e := range got {
			p, routed := peer(n), e.Route != nil
			switch {
			case routed:
				require.Contains(t, p.Subnets, e.Route.Dst)
			case e.Neigh != nil && e.Neigh.Family == 7: // AF_BRIDGE
				require.Contains(t, []rtnl.MAC{rtnl.MAC(vxlan.MACFromKey(p.VTEP.String())), {2, 0, 0, 0, 0, 0x77}}, e.Neigh.MAC)
			case e.Neigh != nil:
				require.Contains(t, p.Tunnel, e.Neigh.IP)
			default:
				require.Fail(t, "touched", "%+v", e)
			}
		}
	}
	changed := peer(100)
	changed.MAC = mac("02:00:00:00:00:77")
	want.Devices[0].Peers[99] = changed
	require.Equal(t, 4, sync(t, ctx, c, want).Len(), "FDB entry out and in, two neighbours")
	touched(100)

	// The same by the calls that read nothing, and the outcome is that of a Sync.
	p, err := c.SetPeers(ctx, device, peer(100), peer(5))
	require.NoError(t, err)
	require.Equal(t, 4, p.Len(), p.String())
	touched(100)
	want.Devices[0].Peers[99] = peer(100)
	require.Empty(t, sync(t, ctx, c, want).String())
	p, err = c.DropPeers(ctx, device, peer(7).VTEP, addr("198.51.100.1"))
	require.NoError(t, err)
	require.Equal(t, 5, p.Len(), p.String())
	touched(7)
	p, err = c.SetPeers(ctx, device, peer(7))
	require.NoError(t, err)
	require.Equal(t, 5, p.Len(), p.String())
	touched(7)
	require.Empty(t, sync(t, ctx, c, want).String())
	require.Empty(t, happened())

	// What may not be is refused with every fault, and nothing is touched.
	bad := peer(8)
	bad.VTEP = addr("172.16.9.9")
	bad.Stations = []vxlan.MAC{{}}
	_, err = c.SetPeers(ctx, device, bad)
	require.ErrorContains(t, err, "stations[0]: 00:00:00:00:00:00 is not a unicast address")
	require.ErrorContains(t, err, "peer 172.16.9.9: route 10.0.8.0/24 belongs to another peer")
	require.ErrorContains(t, err, "peer 172.16.9.9: neighbour 10.0.8.0 dev vx0 belongs to another peer")
	_, err = c.DropPeers(ctx, "vx9", addr("172.16.0.1"))
	require.ErrorIs(t, err, vxlan.ErrNotSynced)
	require.Empty(t, happened())

	// What somebody else put in the place of a new peer is found, told and left alone.
	nstest.Run(t, a.NS, "ip", "route", "add", "10.0.250.0/24", "via", "192.0.2.2", "proto", "static")
	nstest.Run(t, a.NS, "ip", "neigh", "add", "10.0.250.0", "lladdr", "02:00:00:00:00:01", "dev", device, "nud", "permanent", "proto", "186")
	_, err = c.SetPeers(ctx, device, peer(250))
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "neighbour 10.0.250.0 dev vx0: in its place stands")
	require.ErrorContains(t, err, "route 10.0.250.0/24: in its place stands route 10.0.250.0/24 via 192.0.2.2 on eth0 (protocol 4)")
	require.Contains(t, nstest.Run(t, a.NS, "ip", "route"), "10.0.250.0/24 via 192.0.2.2")
	_, err = c.DropPeers(ctx, device, peer(250).VTEP)
	require.NoError(t, err)
	require.Empty(t, sync(t, ctx, c, want).String())

	// A kernel that moved on is found out, and synced.
	nstest.Run(t, a.NS, "ip", "link", "del", device)
	p, err = c.DropPeers(ctx, device, peer(9).VTEP)
	require.NoError(t, err)
	if p.Len() < 900 { // all that a removal met was "is gone already"
		p, err = c.SetPeers(ctx, device, peer(9))
		require.NoError(t, err)
		want.Devices[0].Peers = peers(1, 200)
	} else {
		want.Devices[0].Peers = append(peers(1, 9), peers(10, 200)...)
	}
	require.Contains(t, p.String(), "+ device vx0")
	require.Empty(t, sync(t, ctx, c, want).String())
}

// TestRecreate replaces a device under traffic. The outage is that of one rewrite of neighbours and routes.
func TestRecreate(t *testing.T) {
	ctx := kernel(t)
	cluster := nstest.NewCluster(t, 2, 1)
	a, b := cluster.Nodes[0].Pods[0], cluster.Nodes[1].Pods[0]
	serve(t, b, "b")
	clients := []*vxlan.Client{open(t, cluster.Nodes[0].NS), open(t, cluster.Nodes[1].NS)}
	for n, c := range clients {
		sync(t, ctx, c, overlay(cluster, n, false))
	}
	reaches(t, a, b, "b")
	for name, set := range map[string]func(*vxlan.Device){
		"beside the old device": func(d *vxlan.Device) { d.ZeroChecksum6Rx = true },
		"after the old device":  func(d *vxlan.Device) { d.ZeroChecksum = true },
	} {
		t.Run(name, func(t *testing.T) {
			flow := stream(t, a.NS, netip.AddrPortFrom(b.Addr(false), 80))
			for _, on := range []bool{true, false} {
				time.Sleep(50 * time.Millisecond)
				want := overlay(cluster, 0, false)
				want.Devices[0].Peers = append(want.Devices[0].Peers, peers(20, 120)...)
				if on {
					set(&want.Devices[0])
				}
				require.Contains(t, sync(t, ctx, clients[0], want).String(), "~ device vx0: recreate, ")
				require.Empty(t, sync(t, ctx, clients[0], want).String())
			}
			time.Sleep(50 * time.Millisecond)
			reaches(t, a, b, "b")
			sent, answered := flow()
			t.Logf("of %d packets, one each millisecond, %d were lost in two replacements", sent, sent-answered)
			require.Less(t, sent-answered, int64(1000))
			sync(t, ctx, clients[0], overlay(cluster, 0, false))
			require.NotRegexp(t, `vxlan[~-]`, nstest.Run(t, cluster.Nodes[0].NS, "ip", "link"), "nothing is left of the replacement")
		})
	}
}

// TestMACStays: the address survives the device, and a foreign hand on it is corrected with all that the kernel drops for it.
func TestMACStays(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), MAC: vxlan.MACFromKey("node-1"), Peers: peers(1, 3)}}}
	sync(t, ctx, c, want)
	shown := func() string { return nstest.Run(t, a.NS, "ip", "-br", "link", "show", device) }
	require.Contains(t, shown(), "72:84:2e:91:e6:b4")
	nstest.Run(t, a.NS, "ip", "link", "del", device)
	sync(t, ctx, c, want)
	require.Contains(t, shown(), "72:84:2e:91:e6:b4")
	before := look(t, a.NS)
	nstest.Run(t, a.NS, "ip", "link", "set", device, "address", "02:00:00:00:00:01")
	require.Contains(t, sync(t, ctx, c, want).String(), "~ device vx0: mac 02:00:00:00:00:01 -> 72:84:2e:91:e6:b4\n")
	require.Equal(t, before, look(t, a.NS))
	require.Empty(t, sync(t, ctx, c, want).String())

	// A daemon that gives every new link an address of its own taste, as udev may.
	sync(t, ctx, c, vxlan.State{})
	m, err := rtnl.Watch(a.NS, rtnl.LinkEvents)
	require.NoError(t, err)
	daemon, err := rtnl.Open(a.NS)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		for {
			e, err := m.Next(ctx)
			if err != nil {
				done <- err
				return
			}
			if e.Link != nil && e.Link.Name == device && !e.Removed {
				done <- daemon.SetLink(ctx, e.Link.Index, rtnl.LinkAttrs{MAC: rtnl.MAC{2, 0, 0, 0, 0, 9}})
				return
			}
		}
	}()
	_, err = c.Sync(ctx, want)
	require.NoError(t, err)
	require.NoError(t, <-done)
	sync(t, ctx, c, want)
	require.Contains(t, shown(), "72:84:2e:91:e6:b4")
	require.NoError(t, m.Close())
	require.NoError(t, daemon.Close())
}

// TestHalfMade: a client died between making a device and marking it; the next one finishes.
func TestHalfMade(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), MAC: vxlan.MACFromKey("node-1"), Peers: peers(1, 3)}}}
	for _, name := range []string{device, "vxlan~7"} {
		nstest.Run(t, a.NS, "ip", "link", "add", name, "address", "72:84:2e:91:e6:b4", "type", "vxlan", "id", "42", "dstport", "4789", "local", "192.0.2.1", "nolearning")
		sync(t, ctx, c, want)
		require.Equal(t, 1, len(strings.Split(nstest.Run(t, a.NS, "ip", "-o", "link", "show", "type", "vxlan"), "\n")))
		sync(t, ctx, c, vxlan.State{})
	}
	nstest.Run(t, a.NS, "ip", "link", "add", device, "address", "72:84:2e:91:e6:b5", "type", "vxlan", "id", "42", "dstport", "4789", "local", "192.0.2.1", "nolearning")
	_, err := c.Sync(ctx, want)
	require.ErrorIs(t, err, fs.ErrExist, "with another address it is somebody else's")
}

// TestRename: a device under another name is another device, though the kernel allows only one of its VNI.
func TestRename(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Peers: peers(1, 3)}}}
	sync(t, ctx, c, want)
	want.Devices[0].Name = "vx1"
	plan := sync(t, ctx, c, want).String()
	require.Contains(t, plan, "- device vx0\n+ device vx1: ")
	require.Contains(t, plan, "~ route 10.0.1.0/24: via 10.0.1.0 dev vx0 onlink -> via 10.0.1.0 dev vx1 onlink\n")
	require.Empty(t, sync(t, ctx, c, want).String())
	// Two devices change their names with each other.
	want.Devices = append(want.Devices, vxlan.Device{Name: "vx2", VNI: 43, Source: a.V4.Addr(), Peers: peers(3, 5)})
	sync(t, ctx, c, want)
	want.Devices[0].Name, want.Devices[1].Name = "vx2", "vx1"
	sync(t, ctx, c, want)
	require.Empty(t, sync(t, ctx, c, want).String())
	sync(t, ctx, c, vxlan.State{})
	require.NotContains(t, nstest.Run(t, a.NS, "ip", "link"), "vx")
}

// TestTwoClients: different aliases and protocols keep two clients apart in one namespace.
func TestTwoClients(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	one := open(t, a.NS)
	two, err := vxlan.New(vxlan.Config{NetNS: a.NS, Alias: "lab", Protocol: 114})
	require.NoError(t, err)
	defer func() { require.NoError(t, two.Close()) }()
	first := vxlan.State{Devices: []vxlan.Device{{Name: "vx1", VNI: 1, Source: a.V4.Addr(), Peers: peers(1, 3)}, {Name: "vx2", VNI: 2, Source: a.V4.Addr(), Peers: peers(3, 5)}}}
	second := vxlan.State{Devices: []vxlan.Device{{Name: "vx3", VNI: 3, Source: a.V4.Addr(), DirectRouting: true, Peers: []vxlan.Peer{{VTEP: addr("192.0.2.2"), Tunnel: []netip.Addr{addr("10.8.0.0")}, Subnets: []netip.Prefix{prefix("10.8.0.0/16")}}}}}}
	sync(t, ctx, one, first)
	sync(t, ctx, two, second)
	require.Empty(t, sync(t, ctx, one, first).String())
	require.Empty(t, sync(t, ctx, two, second).String())
	sync(t, ctx, one, vxlan.State{})
	require.Empty(t, sync(t, ctx, two, second).String())
	require.Contains(t, nstest.Run(t, a.NS, "ip", "route"), "10.8.0.0/16 via 192.0.2.2 dev eth0 proto 114")
	// The device goes by a foreign hand; its direct routes are found by their protocol.
	nstest.Run(t, a.NS, "ip", "link", "del", "vx3")
	got, err := two.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, vxlan.State{Devices: []vxlan.Device{{Peers: []vxlan.Peer{{Subnets: []netip.Prefix{prefix("10.8.0.0/16")}, Via: []vxlan.Hop{{Addr: addr("192.0.2.2"), Link: "eth0"}}}}}}}, got)
	require.Equal(t, "- route 10.8.0.0/16\n", sync(t, ctx, two, vxlan.State{}).String())

	_, err = vxlan.New(vxlan.Config{NetNS: a.NS, Alias: strings.Repeat("x", 256), Protocol: 4})
	require.EqualError(t, err, "vxlan: new config: alias: longer than 255 bytes, or with a zero byte\nprotocol: 4 belongs to the kernel")
}

// TestMany syncs 5,000 peers and changes one of them.
func TestMany(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	n := 5000
	if nstest.InGuest() {
		n = 1000 // its processor is emulated
	}
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Peers: peers(1, n+1)}}}
	require.Equal(t, 1+n*5, sync(t, ctx, c, want).Len())
	require.Empty(t, sync(t, ctx, c, want).String())
	got, err := c.Read(ctx)
	require.NoError(t, err)
	require.Len(t, got.Devices[0].Peers, n)
	happened := events(t, a.NS)
	want.Devices[0].Peers = want.Devices[0].Peers[:n-1]
	require.Equal(t, 5, sync(t, ctx, c, want).Len())
	removed := map[string]bool{} // an older kernel tells some twice
	for _, e := range happened() {
		require.True(t, e.Link == nil && e.Addr == nil, "%+v", e)
		require.True(t, e.Removed || e.Neigh != nil && e.Neigh.State != 0x80, "nothing is written: %+v", e) // NUD_PERMANENT
		switch {
		case e.Removed && e.Route != nil:
			removed[e.Route.Dst.String()] = true
		case e.Removed && e.Neigh.Family == 7: // AF_BRIDGE
			removed[e.Neigh.MAC.String()] = true
		case e.Removed:
			removed[e.Neigh.IP.String()] = true
		}
	}
	require.Len(t, removed, 5, "one for each object of the peer: %v", removed)
	sync(t, ctx, c, vxlan.State{})
}

// TestZeroConfig works in the namespace of the thread that calls New, whatever thread calls later.
func TestZeroConfig(t *testing.T) {
	ctx := kernel(t)
	nstest.Leaks(t)
	a, _ := nstest.Pair(t)
	var c *vxlan.Client
	require.NoError(t, a.NS.Do(func() (err error) {
		c, err = vxlan.New(vxlan.Config{})
		return err
	}))
	want := vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Peers: peers(1, 3)}}}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := c.Sync(ended, want)
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, nstest.Run(t, a.NS, "ip", "link"), device)
	sync(t, ctx, c, want)
	require.Contains(t, nstest.Run(t, a.NS, "ip", "link"), device)
	for _, err := range c.Watch(ctx, vxlan.State{}) {
		require.NoError(t, err)
		break
	}
	require.NotContains(t, nstest.Run(t, a.NS, "ip", "link"), device)
	require.NoError(t, c.Close())
	_, err = c.Read(ctx)
	require.ErrorIs(t, err, os.ErrClosed)
}

// TestIPv6Off: where the kernel refuses, the error says which switch to look at.
func TestIPv6Off(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	require.NoError(t, a.NS.SetSysctl("net.ipv6.conf.default.disable_ipv6", "1"))
	c := open(t, a.NS)
	_, err := c.Sync(ctx, vxlan.State{Devices: []vxlan.Device{{Name: device, VNI: 42, Source: a.V4.Addr(), Addrs: []netip.Prefix{prefix("fd44::/128")}}}})
	require.ErrorIs(t, err, fs.ErrPermission)
	require.ErrorContains(t, err, "vxlan: apply address fd44:: dev vx0: IPv6 is turned off (sysctl net.ipv6.conf.vx0.disable_ipv6): ")
	var op *vxlan.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, "apply", op.Op)
}
