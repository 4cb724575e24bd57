package vxlan_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/vxlan"
)

// passes reports whether a UDP packet of so many bytes, IP header included, reaches the server and is answered.
func passes(t testing.TB, from, to nstest.End, v6 bool, size int) bool {
	t.Helper()
	f, err := nstest.Dial(t, from.NS, "udp", netip.AddrPortFrom(to.Addr(v6), 80))
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	dontFragment(t, f.Conn)
	head := 20 + 8
	if v6 {
		head = 40 + 8
	}
	if _, err := f.Write(bytes.Repeat([]byte("x"), size-head)); err != nil {
		return false // longer than the sender's own link takes
	}
	require.NoError(t, f.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	_, err = f.Read(make([]byte, 100))
	return err == nil
}

// TestMTU sends packets that may not be fragmented: one that just fits passes, one byte more does not.
func TestMTU(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		ctx := kernel(t)
		cluster := nstest.NewCluster(t, 2, 1)
		a, b := cluster.Nodes[0].Pods[0], cluster.Nodes[1].Pods[0]
		serve(t, b, "b")
		mtu := 1500 - vxlan.Overhead4
		if v6 {
			mtu = 1500 - vxlan.Overhead6
		}
		clients := []*vxlan.Client{open(t, cluster.Nodes[0].NS), open(t, cluster.Nodes[1].NS)}
		for n, c := range clients {
			sync(t, ctx, c, overlay(cluster, n, v6))
			got, err := c.Read(ctx)
			require.NoError(t, err)
			require.Equal(t, mtu, got.Devices[0].MTU)
		}
		for _, inner6 := range []bool{false, true} {
			require.True(t, passes(t, a, b, inner6, mtu))
			require.False(t, passes(t, a, b, inner6, mtu+1))
			require.True(t, passes(t, cluster.Nodes[0].End, b, inner6, mtu), "from the node itself")
			require.False(t, passes(t, cluster.Nodes[0].End, b, inner6, mtu+1))
		}
		// The device follows the underlay, and an explicit MTU stays below.
		for _, node := range cluster.Nodes {
			nstest.Run(t, node.NS, "ip", "link", "set", "eth0", "mtu", "1480")
		}
		for n, c := range clients {
			require.Contains(t, sync(t, ctx, c, overlay(cluster, n, v6)).String(), fmt.Sprintf("~ device vx0: mtu %d -> %d\n", mtu, mtu-20))
		}
		require.True(t, passes(t, a, b, false, mtu-20))
		require.False(t, passes(t, a, b, false, mtu-19))
		for n, c := range clients {
			want := overlay(cluster, n, v6)
			want.Devices[0].MTU = 1300
			sync(t, ctx, c, want)
		}
		require.True(t, passes(t, a, b, true, 1300))
		require.False(t, passes(t, a, b, true, 1301))
	})
}

// TestOuterHeader looks at the packets on the underlay while settings change.
func TestOuterHeader(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		ctx := kernel(t)
		cluster := nstest.NewCluster(t, 2, 1)
		a, b := cluster.Nodes[0].Pods[0], cluster.Nodes[1].Pods[0]
		serve(t, b, "b")
		other := nstest.End{NS: cluster.Nodes[0].NS, Link: "eth0", V4: prefix("192.168.50.99/24"), V6: prefix("fd50::99/64")}
		nstest.Address(t, other)
		clients := []*vxlan.Client{open(t, cluster.Nodes[0].NS), open(t, cluster.Nodes[1].NS)}
		sync(t, ctx, clients[1], overlay(cluster, 1, v6))
		seen := capture(t, cluster.Nodes[0].NS, "eth0", vxlan.DefaultPort)
		want := overlay(cluster, 0, v6)
		d := &want.Devices[0]
		d.MAC = vxlan.MACFromKey(d.Source.String())
		look := func() []outer {
			t.Helper()
			sync(t, ctx, clients[0], want)
			seen()
			reaches(t, a, b, "b")
			got := seen()
			require.NotEmpty(t, got)
			for _, o := range got {
				require.Equal(t, d.Peers[0].VTEP, o.to)
				require.Equal(t, d.Source, o.from)
			}
			return got
		}
		look()
		// In place, with the routes that the kernel cached for its FDB entries still holding the old one.
		d.Source = other.Addr(v6)
		look()
		d.TTL, d.TOS = 33, 0x28
		for _, o := range look() {
			require.Equal(t, uint8(33), o.ttl)
			require.Equal(t, uint8(0x28), o.tos)
		}
		d.SourcePorts = vxlan.PortRange{Low: 7000, High: 7003}
		for _, o := range look() {
			require.GreaterOrEqual(t, o.source, uint16(7000))
			require.LessOrEqual(t, o.source, uint16(7003))
		}
		d.ZeroChecksum, d.ZeroChecksum6Tx = true, true
		peerState := overlay(cluster, 1, v6)
		peerState.Devices[0].ZeroChecksum6Rx = true
		sync(t, ctx, clients[1], peerState)
		for _, o := range look() {
			require.Zero(t, o.checksum)
		}
	})
}

// TestDirectRouting routes around the tunnel to the peer on the same subnet, and through it to the one behind a router.
func TestDirectRouting(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		ctx := kernel(t)
		cluster := nstest.NewCluster(t, 3, 1)
		// The third node is moved to a subnet of its own behind the underlay's router.
		far := &cluster.Nodes[2]
		far.V4, far.V6 = prefix("192.168.60.12/24"), prefix("fd60::12/64")
		nstest.Run(t, far.NS, "ip", "addr", "flush", "dev", "eth0", "scope", "global")
		nstest.Address(t, far.End)
		gateway := nstest.End{NS: cluster.Underlay, Link: "underlay0", V4: prefix("192.168.60.1/24"), V6: prefix("fd60::1/64")}
		nstest.Address(t, gateway)
		nstest.Forward(t, cluster.Underlay)
		nstest.Run(t, far.NS, "ip", "route", "flush", "default")
		nstest.Run(t, far.NS, "ip", "-6", "route", "flush", "default")
		nstest.DefaultRoutes(t, far.NS, gateway.Addrs()...)

		direct := func(n int) vxlan.State {
			s := overlay(cluster, n, v6)
			s.Devices[0].DirectRouting = true
			for i := range s.Devices[0].Peers {
				for m, node := range cluster.Nodes {
					if node.Addr(v6) == s.Devices[0].Peers[i].VTEP {
						s.Devices[0].Peers[i].Hosts = []netip.Addr{cluster.Nodes[m].Addr(!v6)}
					}
				}
			}
			return s
		}
		for n, node := range cluster.Nodes {
			serve(t, node.Pods[0], fmt.Sprint(n))
			c := open(t, node.NS)
			sync(t, ctx, c, direct(n))
			require.Empty(t, sync(t, ctx, c, direct(n)).String())
			resolved, err := c.Resolve(ctx, direct(n))
			require.NoError(t, err)
			got, err := c.Read(ctx)
			require.NoError(t, err)
			require.Equal(t, resolved, got)
		}
		node, near := cluster.Nodes[0], cluster.Nodes[1]
		routes := nstest.Run(t, node.NS, "ip", "route") + "\n" + nstest.Run(t, node.NS, "ip", "-6", "route")
		require.Contains(t, routes, near.PodV4.Masked().String()+" via "+near.V4.Addr().String()+" dev eth0 proto 113")
		require.Contains(t, routes, near.PodV6.Masked().String()+" via "+near.V6.Addr().String()+" dev eth0 proto 113")
		require.Contains(t, routes, far.PodV4.Masked().String()+" via "+tunnel(*far, false).String()+" dev vx0 proto 113 onlink")

		seen := capture(t, node.NS, "eth0", vxlan.DefaultPort)
		reaches(t, node.Pods[0], near.Pods[0], "1")
		require.Empty(t, seen(), "not one packet in the tunnel")
		reaches(t, node.Pods[0], far.Pods[0], "2")
		for _, o := range seen() {
			require.Equal(t, far.Addr(v6), o.to)
		}
		// Away from direct routing, and back to it: one change for each subnet.
		c := open(t, node.NS)
		plan := sync(t, ctx, c, overlay(cluster, 0, v6))
		require.Equal(t, 2, plan.Len(), plan.String())
		reaches(t, node.Pods[0], near.Pods[0], "1")
		require.NotEmpty(t, seen())
		require.Equal(t, 2, sync(t, ctx, c, direct(0)).Len())
		time.Sleep(100 * time.Millisecond) // the flows that went through the tunnel say farewell
		seen()
		reaches(t, node.Pods[0], near.Pods[0], "1")
		require.Empty(t, seen())
		// The node leaves the subnet; the route has to go into the tunnel.
		sync(t, ctx, c, vxlan.State{})
		require.NotContains(t, nstest.Run(t, node.NS, "ip", "route"), "proto 113")
	})
}

// TestL2 joins bridges of three nodes into one segment: ARP and neighbour discovery are flooded to every peer on the list.
func TestL2(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		ctx := kernel(t)
		nstest.Require(t, nstest.Bridge)
		cluster := nstest.NewCluster(t, 3, 0)
		var hosts []nstest.End
		var clients []*vxlan.Client
		segment := func(n int, learning bool) vxlan.State {
			d := vxlan.Device{Name: device, VNI: 7, Underlay: "eth0", Source: cluster.Nodes[n].Addr(v6), Bridge: "seg0", Learning: learning}
			for m, other := range cluster.Nodes {
				if n != m {
					d.Peers = append(d.Peers, vxlan.Peer{VTEP: other.Addr(v6), Flood: true})
				}
			}
			return vxlan.State{Devices: []vxlan.Device{d}}
		}
		for n, node := range cluster.Nodes {
			host := nstest.End{NS: nstest.New(t), Link: "eth0", V4: prefix(fmt.Sprintf("10.7.0.%d/24", n+1)), V6: prefix(fmt.Sprintf("fd07::%d/64", n+1))}
			nstest.Join(t, node.NS, "host", host.NS, "eth0")
			nstest.AddBridge(t, node.NS, "seg0", "host")
			nstest.Run(t, host.NS, "ip", "link", "set", "eth0", "mtu", "1400")
			nstest.Address(t, host)
			hosts = append(hosts, host)
			serve(t, host, fmt.Sprint(n))
			c := open(t, node.NS)
			clients = append(clients, c)
			sync(t, ctx, c, segment(n, n != 0))
			require.Empty(t, sync(t, ctx, c, segment(n, n != 0)).String())
			resolved, err := c.Resolve(ctx, segment(n, n != 0))
			require.NoError(t, err)
			got, err := c.Read(ctx)
			require.NoError(t, err)
			require.Equal(t, resolved, got)
		}
		for n := range hosts {
			for m := range hosts {
				if n != m {
					reaches(t, hosts[n], hosts[m], fmt.Sprint(m))
				}
			}
		}
		require.Contains(t, nstest.Run(t, cluster.Nodes[0].NS, "bridge", "fdb", "show", "dev", device), "00:00:00:00:00:00 dst "+cluster.Nodes[1].Addr(v6).String()+" self permanent")
		require.Empty(t, sync(t, ctx, clients[1], segment(1, true)).String(), "what is learned from traffic is nobody's")

		// A known station is sent to its peer alone; the others do not get a copy.
		known := segment(0, false)
		for line := range lines(nstest.Run(t, hosts[1].NS, "ip", "-br", "link", "show", "eth0")) {
			known.Devices[0].Peers[0].Stations = []vxlan.MAC{mac(line[2])}
		}
		seen := capture(t, cluster.Nodes[0].NS, "eth0", vxlan.DefaultPort)
		require.Equal(t, 1, sync(t, ctx, clients[0], known).Len())
		reaches(t, hosts[0], hosts[1], "1")
		for _, o := range seen() {
			require.True(t, o.group || o.to == cluster.Nodes[1].Addr(v6))
		}
		// A peer leaves the flood list and is not reached any more.
		short := segment(0, false)
		short.Devices[0].Peers = short.Devices[0].Peers[:1]
		require.Equal(t, "- flood "+cluster.Nodes[2].Addr(v6).String()+" dev vx0\n", removals(sync(t, ctx, clients[0], short), "flood"))
		nstest.Run(t, hosts[0].NS, "ip", "neigh", "flush", "dev", "eth0")
		nstest.TimesOut(t, hosts[0].NS, "udp", netip.AddrPortFrom(hosts[2].Addr(false), 80))
		reaches(t, hosts[0], hosts[1], "1")
		sync(t, ctx, clients[0], vxlan.State{})
		require.NotContains(t, nstest.Run(t, cluster.Nodes[0].NS, "ip", "link"), device)
	})
}

// TestGBP carries a packet's mark through the tunnel as group policy.
func TestGBP(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		ctx := kernel(t)
		nstest.Require(t, nstest.NFTables)
		cluster := nstest.NewCluster(t, 2, 1)
		a, b := cluster.Nodes[0].Pods[0], cluster.Nodes[1].Pods[0]
		serve(t, b, "b")
		marked := func() (n int) {
			for f := range lines(nstest.Run(t, cluster.Nodes[1].NS, "nft", "list", "counter", "inet", "t", "marked")) {
				if f[0] == "packets" {
					_, err := fmt.Sscan(f[1], &n)
					require.NoError(t, err)
				}
			}
			return n
		}
		nstest.Run(t, cluster.Nodes[0].NS, "nft", `table inet t { chain c { type filter hook forward priority 0; oifname "vx0" meta mark set 0x77; }; }`)
		nstest.Run(t, cluster.Nodes[1].NS, "nft", `table inet t { counter marked { }; chain c { type filter hook prerouting priority 0; iifname "vx0" meta mark 0x77 counter name "marked"; }; }`)
		clients := []*vxlan.Client{open(t, cluster.Nodes[0].NS), open(t, cluster.Nodes[1].NS)}
		for _, gbp := range []bool{false, true} {
			for n, c := range clients {
				want := overlay(cluster, n, v6)
				want.Devices[0].GBP = gbp
				sync(t, ctx, c, want)
			}
			reaches(t, a, b, "b")
			require.Equal(t, gbp, marked() > 0)
		}
	})
}
