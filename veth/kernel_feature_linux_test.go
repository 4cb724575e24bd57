package veth_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

const soon, silence = 2 * time.Second, 200 * time.Millisecond

// TestKernelHairpin: a frame for a neighbour that lives behind the same port comes back only when hairpin is on.
func TestKernelHairpin(t *testing.T) {
	n := newNode(t, veth.Config{})
	a := nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a)}}
	for _, hairpin := range []bool{false, true, false} {
		want.Pairs[0].Host.Port.Hairpin = hairpin
		n.sync(want)
		for _, ip := range []netip.Addr{addr("10.1.0.99"), addr("fd01::99")} {
			s := newTap(t, a, "eth0")
			kind, p := packet(ip)
			to := [6]byte{2, 0, 0, 0, 0x99, byte(kind)}
			s.send(to, kind, p)
			within := silence
			if hairpin {
				within = soon
			}
			require.Equal(t, hairpin, s.hears(within, func(f frame) bool { return f.kind() == kind && [6]byte(f[:6]) == to }), "%s", ip)
		}
	}
}

// TestKernelIsolated: isolated ports reach the bridge and ports that are not isolated, but not each other.
func TestKernelIsolated(t *testing.T) {
	n := newNode(t, veth.Config{})
	a, b, c := nstest.New(t), nstest.New(t), nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a), bridged(2, b), bridged(3, c)}}
	want.Pairs[0].Host.Port.Isolated, want.Pairs[1].Host.Port.Isolated = true, true
	n.sync(want)
	pod := func(i int) []netip.Prefix { return want.Pairs[i].Pod.Addresses }
	flows(t, a, pod(0), c, pod(2))
	flows(t, a, pod(0), n.ns, gateways)
	flows(t, c, pod(2), b, pod(1))
	for _, p := range pod(1) {
		nstest.TimesOut(t, a, "tcp", nstest.ServeTCP(t, b, netip.AddrPortFrom(p.Addr(), 0).String(), "b"))
	}
	want.Pairs[0].Host.Port.Isolated = false
	n.sync(want)
	flows(t, a, pod(0), b, pod(1))
}

// TestKernelPromiscuous: the bridge's own link hears what passes between two pods only in promiscuous mode.
func TestKernelPromiscuous(t *testing.T) {
	n := newNode(t, veth.Config{})
	a, b := nstest.New(t), nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a), bridged(2, b)}}
	for _, promiscuous := range []bool{false, true} {
		want.Bridges[0].Promiscuous = promiscuous
		n.sync(want)
		flows(t, a, want.Pairs[0].Pod.Addresses, b, want.Pairs[1].Pod.Addresses) // the bridge learns both
		for i, p := range want.Pairs[1].Pod.Addresses {
			s := newTap(t, n.ns, "cni0")
			kind, _ := packet(p.Addr())
			to := nstest.ServeUDP(t, b, netip.AddrPortFrom(p.Addr(), 0).String(), "b")
			require.Equal(t, want.Pairs[0].Pod.Addresses[i].Addr(), nstest.Reaches(t, a, "udp", to).Client.Addr())
			within := silence
			if promiscuous {
				within = soon
			}
			udp := func(f frame) bool {
				protocol := 23
				if kind == unix.ETH_P_IPV6 {
					protocol = 20
				}
				return f.kind() == kind && f[protocol] == unix.IPPROTO_UDP
			}
			require.Equal(t, promiscuous, s.hears(within, udp), "%s", p)
		}
	}
}

// TestKernelAnnounce: a neighbour hears of each address when it is added, and when it is asked for.
func TestKernelAnnounce(t *testing.T) {
	n := newNode(t, veth.Config{Announce: true})
	a, b := nstest.New(t), nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a)}}
	n.sync(want)
	s := newTap(t, a, "eth0")
	heard := func(v4, v6 string) {
		t.Helper()
		require.True(t, s.hears(soon, func(f frame) bool { return isARP(f, addr(v4)) }))
		require.True(t, s.hears(soon, func(f frame) bool { return isAdvertisement(f, addr(v6)) }))
	}
	want.Pairs = append(want.Pairs, bridged(2, b))
	n.sync(want)
	heard("10.1.0.12", "fd01::12")

	require.NoError(t, n.client.Announce(n.ctx, veth.State{Pairs: want.Pairs[1:]}))
	heard("10.1.0.12", "fd01::12")

	nstest.Run(t, n.ns, "ip", "addr", "flush", "dev", "cni0", "scope", "global")
	n.sync(want)
	heard("10.1.0.1", "fd01::1")

	want.Bridges[0].MAC = veth.MAC{2, 0, 0, 0, 0, 7}
	n.sync(want)
	heard("10.1.0.1", "fd01::1")

	require.NoError(t, n.client.Detach(n.ctx, "pod2"))
	require.NoError(t, n.client.Attach(n.ctx, want.Pairs[1]))
	heard("10.1.0.12", "fd01::12")

	quiet := n.open(veth.Config{})
	require.NoError(t, quiet.Detach(n.ctx, "pod2"))
	require.NoError(t, quiet.Attach(n.ctx, want.Pairs[1]))
	require.False(t, s.hears(silence, func(f frame) bool { return isARP(f, addr("10.1.0.12")) }))
}

// TestKernelMTU: a packet of the link's MTU passes, and one that is larger is refused by its sender.
func TestKernelMTU(t *testing.T) {
	n := newNode(t, veth.Config{})
	a := nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a)}}
	for _, mtu := range []int{1400, 9000, 1280} {
		want.Bridges[0].MTU, want.Pairs[0].Host.MTU = mtu, mtu
		n.sync(want)
		for _, gateway := range gateways {
			to := nstest.ServeUDP(t, n.ns, netip.AddrPortFrom(gateway.Addr(), 0).String(), "gateway")
			headers := 20 + 8
			if gateway.Addr().Is6() {
				headers = 40 + 8
			}
			require.NoError(t, sendWhole(a, to, mtu-headers))
			require.ErrorIs(t, sendWhole(a, to, mtu-headers+1), unix.EMSGSIZE)
		}
	}

	// A bridge keeps the MTU that was given to it, whatever its ports have.
	want.Pairs[0].Host.MTU = 1300
	want.Bridges[0].MTU = 1500
	n.sync(want)
	require.Contains(t, nstest.Run(t, n.ns, "ip", "link", "show", "cni0"), "mtu 1500")

	// A route's MTU binds its packets only.
	want.Pairs[0].Host.MTU = 1500
	for i := range want.Pairs[0].Pod.Routes {
		want.Pairs[0].Pod.Routes[i].MTU = 1400
	}
	n.sync(want)
	require.ErrorIs(t, sendWhole(a, netip.MustParseAddrPort("192.0.2.1:9"), 1400-28+1), unix.EMSGSIZE)
	require.ErrorIs(t, sendWhole(a, netip.MustParseAddrPort("[2001:db8::1]:9"), 1400-48+1), unix.EMSGSIZE)
	require.NoError(t, sendWhole(a, netip.AddrPortFrom(addr("10.1.0.1"), 9), 1500-28))
}

// sendWhole sends a datagram that may not be fragmented.
func sendWhole(ns *netns.NS, to netip.AddrPort, size int) error {
	return ns.Do(func() error {
		family, level, option := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
		var sa unix.Sockaddr
		if to.Addr().Is4() {
			sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
		} else {
			family, level, option = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
			sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
		}
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, level, option, unix.IP_PMTUDISC_DO); err != nil {
			return err
		}
		return unix.Sendto(fd, make([]byte, size), 0, sa)
	})
}

// TestKernelDAD: without detection the addresses work the moment that Sync returns; with it they are tentative first, and an address
// that another has is noticed.
func TestKernelDAD(t *testing.T) {
	n := newNode(t, veth.Config{})
	a, b := nstest.New(t), nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a)}}
	_, err := n.client.Sync(n.ctx, want)
	require.NoError(t, err)
	require.Empty(t, nstest.Run(t, a, "ip", "-6", "address", "show", "scope", "global", "tentative"))
	require.Empty(t, nstest.Run(t, n.ns, "ip", "-6", "address", "show", "scope", "global", "tentative"))
	nstest.Reaches(t, n.ns, "tcp", nstest.ServeTCP(t, a, "[fd01::11]:0", "a"))
	n.settled(want)

	other := n.open(veth.Config{Owner: "other"})
	twin := bridged(1, b)
	twin.Host.Name, twin.Pod.DAD, twin.Pod.Routes = "twin", true, nil
	twin.Pod.Addresses = prefixes("10.1.0.66/24", "fd01::11/64")
	_, err = other.Sync(n.ctx, veth.State{Pairs: []veth.Pair{twin}})
	require.NoError(t, err)
	require.Contains(t, nstest.Run(t, b, "ip", "-6", "address", "show", "tentative"), "fd01::11")
	require.Eventually(t, func() bool {
		p, err := other.Plan(n.ctx, veth.State{Pairs: []veth.Pair{twin}})
		return err == nil && p.String() == "+ pair twin pod address fd01::11/64\n"
	}, 5*time.Second, 20*time.Millisecond, "the duplicate is not noticed")

	// Detected once more when it is added again; and found good when the other is gone.
	n.sync(veth.State{Bridges: want.Bridges})
	_, err = other.Sync(n.ctx, veth.State{Pairs: []veth.Pair{twin}})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return !strings.Contains(nstest.Run(t, b, "ip", "-6", "address", "show", "dev", "eth0", "scope", "global"), "tentative")
	}, 5*time.Second, 20*time.Millisecond)
	nstest.Run(t, n.ns, "ip", "neigh", "flush", "dev", "cni0") // nobody announced that the address has moved
	nstest.Reaches(t, n.ns, "tcp", nstest.ServeTCP(t, b, "[fd01::11]:0", "b"))
	_, err = other.Sync(n.ctx, veth.State{})
	require.NoError(t, err)
}

// TestKernelProxy: a routed pod finds its gateway although no link has the gateway's address: the node's end answers for it.
func TestKernelProxy(t *testing.T) {
	n := newNode(t, veth.Config{})
	nstest.Forward(t, n.ns)
	outside := nstest.New(t)
	nstest.Join(t, n.ns, "up0", outside, "eth0")
	nstest.Address(t, nstest.End{NS: n.ns, Link: "up0", V4: prefixes("192.0.2.1/24")[0], V6: prefixes("2001:db8::1/64")[0]})
	world := nstest.End{NS: outside, Link: "eth0", V4: prefixes("192.0.2.2/24")[0], V6: prefixes("2001:db8::2/64")[0]}
	nstest.Address(t, world)
	nstest.DefaultRoutes(t, outside, addr("192.0.2.1"), addr("2001:db8::1"))
	nstest.DefaultRoutes(t, n.ns, addr("192.0.2.2"), addr("2001:db8::2")) // proxy ARP answers for what the node routes elsewhere

	a, b := nstest.New(t), nstest.New(t)
	want := veth.State{Pairs: []veth.Pair{routed(1, a), routed(2, b)}}
	for i := range want.Pairs {
		want.Pairs[i].Host.Addresses = nil
	}
	want.Pairs[0].Host.ProxyARP = true
	want.Pairs[0].Host.Proxy = []netip.Addr{addr("fe80::1")}
	want.Pairs[1].Host.Proxy = []netip.Addr{addr("169.254.1.1"), addr("fe80::1")}
	n.sync(want)
	for i, pod := range []*netns.NS{a, b} {
		flows(t, pod, want.Pairs[i].Pod.Addresses, outside, []netip.Prefix{world.V4, world.V6})
		flows(t, outside, []netip.Prefix{world.V4, world.V6}, pod, want.Pairs[i].Pod.Addresses)
	}

	for i := range want.Pairs {
		want.Pairs[i].Host.ProxyARP, want.Pairs[i].Host.Proxy = false, nil
	}
	n.sync(want)
	for _, pod := range []*netns.NS{a, b} {
		nstest.Run(t, pod, "ip", "neigh", "flush", "all")
		nstest.TimesOut(t, pod, "tcp", nstest.ServeTCP(t, outside, netip.AddrPortFrom(world.V4.Addr(), 0).String(), "gone"))
		nstest.TimesOut(t, pod, "tcp", nstest.ServeTCP(t, outside, netip.AddrPortFrom(world.V6.Addr(), 0).String(), "gone"))

	}
}

// TestKernelRoutes: source, metric and gateway of routes decide how packets leave.
func TestKernelRoutes(t *testing.T) {
	n := newNode(t, veth.Config{})
	a := nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a)}}
	pod := &want.Pairs[0].Pod
	pod.Addresses = append(pod.Addresses, prefixes("10.1.0.111/24", "fd01::111/64")...)
	pod.Routes = []veth.Route{
		{To: prefixes("0.0.0.0/0")[0], Via: addr("10.1.0.250"), Metric: 50}, // nobody is there, and the next one is better
		{To: prefixes("0.0.0.0/0")[0], Via: addr("10.1.0.1"), Source: addr("10.1.0.111"), Metric: 10},
		{To: prefixes("::/0")[0], Via: addr("fd01::250"), Metric: 50},
		{To: prefixes("::/0")[0], Via: addr("fd01::1"), Source: addr("fd01::111"), Metric: 10},
		{To: prefixes("203.0.113.0/24")[0], Scope: veth.ScopeLink},
		{To: prefixes("198.51.100.0/24")[0], Via: addr("172.31.0.1"), OnLink: true},
	}
	n.sync(want)
	nstest.Run(t, n.ns, "ip", "address", "add", "192.0.2.1/32", "dev", "lo")
	nstest.Run(t, n.ns, "ip", "address", "add", "2001:db8::1/128", "dev", "lo", "nodad")
	nstest.Run(t, n.ns, "ip", "address", "add", "203.0.113.9/32", "dev", "cni0")
	flows(t, a, prefixes("10.1.0.111/24", "fd01::111/64"), n.ns, prefixes("192.0.2.1/32", "2001:db8::1/128"))
	require.Contains(t, nstest.Run(t, a, "ip", "route", "get", "203.0.113.9"), "203.0.113.9 dev eth0")
	require.Contains(t, nstest.Run(t, a, "ip", "route", "show", "198.51.100.0/24"), "via 172.31.0.1 dev eth0 proto 112 onlink")
}

// TestKernelGroupForward: link-local frames such as LLDP pass the bridge only when its mask says so.
func TestKernelGroupForward(t *testing.T) {
	n := newNode(t, veth.Config{})
	a, b := nstest.New(t), nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a), bridged(2, b)}}
	lldp := [6]byte{1, 0x80, 0xc2, 0, 0, 0x0e}
	for _, mask := range []uint16{0, 1 << 14} {
		want.Bridges[0].GroupForwardMask = mask
		n.sync(want)
		from, to := newTap(t, a, "eth0"), newTap(t, b, "eth0")
		from.send(lldp, 0x88cc, make([]byte, 46))
		within := silence
		if mask != 0 {
			within = soon
		}
		require.Equal(t, mask != 0, to.hears(within, func(f frame) bool { return [6]byte(f[:6]) == lldp }))
	}
}

// TestKernelSnooping: with snooping a group that nobody joined reaches no pod once a querier is heard; without it every pod hears it.
func TestKernelSnooping(t *testing.T) {
	n := newNode(t, veth.Config{})
	a, b := nstest.New(t), nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a), bridged(2, b)}}
	for _, snooping := range []bool{true, false} {
		want.Bridges[0].MulticastSnooping = snooping
		n.sync(want)
		if snooping {
			// The bridge floods until it has heard a query and waited for the answers.
			nstest.Run(t, n.ns, "ip", "link", "set", "cni0", "type", "bridge", "mcast_query_response_interval", "10")
			nstest.Run(t, n.ns, "ip", "link", "set", "cni0", "type", "bridge", "mcast_querier", "1")
		}
		for group, mac := range map[string][6]byte{"239.1.2.3": {1, 0, 0x5e, 1, 2, 3}, "ff0e::1:2": {0x33, 0x33, 0, 1, 0, 2}} {
			deliver := func() bool {
				from, to := newTap(t, a, "eth0"), newTap(t, b, "eth0")
				kind, p := packet(addr(group))
				from.send(mac, kind, p)
				return to.hears(silence, func(f frame) bool { return [6]byte(f[:6]) == mac })
			}
			if snooping {
				require.Eventually(t, func() bool { return !deliver() }, 5*time.Second, 50*time.Millisecond, group)
			} else {
				require.True(t, deliver(), group)
			}
		}
	}
}

// TestKernelVLANs: access ports of one VLAN reach each other, not those of another; a trunk carries both, tagged.
func TestKernelVLANs(t *testing.T) {
	nstest.Require(t, nstest.VLANFiltering)
	nstest.Require(t, nstest.VLAN)
	n := newNode(t, veth.Config{})
	a, b, c, trunk := nstest.New(t), nstest.New(t), nstest.New(t), nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a), bridged(2, b), bridged(3, c), bridged(4, trunk)}}
	want.Bridges[0].VLANFiltering, want.Bridges[0].VLANs = true, veth.VLANs{Access: 10, Trunks: []veth.VLANRange{{First: 30, Last: 31}}}
	want.Pairs[0].Host.Port.VLANs.Access = 10
	want.Pairs[1].Host.Port.VLANs.Access = 10
	want.Pairs[2].Host.Port.VLANs.Access = 20
	want.Pairs[3].Host.Port.VLANs.Trunks = []veth.VLANRange{{First: 10, Last: 12}, {First: 20, Last: 20}}
	n.sync(want)
	pod := func(i int) []netip.Prefix { return want.Pairs[i].Pod.Addresses }
	flows(t, a, pod(0), b, pod(1))
	flows(t, a, pod(0), n.ns, gateways)
	for _, p := range pod(2) {
		nstest.TimesOut(t, a, "tcp", nstest.ServeTCP(t, c, netip.AddrPortFrom(p.Addr(), 0).String(), "c"))
	}
	nstest.Run(t, trunk, "ip", "link", "add", "link", "eth0", "name", "tagged", "type", "vlan", "id", "20")
	nstest.Run(t, trunk, "ip", "link", "set", "tagged", "up")
	tagged := prefixes("10.1.0.240/24", "fd01::240/64")
	nstest.Run(t, trunk, "ip", "addr", "flush", "dev", "eth0")
	for _, p := range tagged {
		nstest.Run(t, trunk, "ip", "addr", "add", p.String(), "dev", "tagged", "nodad")
	}
	flows(t, trunk, tagged, c, pod(2))
	for _, p := range pod(0) {
		nstest.TimesOut(t, trunk, "tcp", nstest.ServeTCP(t, a, netip.AddrPortFrom(p.Addr(), 0).String(), "a"))
	}
	nstest.Run(t, trunk, "ip", "link", "del", "tagged")
	n.sync(want)

	n.repairs(want, a, []damage{
		{"access VLAN gone", false, cmd("bridge vlan del dev pod1 vid 10"), "vlans none -> access 10"},
		{"access VLAN tagged", false, cmd("bridge vlan add dev pod1 vid 10"), "vlans trunks 10 -> access 10"},
		{"VLAN added", false, cmd("bridge vlan add dev pod1 vid 77"), "vlans access 10 trunks 77 -> access 10"},
		{"VLAN untagged", false, cmd("bridge vlan add dev pod1 vid 78 untagged"), "vlans access 10 trunks 78 -> access 10"},
		{"trunk shortened", false, cmd("bridge vlan del dev pod4 vid 11"), "vlans trunks 10, 12, 20 -> trunks 10-12, 20"},
		{"bridge VLAN", false, cmd("bridge vlan del dev cni0 vid 10 self"), "~ bridge cni0: vlans trunks 30-31 -> access 10 trunks 30-31"},
		{"filtering off", false, cmd("ip link set cni0 type bridge vlan_filtering 0"), "vlan-filtering off -> on"},
	}, func(t *testing.T) {
		flows(t, a, pod(0), b, pod(1))
		flows(t, a, pod(0), n.ns, gateways)
	})

	want.Pairs[2].Host.Port.VLANs = veth.VLANs{None: true}
	want.Pairs[1].Host.Port.VLANs = veth.VLANs{}
	n.sync(want)
	for _, p := range pod(1) {
		nstest.TimesOut(t, a, "tcp", nstest.ServeTCP(t, b, netip.AddrPortFrom(p.Addr(), 0).String(), "b"))
	}
	for i := range want.Pairs {
		want.Pairs[i].Host.Port.VLANs = veth.VLANs{}
	}
	want.Bridges[0].VLANFiltering, want.Bridges[0].VLANs = false, veth.VLANs{}
	n.sync(want)
	flows(t, a, pod(0), c, pod(2))
}
