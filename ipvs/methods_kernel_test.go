//go:build linux

package ipvs_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/netns"
)

// directLab is a client, a director and two servers on one link. The servers have the service's address on their loopback device and
// answer the client directly.
type directLab struct {
	director nstest.Node
	clientNS *netns.NS
	servers  []nstest.Node
	ipvs     *ipvs.Client
}

func newDirectLab(t *testing.T) *directLab {
	t.Helper()
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	c := nstest.NewCluster(t, 3, 0)
	l := &directLab{clientNS: c.Underlay, director: c.Nodes[0], servers: c.Nodes[1:], ipvs: newClient(t, c.Nodes[0].NS, ipvs.Everything())}
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} { // nobody answers through the director: it forwards nothing
		require.NoError(t, l.director.NS.SetSysctl(key, "0"))
	}
	for _, v6 := range []bool{false, true} {
		address := vip(v6, 80).Addr()
		host := netip.PrefixFrom(address, address.BitLen())
		nstest.Route(t, l.clientNS, host, l.director.Addr(v6))
		nstest.Run(t, l.director.NS, "ip", "route", "add", "local", host.String(), "dev", "lo")
		for _, s := range l.servers {
			nstest.Run(t, s.NS, "ip", "address", "add", host.String(), "dev", "lo")
		}
	}
	for i, s := range l.servers {
		for _, v := range []string{"all", "default", "eth0"} {
			require.NoError(t, s.NS.SetSysctl("net.ipv4.conf."+v+".rp_filter", "0"))
		}
		nstest.ServeTCP(t, s.NS, ":80", label(i))
		nstest.ServeUDP(t, s.NS, ":80", label(i))
	}
	return l
}

func (l *directLab) destinations(v6, over6 bool, method ipvs.Method, tunnel ipvs.Tunnel) []ipvs.Destination {
	out := make([]ipvs.Destination, len(l.servers))
	for i, s := range l.servers {
		out[i] = ipvs.Destination{Address: netip.AddrPortFrom(s.Addr(over6), 80), Method: method, Tunnel: tunnel, Weight: 1}
	}
	return out
}

// check programs the services and requires that TCP and UDP reach both servers, which see the client's own address.
func (l *directLab) check(t *testing.T, v6 bool, destinations []ipvs.Destination) {
	t.Helper()
	state := ipvs.State{}
	for _, p := range []ipvs.Protocol{ipvs.TCP, ipvs.UDP} {
		state.Services = append(state.Services, ipvs.Service{Key: ipvs.Key{Protocol: p, Address: vip(v6, 80)}, Scheduler: ipvs.RoundRobin, Destinations: destinations})
	}
	_, err := l.ipvs.Sync(t.Context(), ipvs.State{})
	require.NoError(t, err)
	_, err = l.ipvs.Sync(t.Context(), state)
	require.NoError(t, err)
	for _, network := range []string{"tcp", "udp"} {
		got := map[string]int{}
		for range 4 {
			a := nstest.Reaches(t, l.clientNS, network, vip(v6, 80))
			got[a.Server]++
			require.Equal(t, vip(v6, 80), a.Local, "the packet keeps the service's address")
		}
		require.Equal(t, map[string]int{"a": 2, "b": 2}, got, network)
	}
	have, err := l.ipvs.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, state.Canonical(), have)
}

func TestDirect(t *testing.T) {
	l := newDirectLab(t)
	families(t, func(t *testing.T, v6 bool) { l.check(t, v6, l.destinations(v6, v6, ipvs.Direct, ipvs.Tunnel{})) })
}

// TestOnePacket schedules every datagram of one socket anew, which a usual UDP service does not.
func TestOnePacket(t *testing.T) {
	l := newDirectLab(t)
	families(t, func(t *testing.T, v6 bool) {
		s := ipvs.Service{Key: ipvs.Key{Protocol: ipvs.UDP, Address: vip(v6, 80)}, Scheduler: ipvs.RoundRobin,
			Destinations: l.destinations(v6, v6, ipvs.Direct, ipvs.Tunnel{})}
		for _, onePacket := range []bool{false, true} {
			s.OnePacket = onePacket
			_, err := l.ipvs.Sync(t.Context(), ipvs.State{Services: []ipvs.Service{s}})
			require.NoError(t, err)
			f, err := nstest.Dial(t, l.clientNS, "udp", vip(v6, 80))
			require.NoError(t, err)
			got := map[string]int{}
			for range 4 {
				a, err := f.Ask()
				require.NoError(t, err)
				got[a.Server]++
			}
			if onePacket {
				require.Equal(t, map[string]int{"a": 2, "b": 2}, got)
			} else {
				require.Len(t, got, 1)
			}
		}
	})
}

// TestLocal: the director serves itself, and a server elsewhere takes its share.
func TestLocal(t *testing.T) {
	l := newDirectLab(t)
	nstest.ServeTCP(t, l.director.NS, ":80", "c")
	families(t, func(t *testing.T, v6 bool) {
		self := netip.AddrPortFrom(l.director.Addr(v6), 80)
		destinations := append(l.destinations(v6, v6, ipvs.Direct, ipvs.Tunnel{}), ipvs.Destination{Address: self, Method: ipvs.Local, Weight: 1})
		_, err := l.ipvs.Sync(t.Context(), ipvs.State{Services: []ipvs.Service{{Key: ipvs.Key{Protocol: ipvs.TCP, Address: vip(v6, 80)},
			Scheduler: ipvs.RoundRobin, Destinations: destinations}}})
		require.NoError(t, err)
		got := map[string]int{}
		for range 6 {
			got[nstest.Reaches(t, l.clientNS, "tcp", vip(v6, 80)).Server]++
		}
		require.Equal(t, map[string]int{"a": 2, "b": 2, "c": 2}, got)
	})
}

// TestTunnel sends both families through every encapsulation over both families.
func TestTunnel(t *testing.T) {
	l := newDirectLab(t)
	for _, s := range l.servers {
		run := func(format string, args ...any) {
			t.Helper()
			nstest.Run(t, s.NS, "/bin/sh", "-ec", fmt.Sprintf(format, args...))
		}
		ends := func(v6 bool) string { return fmt.Sprintf("local %s remote %s", s.Addr(v6), l.director.Addr(v6)) }
		run("ip link add ipip type ipip %s; ip link set ipip up", ends(false))
		run("ip link add sit type sit %s mode ip6ip; ip link set sit up", ends(false))
		run("ip link add tnl6 type ip6tnl %s mode any; ip link set tnl6 up", ends(true))
		run("ip link add gre type gre %s; ip link set gre up", ends(false))
		run("ip link add gre6 type ip6gre %s; ip link set gre6 up", ends(true))
		run("/sbin/modprobe fou; /sbin/modprobe fou6; ip fou add port 6080 gue; ip -6 fou add port 6080 gue")
	}
	for _, over6 := range []bool{false, true} {
		families(t, func(t *testing.T, v6 bool) {
			for _, tunnel := range []ipvs.Tunnel{
				{},
				{Type: ipvs.GRE},
				{Type: ipvs.GUE, Port: 6080},
				{Type: ipvs.GUE, Port: 6080, Checksum: ipvs.Checksum},
				{Type: ipvs.GUE, Port: 6080, Checksum: ipvs.RemoteChecksum},
			} {
				t.Run(fmt.Sprintf("%s over6=%v", tunnel, over6), func(t *testing.T) {
					l.check(t, v6, l.destinations(v6, over6, ipvs.Tunneling, tunnel))
				})
			}
		})
	}
}
