package veth_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

// damage is one thing that goes wrong behind the client's back.
type damage struct {
	name   string
	inPod  bool
	run    []string // a command line
	notice string   // a line of the plan that repairs it
}

// TestKernelDamageBridged breaks every object of an attachment behind a bridge, one at a time. Each is noticed by Plan and repaired by
// Sync, after which packets pass again.
func TestKernelDamageBridged(t *testing.T) {
	// A pod may ask for its gateway while that has the wrong MAC address, and would believe the answer for half a minute.
	n := newNode(t, veth.Config{ForceAddress: true, Announce: true})
	a, b := nstest.New(t), nstest.New(t)
	want := veth.State{Bridges: []veth.Bridge{bridge()}, Pairs: []veth.Pair{bridged(1, a), bridged(2, b)}}
	br := &want.Bridges[0]
	br.MAC = veth.MAC{2, 0, 0, 0, 0, 1}
	br.Routes = []veth.Route{{To: prefixes("10.9.0.0/16")[0], Via: addr("10.1.0.200")}}
	br.Sysctls = map[string]string{"net.ipv4.conf.IFNAME.rp_filter": "2"}
	p := &want.Pairs[0]
	p.Group = 7
	p.Host.MAC, p.Pod.MAC = veth.MAC{2, 0, 0, 0, 0, 2}, veth.MAC{2, 0, 0, 0, 0, 3}
	p.Host.Port = veth.Port{Hairpin: true}
	p.Host.Sysctls = map[string]string{"net.ipv4.conf.IFNAME.rp_filter": "2"}
	p.Pod.Sysctls = map[string]string{"net.ipv4.conf.IFNAME.arp_filter": "1", "net/core/somaxconn": "1234"}
	p.Pod.Routes = append(p.Pod.Routes, veth.Route{To: prefixes("10.8.0.0/16")[0], Via: addr("10.1.0.201"), Metric: 5, Source: addr("10.1.0.11"), MTU: 1400})
	n.sync(want)

	n.repairs(want, a, []damage{
		{"bridge mtu", false, cmd("ip link set cni0 mtu 1400"), "~ bridge cni0: mtu 1400 -> 1500"},
		{"bridge mac", false, cmd("ip link set cni0 address 02:00:00:00:00:99"), "~ bridge cni0: mac 02:00:00:00:00:99 -> 02:00:00:00:00:01"},
		{"bridge down", false, cmd("ip link set cni0 down"), "state down -> up"},
		{"bridge promiscuous", false, cmd("ip link set cni0 promisc on"), "promiscuous on -> off"},
		{"bridge snooping", false, cmd("ip link set cni0 type bridge mcast_snooping 1"), "multicast-snooping on -> off"},
		{"bridge group forwarding", false, cmd("ip link set cni0 type bridge group_fwd_mask 8"), "group-forward-mask 0x8 -> 0x0"},
		{"bridge ageing", false, cmd("ip link set cni0 type bridge ageing_time 100"), "ageing 1s -> 5m0s"},
		{"bridge netfilter", false, cmd("ip link set cni0 type bridge nf_call_iptables 1 nf_call_ip6tables 1"), "call-iptables on -> off"},
		{"bridge sysctl", false, cmd("sysctl -qw net.ipv4.conf.cni0.rp_filter=0"), "~ bridge cni0 sysctl net.ipv4.conf.IFNAME.rp_filter: 0 -> 2"},
		{"bridge dad", false, cmd("sysctl -qw net.ipv6.conf.cni0.accept_dad=1"), "dad on -> off"},
		{"gateway v4 gone", false, cmd("ip addr del 10.1.0.1/24 dev cni0"), "+ bridge cni0 address 10.1.0.1/24"},
		{"gateway v6 gone", false, cmd("ip addr del fd01::1/64 dev cni0"), "+ bridge cni0 address fd01::1/64"},
		{"gateway prefix length", false, cmd("sh -c|ip addr del fd01::1/64 dev cni0; ip addr add fd01::1/80 dev cni0 nodad"), "- bridge cni0 address fd01::1/80"},
		{"gateway added", false, cmd("ip addr add 10.77.0.1/24 dev cni0"), "- bridge cni0 address 10.77.0.1/24"},
		{"bridge route gone", false, cmd("ip route del 10.9.0.0/16"), "+ bridge cni0 route 10.9.0.0/16 via 10.1.0.200"},
		{"bridge route changed", false, cmd("ip route replace 10.9.0.0/16 via 10.1.0.202 dev cni0"), "via 10.1.0.202 -> via 10.1.0.200"},
		{"bridge gone", false, cmd("ip link del cni0"), "+ bridge cni0"},
		{"port off the bridge", false, cmd("ip link set pod1 nomaster"), "bridge none -> cni0"},
		{"port hairpin", false, cmd("bridge link set dev pod1 hairpin off"), "hairpin off -> on"},
		{"port isolation", false, cmd("bridge link set dev pod1 isolated on"), "isolated on -> off"},
		{"host mtu", false, cmd("ip link set pod1 mtu 1300"), "~ pair pod1 host: mtu 1300 -> 1500"},
		{"host mac", false, cmd("ip link set pod1 address 02:00:00:00:00:98"), "~ pair pod1 host: mac"},
		{"host down", false, cmd("ip link set pod1 down"), "~ pair pod1 host: state down -> up"},
		{"host group", false, cmd("ip link set pod1 group 9"), "group 9 -> 7"},
		{"host sysctl", false, cmd("sysctl -qw net.ipv4.conf.pod1.rp_filter=0"), "~ pair pod1 host sysctl net.ipv4.conf.IFNAME.rp_filter: 0 -> 2"},
		{"pair gone", false, cmd("ip link del pod1"), "+ pair pod1: eth0 in"},
		{"pod mtu", true, cmd("ip link set eth0 mtu 1300"), "~ pair pod1 pod: mtu 1300 -> 1500"},
		{"pod mac", true, cmd("ip link set eth0 address 02:00:00:00:00:97"), "~ pair pod1 pod: mac"},
		{"pod down", true, cmd("ip link set eth0 down"), "~ pair pod1 pod: state down -> up"},
		{"pod address v4", true, cmd("ip addr del 10.1.0.11/24 dev eth0"), "+ pair pod1 pod address 10.1.0.11/24"},
		{"pod address v6", true, cmd("ip addr del fd01::11/64 dev eth0"), "+ pair pod1 pod address fd01::11/64"},
		{"pod addresses flushed", true, cmd("ip addr flush dev eth0"), "+ pair pod1 pod address"},
		{"gateway subnet v4", false, cmd("ip route del 10.1.0.0/24 dev cni0"), "+ bridge cni0 address 10.1.0.1/24"},
		{"gateway subnet v6", false, cmd("ip -6 route del fd01::/64 dev cni0"), "+ bridge cni0 address fd01::1/64"},
		{"pod subnet v4", true, cmd("ip route del 10.1.0.0/24 dev eth0"), "+ pair pod1 pod address 10.1.0.11/24"},
		{"pod subnet v6", true, cmd("ip -6 route del fd01::/64 dev eth0"), "+ pair pod1 pod address fd01::11/64"},
		{"pod routes flushed v4", true, cmd("ip route flush dev eth0"), "+ pair pod1 pod route default via 10.1.0.1"},
		{"pod routes flushed v6", true, cmd("ip -6 route flush dev eth0"), "+ pair pod1 pod route default6 via fd01::1"},
		{"pod default route v4", true, cmd("ip route del default"), "+ pair pod1 pod route default via 10.1.0.1"},
		{"pod default route v6", true, cmd("ip -6 route del default"), "+ pair pod1 pod route default6 via fd01::1"},
		{"pod route elsewhere", true, cmd("ip route replace default via 10.1.0.77"), "~ pair pod1 pod route default: via 10.1.0.77 -> via 10.1.0.1"},
		{"pod route mtu", true, cmd("ip route change 10.8.0.0/16 via 10.1.0.201 metric 5 src 10.1.0.11 proto 112 mtu 1200"), "mtu 1200 -> via 10.1.0.201 src 10.1.0.11 mtu 1400"},
		{"pod sysctl", true, cmd("sysctl -qw net.ipv4.conf.eth0.arp_filter=0"), "~ pair pod1 pod sysctl net.ipv4.conf.IFNAME.arp_filter: 0 -> 1"},
		{"pod namespace sysctl", true, cmd("sysctl -qw net.core.somaxconn=99"), "~ pair pod1 pod sysctl net.core.somaxconn: 99 -> 1234"},
		{"pod dad", true, cmd("sysctl -qw net.ipv6.conf.eth0.accept_dad=1"), "~ pair pod1 pod: dad on -> off"},
		{"pod IPv6 off", true, cmd("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1"), "+ pair pod1 pod address fd01::11/64"},
		{"pod link renamed", true, cmd("sh -c|ip link set eth0 down && ip link set eth0 name eth9"), "+ pair pod1: eth0 in"},
	}, func(t *testing.T) {
		flows(t, a, want.Pairs[0].Pod.Addresses, n.ns, gateways)
		flows(t, b, want.Pairs[1].Pod.Addresses, a, want.Pairs[0].Pod.Addresses)
	})
}

// TestKernelDamageRouted does the same for a pair that is routed point to point.
func TestKernelDamageRouted(t *testing.T) {
	n := newNode(t, veth.Config{Announce: true})
	nstest.Forward(t, n.ns)
	a, b := nstest.New(t), nstest.New(t)
	want := veth.State{Pairs: []veth.Pair{routed(1, a), routed(2, b)}}
	h := &want.Pairs[0].Host
	h.ProxyARP = true
	h.Proxy = []netip.Addr{addr("fd99::1"), addr("198.51.100.1")}
	h.Routes = []veth.Route{{To: prefixes("10.99.0.0/24")[0], Via: addr("10.2.0.11")}}
	n.sync(want)

	n.repairs(want, a, []damage{
		{"pod route v4", false, cmd("ip route del 10.2.0.11"), "+ pair ptp1 host route 10.2.0.11/32"},
		{"pod route v6", false, cmd("ip route del fd02::11"), "+ pair ptp1 host route fd02::11/128"},
		{"pod route with a source", false, cmd("ip route replace 10.2.0.11 dev ptp1 src 169.254.1.1"), "~ pair ptp1 host route 10.2.0.11/32"},
		{"more route", false, cmd("ip route del 10.99.0.0/24"), "+ pair ptp1 host route 10.99.0.0/24 via 10.2.0.11"},
		{"gateway address v4", false, cmd("ip addr del 169.254.1.1/32 dev ptp1"), "+ pair ptp1 host address 169.254.1.1/32"},
		{"gateway address v6", false, cmd("ip addr del fe80::1/64 dev ptp1"), "+ pair ptp1 host address fe80::1/64"},
		{"proxy ARP", false, cmd("sysctl -qw net.ipv4.conf.ptp1.proxy_arp=0"), "proxy-arp off -> on"},
		{"proxy ARP slow", false, cmd("sysctl -qw net.ipv4.neigh.ptp1.proxy_delay=80"), "proxy-arp off -> on"},
		{"proxy NDP", false, cmd("sysctl -qw net.ipv6.conf.ptp1.proxy_ndp=0"), "+ pair ptp1 host proxy fd99::1"},
		{"proxy NDP slow", false, cmd("sysctl -qw net.ipv6.neigh.ptp1.proxy_delay=80"), "+ pair ptp1 host proxy fd99::1"},
		{"proxy entry v4", false, cmd("ip neigh del proxy 198.51.100.1 dev ptp1"), "+ pair ptp1 host proxy 198.51.100.1"},
		{"proxy entry v6", false, cmd("ip neigh del proxy fd99::1 dev ptp1"), "+ pair ptp1 host proxy fd99::1"},
		{"host down", false, cmd("ip link set ptp1 down"), "~ pair ptp1 host: state down -> up"},
		{"host dad", false, cmd("sysctl -qw net.ipv6.conf.ptp1.accept_dad=1"), "dad on -> off"},
		{"pod gateway route", true, cmd("ip route replace default via 169.254.1.1 dev eth0 onlink metric 0 mtu 1400"), "~ pair ptp1 pod route default"},
		{"pod down", true, cmd("ip link set eth0 down"), "~ pair ptp1 pod: state down -> up"},
	}, func(t *testing.T) {
		flows(t, a, want.Pairs[0].Pod.Addresses, b, want.Pairs[1].Pod.Addresses)
	})

	t.Run("on a bridge", func(t *testing.T) {
		nstest.AddBridge(t, n.ns, "other0", "ptp1")
		n.repaired(t, want, "bridge other0 -> none", func(t *testing.T) {
			flows(t, a, want.Pairs[0].Pod.Addresses, b, want.Pairs[1].Pod.Addresses)
		})
	})
}

func (n *node) repairs(want veth.State, pod *netns.NS, table []damage, works func(t *testing.T)) {
	for _, d := range table {
		n.t.(*testing.T).Run(d.name, func(t *testing.T) {
			ns := n.ns
			if d.inPod {
				ns = pod
			}
			nstest.Run(t, ns, d.run[0], d.run[1:]...)
			n.repaired(t, want, d.notice, works)
		})
	}
}

// repaired checks that the damage is noticed, that Plan changes nothing, and that one Sync repairs all of it.
func (n *node) repaired(t *testing.T, want veth.State, notice string, works func(t *testing.T)) {
	t.Helper()
	p, err := n.client.Plan(n.ctx, want)
	require.NoError(t, err)
	require.False(t, p.Empty(), "not noticed")
	require.Contains(t, p.String(), notice)
	again, err := n.client.Plan(n.ctx, want)
	require.NoError(t, err)
	require.Equal(t, p.String(), again.String())
	first, err := n.client.Sync(n.ctx, want)
	require.NoError(t, err)
	require.Equal(t, p.String(), first.String())
	sub := *n
	sub.t = t
	sub.settled(want)
	works(t)
}

// cmd splits a command line at spaces; what follows a | is one argument.
func cmd(line string) []string {
	words, last, found := strings.Cut(line, "|")
	args := strings.Fields(words)
	if found {
		args = append(args, last)
	}
	return args
}
