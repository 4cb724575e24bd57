package vxlan_test

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/vxlan"
)

const device = "vx0"

// require features before anything is made.
func kernel(t testing.TB) context.Context {
	t.Helper()
	nstest.Require(t, nstest.VXLAN)
	nstest.Require(t, nstest.IPv6)
	ctx, cancel := context.WithTimeout(context.Background(), patience(time.Minute))
	t.Cleanup(cancel)
	return ctx
}

// patience is longer where the processor is emulated.
func patience(d time.Duration) time.Duration {
	if nstest.InGuest() {
		d *= 5
	}
	return d
}

func open(t testing.TB, ns *netns.NS) *vxlan.Client {
	t.Helper()
	c, err := vxlan.New(vxlan.Config{NetNS: ns})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// tunnel is the address of a node's device: the first of its pod network.
func tunnel(n nstest.Node, v6 bool) netip.Addr {
	if v6 {
		return n.PodV6.Masked().Addr()
	}
	return n.PodV4.Masked().Addr()
}

// overlay is the state of the n-th node of a cluster: all others are its peers, over an underlay of the given family.
func overlay(c *nstest.Cluster, n int, v6 bool) vxlan.State {
	self := c.Nodes[n]
	d := vxlan.Device{
		Name: device, VNI: 42, Source: self.Addr(v6),
		Addrs: []netip.Prefix{netip.PrefixFrom(tunnel(self, false), 32), netip.PrefixFrom(tunnel(self, true), 128)},
	}
	for i, other := range c.Nodes {
		if i != n {
			d.Peers = append(d.Peers, vxlan.Peer{
				VTEP:    other.Addr(v6),
				Tunnel:  []netip.Addr{tunnel(other, false), tunnel(other, true)},
				Subnets: []netip.Prefix{other.PodV4.Masked(), other.PodV6.Masked()},
			})
		}
	}
	return vxlan.State{Devices: []vxlan.Device{d}}
}

func families(t *testing.T, f func(t *testing.T, v6 bool)) {
	for _, v6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "over IPv4", true: "over IPv6"}[v6], func(t *testing.T) { f(t, v6) })
	}
}

// serve starts a TCP and a UDP server in the namespace on both families.
func serve(t testing.TB, e nstest.End, label string) {
	nstest.ServeTCP(t, e.NS, ":80", label)
	nstest.ServeUDP(t, e.NS, ":80", label)
}

// reaches asks the server over both families and protocols, and wants it to see the asker's own address.
func reaches(t testing.TB, from, to nstest.End, label string) {
	t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		for i, a := range to.Addrs() {
			answer := nstest.Reaches(t, from.NS, network, netip.AddrPortFrom(a, 80))
			require.Equal(t, label, answer.Server)
			require.Equal(t, from.Addrs()[i], answer.Client.Addr(), "not translated")
		}
	}
}

var operstate = regexp.MustCompile(` state [A-Z]+`)

// look returns everything of a namespace that these tests could leave behind.
func look(t testing.TB, ns *netns.NS) string {
	var b strings.Builder
	for _, args := range []string{"-o link", "-o addr", "route show table all", "-6 route show table all", "neigh show nud permanent", "-6 neigh show nud permanent"} {
		for line := range strings.Lines(nstest.Run(t, ns, "ip", strings.Fields(args)...)) {
			// Link-local and multicast routes of the underlay come when its addresses settle.
			if !strings.Contains(line, "ff00::") && !strings.Contains(line, "fe80::") {
				b.WriteString(operstate.ReplaceAllString(strings.TrimSpace(line), "") + "\n")
			}
		}
	}
	return b.String() + nstest.Run(t, ns, "bridge", "fdb", "show")
}

func sync(t testing.TB, ctx context.Context, c *vxlan.Client, want vxlan.State) vxlan.Plan {
	t.Helper()
	p, err := c.Sync(ctx, want)
	require.NoError(t, err)
	return p
}

// TestOverlay joins the pods of three nodes and takes everything away again.
func TestOverlay(t *testing.T) {
	families(t, func(t *testing.T, v6 bool) {
		ctx := kernel(t)
		nstest.Leaks(t)
		cluster := nstest.NewCluster(t, 3, 2)
		var clients []*vxlan.Client
		var before []string
		for n, node := range cluster.Nodes {
			for p, pod := range node.Pods {
				serve(t, pod, fmt.Sprintf("pod%d-%d", n, p))
			}
			before = append(before, look(t, node.NS))
			clients = append(clients, open(t, node.NS))
		}
		for n, c := range clients {
			want := overlay(cluster, n, v6)
			plan, err := c.Plan(ctx, want)
			require.NoError(t, err)
			require.Equal(t, plan.String(), sync(t, ctx, c, want).String(), "Sync does what Plan says")
			resolved, err := c.Resolve(ctx, want)
			require.NoError(t, err)
			got, err := c.Read(ctx)
			require.NoError(t, err)
			require.Equal(t, resolved, got)
			require.Empty(t, sync(t, ctx, c, want).String(), "a second Sync")
			require.True(t, vxlan.Diff(got, resolved).Empty())
		}
		for n, node := range cluster.Nodes {
			for m, other := range cluster.Nodes {
				if n == m {
					continue
				}
				for p := range other.Pods {
					reaches(t, node.Pods[0], other.Pods[p], fmt.Sprintf("pod%d-%d", m, p))
				}
				// From the node itself, whose address on the tunnel is the source.
				answer := nstest.Reaches(t, node.NS, "tcp", netip.AddrPortFrom(other.Pods[0].Addr(false), 80))
				require.Equal(t, tunnel(node, false), answer.Client.Addr())
				answer = nstest.Reaches(t, node.NS, "tcp", netip.AddrPortFrom(other.Pods[0].Addr(true), 80))
				require.Equal(t, tunnel(node, true), answer.Client.Addr())
			}
		}
		for n, c := range clients {
			sync(t, ctx, c, vxlan.State{})
			got, err := c.Read(ctx)
			require.NoError(t, err)
			require.Equal(t, vxlan.State{}, got)
			require.Equal(t, before[n], look(t, cluster.Nodes[n].NS), "as if nothing had been there")
		}
	})
}

// TestTools compares what the kernel's own tools show with what was asked for.
func TestTools(t *testing.T) {
	ctx := kernel(t)
	a, _ := nstest.Pair(t)
	c := open(t, a.NS)
	p := peer(1)
	p.MAC = mac("02:00:00:00:00:0b")
	p.Subnets = append(p.Subnets, prefix("10.99.0.0/16"), prefix("10.98.7.6/32"), prefix("fd98::/48"))
	s := vxlan.State{Devices: []vxlan.Device{{
		Name: device, VNI: 4711, Port: 8472, Underlay: "eth0", Source: a.V4.Addr(), MTU: 1400, MAC: mac("02:00:00:00:00:0a"), GBP: true, ZeroChecksum: true, ZeroChecksum6Tx: true, ZeroChecksum6Rx: true,
		TTL: 17, TOS: 1, SourcePorts: vxlan.PortRange{Low: 40000, High: 50000}, Addrs: []netip.Prefix{prefix("10.0.0.0/32"), prefix("fd44::/128")}, Peers: []vxlan.Peer{p},
	}}}
	sync(t, ctx, c, s)
	got, err := c.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, vxlan.Canonical(s), got, "a State that says everything is read back as it is")
	link := nstest.Run(t, a.NS, "ip", "-d", "link", "show", device)
	for _, want := range []string{"vxlan id 4711 local 192.0.2.1 dev eth0 srcport 40000 50000 dstport 8472 nolearning", "mtu 1400", "link/ether 02:00:00:00:00:0a", "alias podplumb:vxlan",
		"tos inherit ttl 17", "noudpcsum udp6zerocsumtx udp6zerocsumrx", " gbp ", ",UP"} {
		require.Contains(t, link, want)
	}
	require.Equal(t, "02:00:00:00:00:0b dst 172.16.0.1 self permanent", strings.TrimSpace(nstest.Run(t, a.NS, "bridge", "fdb", "show", "dev", device)))
	require.Equal(t, "10.0.1.0 lladdr 02:00:00:00:00:0b PERMANENT proto 113", strings.Join(strings.Fields(nstest.Run(t, a.NS, "ip", "-d", "-4", "neigh", "show", "dev", device)), " "))
	require.Contains(t, nstest.Run(t, a.NS, "ip", "-d", "-6", "neigh", "show", "dev", device), "fd44:0:0:1:: lladdr 02:00:00:00:00:0b PERMANENT proto 113")
	for _, route := range []string{"10.0.1.0/24 via 10.0.1.0 proto 113 onlink", "10.99.0.0/16 via 10.0.1.0 proto 113 onlink", "10.98.7.6 via 10.0.1.0 proto 113 onlink"} {
		require.Contains(t, nstest.Run(t, a.NS, "ip", "route", "show", "dev", device), route)
	}
	require.Contains(t, nstest.Run(t, a.NS, "ip", "-6", "route", "show", "dev", device), "fd98::/48 via fd44:0:0:1:: proto 113 metric 1024 onlink")
	require.Contains(t, nstest.Run(t, a.NS, "ip", "-6", "route", "show", "dev", device), "fd44:0:0:1::/64 via fd44:0:0:1:: proto 113 metric 1024 onlink")
	require.Regexp(t, `inet 10\.0\.0\.0/32 .*\n.*\n? *inet6 fd44::/128 scope global`, nstest.Run(t, a.NS, "ip", "addr", "show", "dev", device, "scope", "global"))
}

// TestSettings changes each setting once and looks at the outcome, the kernel's and the tools'.
func TestSettings(t *testing.T) {
	ctx := kernel(t)
	nstest.Require(t, nstest.Bridge)
	a, _ := nstest.Pair(t)
	nstest.Address(t, nstest.End{NS: a.NS, Link: "eth0", V4: prefix("192.0.2.9/24")})
	nstest.AddBridge(t, a.NS, "br0")
	c := open(t, a.NS)
	base := vxlan.Device{Name: device, VNI: 42, Source: a.V4.Addr(), MTU: 1450, Peers: []vxlan.Peer{peer(1)}}
	cases := []struct {
		set  func(d *vxlan.Device)
		plan string // of the device
		tool string // in ip -d link
	}{
		{func(d *vxlan.Device) { d.Source = addr("192.0.2.9") }, "source 192.0.2.1 -> 192.0.2.9", "local 192.0.2.9"},
		{func(d *vxlan.Device) { d.Underlay = "eth0" }, "underlay none -> eth0", "local 192.0.2.1 dev eth0"},
		{func(d *vxlan.Device) { d.MTU = 1300 }, "mtu 1450 -> 1300", "mtu 1300"},
		{func(d *vxlan.Device) { d.MAC = mac("02:00:00:00:00:01") }, "mac", "link/ether 02:00:00:00:00:01"},
		{func(d *vxlan.Device) { d.Learning = true }, "learning off -> on", "dstport 4789 "},
		{func(d *vxlan.Device) { d.TTL = 9 }, "ttl 0 -> 9", "ttl 9"},
		{func(d *vxlan.Device) { d.TOS = 4 }, "tos 0 -> 4", "tos 0x4"},
		{func(d *vxlan.Device) { d.Bridge, d.Peers = "br0", nil }, "bridge none -> br0", "master br0"},
		{func(d *vxlan.Device) { d.VNI = 43 }, "recreate, vni 42 -> 43", "vxlan id 43 "},
		{func(d *vxlan.Device) { d.Port = 8472 }, "recreate, port 4789 -> 8472", "dstport 8472"},
		{func(d *vxlan.Device) { d.Source, d.Peers, d.MTU = a.V6.Addr(), nil, 1430 }, "recreate, source 192.0.2.1 -> 2001:db8::1", "local 2001:db8::1"},
		{func(d *vxlan.Device) { d.GBP = true }, "recreate, gbp off -> on", " gbp "},
		{func(d *vxlan.Device) { d.ZeroChecksum = true }, "recreate, zero checksum off -> on", "noudpcsum"},
		{func(d *vxlan.Device) { d.ZeroChecksum6Tx = true }, "recreate, zero checksum6 tx off -> on", " udp6zerocsumtx"},
		{func(d *vxlan.Device) { d.ZeroChecksum6Rx = true }, "recreate, zero checksum6 rx off -> on", " udp6zerocsumrx"},
		{func(d *vxlan.Device) { d.SourcePorts = vxlan.PortRange{Low: 5000, High: 6000} }, "recreate, source ports kernel -> 5000-6000", "srcport 5000 6000"},
	}
	for _, x := range cases {
		t.Run(x.plan, func(t *testing.T) {
			sync(t, ctx, c, vxlan.State{Devices: []vxlan.Device{base}})
			changed := base
			x.set(&changed)
			want := vxlan.State{Devices: []vxlan.Device{changed}}
			there := sync(t, ctx, c, want).String()
			require.Contains(t, there, "~ device vx0: "+x.plan)
			require.Contains(t, nstest.Run(t, a.NS, "ip", "-d", "link", "show", device)+" ", x.tool)
			require.Empty(t, sync(t, ctx, c, want).String())
			got, err := c.Read(ctx)
			require.NoError(t, err)
			resolved, err := c.Resolve(ctx, want)
			require.NoError(t, err)
			require.Equal(t, resolved, got)
			require.Equal(t, 1, strings.Count(nstest.Run(t, a.NS, "ip", "-o", "link", "show", "type", "vxlan"), "\n")+1, "nothing is left of the old device")
			require.Contains(t, sync(t, ctx, c, vxlan.State{Devices: []vxlan.Device{base}}).String(), "~ device vx0: ", "and back")
		})
	}
}

// lines splits a tool's output into the fields of its lines.
func lines(text string) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(text) {
			if f := strings.Fields(line); len(f) > 0 && !yield(f) {
				return
			}
		}
	}
}

// removals returns the lines of a plan that remove objects of that kind.
func removals(p vxlan.Plan, kind string) string {
	var b strings.Builder
	for line := range strings.Lines(p.String()) {
		if strings.HasPrefix(line, "- "+kind) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func sorted(lines []string) string {
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
