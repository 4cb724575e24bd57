package veth_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/veth"
)

// valid is a state that uses most fields; tests break one thing in it.
func valid() veth.State {
	pod := func(i int, path string) veth.Pod {
		return veth.Pod{
			NetNS: path, Name: "eth0",
			Addresses: prefixes(fmt.Sprintf("10.1.0.%d/24", 10+i), fmt.Sprintf("fd01::%d/64", 10+i)),
			Routes:    []veth.Route{veth.DefaultVia(addr("10.1.0.1")), veth.DefaultVia(addr("fd01::1"))},
		}
	}
	v4, v6 := veth.DefaultVia(addr("169.254.1.1")), veth.DefaultVia(addr("fe80::1"))
	v4.OnLink = true
	return veth.State{
		Bridges: []veth.Bridge{{Name: "cni0", Addresses: prefixes("10.1.0.1/24", "fd01::1/64"), VLANFiltering: true}, {Name: "flat0"}},
		Pairs: []veth.Pair{
			{Host: veth.Host{Name: "web0", Bridge: "cni0"}, Pod: pod(0, "/run/netns/web")},
			{Host: veth.Host{Name: "db0", Bridge: "flat0"}, Pod: pod(1, "/run/netns/db")},
			{
				Host: veth.Host{Name: "ptp0", Addresses: prefixes("169.254.1.1/32", "fe80::1/64"), Proxy: []netip.Addr{addr("fd99::1")}},
				Pod:  veth.Pod{NetNS: "/proc/42/ns/net", Name: "eth0", Addresses: prefixes("10.2.0.9/32", "fd02::9/128"), Routes: []veth.Route{v4, v6}},
			},
		},
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, veth.State{}.Validate())
	require.NoError(t, valid().Validate())
	require.NoError(t, valid().Canonical().Validate())

	type change = func(s *veth.State)
	route := func(r veth.Route) change { return func(s *veth.State) { s.Pairs[0].Pod.Routes = []veth.Route{r} } }
	to := func(s string) netip.Prefix { return netip.MustParsePrefix(s) }
	sysctls := func(k, v string) change {
		return func(s *veth.State) { s.Pairs[0].Pod.Sysctls = map[string]string{k: v} }
	}
	for _, c := range []struct {
		name   string
		change change
		want   string
	}{
		{"no name", func(s *veth.State) { s.Bridges[0].Name = "" }, "bridges[0].name: is empty"},
		{"long name", func(s *veth.State) { s.Pairs[2].Host.Name = "abcdefghijklmnop" }, `pairs[2].host.name: "abcdefghijklmnop" has 16 bytes, a link name has at most 15 (IFNAMSIZ)`},
		{"slash", func(s *veth.State) { s.Pairs[0].Pod.Name = "a/b" }, `pairs[0].pod.name: "a/b" is no link name`},
		{"pattern", func(s *veth.State) { s.Pairs[0].Host.Name = "eth%d" }, `pairs[0].host.name: "eth%d" is no link name`},
		{"reserved", func(s *veth.State) { s.Pairs[0].Pod.Name = "lo" }, `pairs[0].pod.name: "lo" is reserved`},
		{"same name", func(s *veth.State) { s.Pairs[1].Host.Name = "cni0" }, `pairs[1].host.name: "cni0" is also the name of bridges[0].name`},
		{"same pod name", func(s *veth.State) { s.Pairs[1].Pod.NetNS = "/run//netns/web" }, `pairs[1].pod.name: "eth0" in /run//netns/web is also the name of pairs[0].pod`},
		{"no namespace", func(s *veth.State) { s.Pairs[0].Pod.NetNS = "" }, "pairs[0].pod.netns: is empty"},
		{"relative namespace", func(s *veth.State) { s.Pairs[0].Pod.NetNS = "web" }, `pairs[0].pod.netns: "web" is not an absolute path`},
		{"newline in path", func(s *veth.State) { s.Pairs[0].Pod.NetNS = "/a\nb" }, "has control characters"},
		{"multicast MAC", func(s *veth.State) { s.Pairs[0].Pod.MAC = veth.MAC{1} }, "pairs[0].pod.mac: 01:00:00:00:00:00 is a multicast address"},
		{"same MAC", func(s *veth.State) { s.Bridges[0].MAC, s.Pairs[0].Pod.MAC = veth.MAC{2}, veth.MAC{2} }, "pairs[0].pod.mac: 02:00:00:00:00:00 is also that of bridges[0].mac"},
		{"small MTU", func(s *veth.State) { s.Bridges[1].MTU = 67 }, "bridges[1].mtu: 67 is outside 68 to 65535"},
		{"IPv6 MTU", func(s *veth.State) { s.Pairs[0].Host.MTU = 1279 }, "pairs[0].host.mtu: 1279 is below 1280, the least that IPv6 needs (RFC 8200)"},
		{"two MTUs", func(s *veth.State) { s.Pairs[0].Host.MTU, s.Pairs[0].Pod.MTU = 1400, 1500 }, "pairs[0].pod.mtu: 1500 differs from the node end's 1400"},
		{"zero address", func(s *veth.State) { s.Pairs[0].Pod.Addresses[0] = netip.Prefix{} }, "pairs[0].pod.addresses[0]: is no address with a prefix length"},
		{"mapped address", func(s *veth.State) { s.Bridges[0].Addresses = prefixes("::ffff:10.1.0.1/120") }, "bridges[0].addresses[0]: ::ffff:10.1.0.1/120 is an IPv4 address written as IPv6: use 10.1.0.1"},
		{"multicast address", func(s *veth.State) { s.Bridges[0].Addresses = prefixes("ff02::1/64") }, "ff02::1/64 cannot be the address of a link"},
		{"subnet", func(s *veth.State) { s.Bridges[0].Addresses = prefixes("10.1.0.0/24") }, "bridges[0].addresses[0]: 10.1.0.0/24 is the subnet itself, not an address in it"},
		{"anycast", func(s *veth.State) { s.Bridges[0].Addresses = prefixes("fd01::/64") }, "fd01::/64 is the subnet itself"},
		{"broadcast", func(s *veth.State) { s.Bridges[0].Addresses = prefixes("10.1.0.255/24") }, "10.1.0.255/24 is the broadcast address of its subnet"},
		{"twice on a link", func(s *veth.State) { s.Bridges[0].Addresses = prefixes("10.1.0.1/24", "10.1.0.1/16") }, "bridges[0].addresses[1]: 10.1.0.1 is also that of bridges[0].addresses[0]"},
		{"pod has gateway's", func(s *veth.State) { s.Pairs[0].Pod.Addresses[0] = to("10.1.0.1/24") }, "pairs[0].pod.addresses[0]: 10.1.0.1 is also that of bridges[0].addresses[0]"},
		{"two pods", func(s *veth.State) {
			s.Pairs[1].Host.Bridge, s.Pairs[1].Pod.Addresses = "cni0", prefixes("fd01::10/64")
		}, "pairs[1].pod.addresses[0]: fd01::10 is also that of pairs[0].pod.addresses[1]"},
		{"routed pair's own", func(s *veth.State) { s.Pairs[2].Host.Addresses = prefixes("10.2.0.9/32") }, "pairs[2].host.addresses[0]: 10.2.0.9 is also the pod's"},
		{"gateway outside", route(veth.DefaultVia(addr("10.3.0.1"))), "pairs[0].pod.routes[0].via: 10.3.0.1 is outside every subnet of the link (list a route to it, or set onlink)"},
		{"gateway outside v6", route(veth.DefaultVia(addr("fd03::1"))), "pairs[0].pod.routes[0].via: fd03::1 is outside"},
		{"gateway is own", route(veth.DefaultVia(addr("10.1.0.10"))), "pairs[0].pod.routes[0].via: 10.1.0.10 is the link's own address"},
		{"gateway of other family", route(veth.Route{To: to("::/0"), Via: addr("10.1.0.1")}), "via: 10.1.0.1 is of another family than ::/0"},
		{"gateway with zone", route(veth.DefaultVia(addr("fe80::1%eth0"))), "via: fe80::1%eth0 is not a unicast address without zone"},
		{"onlink alone", route(veth.Route{To: to("10.9.0.0/16"), OnLink: true}), "routes[0].onlink: needs a gateway"},
		{"no destination", route(veth.Route{Via: addr("10.1.0.1")}), "pairs[0].pod.routes[0].to: invalid Prefix is no unicast destination"},
		{"host bits", route(veth.Route{To: to("10.9.1.0/16")}), "routes[0].to: 10.9.1.0/16 has bits set beyond its prefix length: use 10.9.0.0/16"},
		{"same route", func(s *veth.State) {
			s.Pairs[0].Pod.Routes = append(s.Pairs[0].Pod.Routes, veth.Route{To: to("::/0"), Via: addr("fd01::2"), Metric: 1024})
		}, "pairs[0].pod.routes[2]: has the destination and metric of routes[1]"},
		{"foreign source", route(veth.Route{To: to("10.9.0.0/16"), Source: addr("10.1.0.77")}), "routes[0].source: 10.1.0.77 is not an address of the link"},
		{"source of other family", route(veth.Route{To: to("10.9.0.0/16"), Source: addr("fd01::10")}), "routes[0].source: fd01::10 cannot be the source"},
		{"scope of IPv6", route(veth.Route{To: to("fd09::/64"), Scope: veth.ScopeLink}), "routes[0].scope: link: IPv6 routes have no scope"},
		{"scope too narrow", route(veth.Route{To: to("10.9.0.0/16"), Via: addr("10.1.0.1"), Scope: veth.ScopeLink}), "routes[0].scope: link is narrower"},
		{"unknown scope", route(veth.Route{To: to("10.9.0.0/16"), Scope: 9}), "routes[0].scope: scope(9) is unknown"},
		{"route MTU", route(veth.Route{To: to("fd09::/64"), MTU: 1000}), "routes[0].mtu: 1000 is not possible for fd09::/64"},
		{"routes on a link that is down", func(s *veth.State) { s.Pairs[0].Pod.Down = true }, "pairs[0].pod.routes: a link that is down has none"},
		{"address on a port", func(s *veth.State) { s.Pairs[0].Host.Addresses = prefixes("10.5.0.1/24") }, "pairs[0].host.addresses: a bridge port has none: put them on the bridge"},
		{"route on a port", func(s *veth.State) { s.Pairs[0].Host.Routes = []veth.Route{{To: to("10.5.0.0/24")}} }, "pairs[0].host.routes: a bridge port has none"},
		{"proxy on a port", func(s *veth.State) { s.Pairs[0].Host.ProxyARP = true }, "pairs[0].host.proxy: a bridge port answers for nobody"},
		{"unrouted on a port", func(s *veth.State) { s.Pairs[0].Host.Unrouted = []netip.Addr{addr("10.1.0.10")} }, "pairs[0].host.unrouted: a bridge port has no routes to its pod"},
		{"unrouted stranger", func(s *veth.State) { s.Pairs[2].Host.Unrouted = []netip.Addr{addr("10.1.0.10")} }, "pairs[2].host.unrouted[0]: 10.1.0.10 is not an address of the pod"},
		{"port without bridge", func(s *veth.State) { s.Pairs[2].Host.Port.Hairpin = true }, "pairs[2].host.port: needs a bridge"},
		{"bridge is a pair", func(s *veth.State) { s.Pairs[1].Host.Bridge = "web0" }, `pairs[1].host.bridge: "web0" is no bridge`},
		{"proxy twice", func(s *veth.State) { s.Pairs[2].Host.Proxy = []netip.Addr{addr("fd99::1"), addr("fd99::1")} }, "pairs[2].host.proxy[1]: fd99::1 is listed twice"},
		{"proxy for all", func(s *veth.State) { s.Pairs[2].Host.Proxy = []netip.Addr{addr("0.0.0.0")} }, "pairs[2].host.proxy[0]: 0.0.0.0 is not a unicast address"},
		{"VLANs without filtering", func(s *veth.State) { s.Pairs[1].Host.Port.VLANs.Access = 10 }, "pairs[1].host.port.vlans: needs vlanFiltering on bridge flat0"},
		{"bridge VLANs without filtering", func(s *veth.State) { s.Bridges[1].VLANs.Access = 10 }, "bridges[1].vlans: needs vlanFiltering"},
		{"VLAN id", func(s *veth.State) { s.Pairs[0].Host.Port.VLANs.Access = 4095 }, "pairs[0].host.port.vlans.access: 4095 is outside 1 to 4094"},
		{"VLAN range", func(s *veth.State) { s.Pairs[0].Host.Port.VLANs.Trunks = []veth.VLANRange{{First: 20, Last: 10}} }, "vlans.trunks[0]: 20-10 is no range within 1 to 4094"},
		{"VLAN overlap", func(s *veth.State) {
			s.Pairs[0].Host.Port.VLANs.Trunks = []veth.VLANRange{{First: 10, Last: 20}, {First: 20, Last: 30}}
		}, "vlans.trunks[1]: 20-30 overlaps 10-20"},
		{"access in trunk", func(s *veth.State) {
			s.Pairs[0].Host.Port.VLANs = veth.VLANs{Access: 15, Trunks: []veth.VLANRange{{First: 10, Last: 20}}}
		}, "vlans.trunks[0]: 10-20 includes the access VLAN 15"},
		{"none and some", func(s *veth.State) { s.Pairs[0].Host.Port.VLANs = veth.VLANs{None: true, Access: 1} }, "vlans.none: excludes access and trunks"},
		{"ageing", func(s *veth.State) { s.Bridges[0].Ageing = time.Millisecond }, "bridges[0].ageing: 1ms is not a multiple of 10ms up to 720h0m0s"},
		{"forwarding of STP", func(s *veth.State) { s.Bridges[0].GroupForwardMask = 1 }, "bridges[0].groupForwardMask: 0x1 has bits 0 to 2"},
		{"sysctl elsewhere", sysctls("kernel.panic", "1"), `pairs[0].pod.sysctls["kernel.panic"]: is not the name of a sysctl below net`},
		{"sysctl climbs", sysctls("net/../kernel/panic", "1"), "is not the name of a sysctl below net"},
		{"sysctl of a field", sysctls("net/ipv6/conf/IFNAME/accept_dad", "1"), "is set by the field dad"},
		{"sysctl with spaces", sysctls("net.ipv4.a b", "1"), "has characters that no sysctl has"},
		{"sysctl without value", sysctls("net.ipv4.ip_forward", " "), `" " is no value`},
		{"sysctl twice", func(s *veth.State) {
			s.Pairs[0].Pod.Sysctls = map[string]string{"net.ipv4.ip_forward": "1", "net/ipv4/ip_forward": "0"}
		}, `pairs[0].pod.sysctls["net/ipv4/ip_forward"]: is "net.ipv4.ip_forward" written another way`},
		{"sysctl of the node", func(s *veth.State) { s.Bridges[0].Sysctls = map[string]string{"net.ipv4.ip_forward": "1"} }, "is the whole node's: only names with IFNAME are the link's"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := valid()
			c.change(&s)
			err := s.Validate()
			require.ErrorContains(t, err, c.want)
			require.ErrorIs(t, err, fs.ErrInvalid)
			var field *veth.FieldError
			require.ErrorAs(t, err, &field)
		})
	}
}

// TestValidateAll: every fault is named at once.
func TestValidateAll(t *testing.T) {
	t.Parallel()
	s := valid()
	s.Bridges[0].MTU, s.Bridges[1].Name = 1, "a b"
	s.Pairs[0].Pod.NetNS, s.Pairs[2].Pod.Name = "", "."
	err := s.Validate()
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 4, err)
	for _, want := range []string{"bridges[0].mtu: ", "bridges[1].name: ", "pairs[0].pod.netns: ", "pairs[2].pod.name: "} {
		require.Contains(t, err.Error(), want)
	}
	var joined interface{ Unwrap() []error }
	require.True(t, errors.As(err, &joined))
}

func TestNames(t *testing.T) {
	t.Parallel()
	m, err := veth.ParseMAC("02:00:5e:10:00:ff")
	require.NoError(t, err)
	require.Equal(t, veth.MAC{2, 0, 0x5e, 0x10, 0, 0xff}, m)
	for _, bad := range []string{"", "02:00", "00:00:00:00:fe:80:00:00:00:00:00:00:02:00:5e:10:00:00:00:01", "zz:00:5e:10:00:ff"} {
		_, err := veth.ParseMAC(bad)
		require.ErrorContains(t, err, "not an EUI-48 address")
	}
	var back veth.MAC
	b, err := m.MarshalText()
	require.NoError(t, err)
	require.NoError(t, back.UnmarshalText(b))
	require.Equal(t, m, back)
	require.NoError(t, back.UnmarshalText(nil))
	require.Zero(t, back)
	for s, name := range map[veth.Scope]string{veth.ScopeAuto: "auto", veth.ScopeGlobal: "global", veth.ScopeSite: "site", veth.ScopeLink: "link", veth.ScopeHost: "host"} {
		var back veth.Scope
		require.Equal(t, name, s.String())
		require.NoError(t, back.UnmarshalText([]byte(name)))
		require.Equal(t, s, back)
	}
	require.Error(t, new(veth.Scope).UnmarshalText([]byte("world")))
	require.Equal(t, "10", veth.VLANRange{First: 10, Last: 10}.String())
	require.Equal(t, "10-12", veth.VLANRange{First: 10, Last: 12}.String())
}
