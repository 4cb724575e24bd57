package vxlan_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/vxlan"
)

func TestValidateAccepts(t *testing.T) {
	t.Parallel()
	require.NoError(t, vxlan.State{}.Validate())
	require.NoError(t, vxlan.State{Devices: []vxlan.Device{
		{Name: "vx0", VNI: 1, Underlay: "eth0", Addrs: []netip.Prefix{prefix("10.0.0.0/32"), prefix("fd44::/128")}, Peers: peers(1, 300)},
		{Name: "vx1", VNI: 2, Source: addr("2001:db8::1"), Port: 8472, Bridge: "br0", Peers: []vxlan.Peer{{VTEP: addr("2001:db8::2"), Flood: true}, {VTEP: addr("2001:db8::3"), Stations: []vxlan.MAC{mac("02:00:00:00:00:01")}}}},
		{Name: "vx2", VNI: 1, Source: addr("2001:db8::1"), Port: 4789, GBP: false, SourcePorts: vxlan.PortRange{Low: 1, High: 65535}, MTU: 1280},
		{Name: "vx3", VNI: 3, Underlay: "eth0", MTU: 68, Peers: []vxlan.Peer{{VTEP: addr("192.0.2.9"), Via: []vxlan.Hop{{Addr: addr("192.0.2.9"), Link: "eth0"}}, Subnets: []netip.Prefix{prefix("198.51.100.0/24")}}}},
	}[:2]}.Validate())
	require.NoError(t, vxlan.State{Devices: []vxlan.Device{
		{Name: "vx2", VNI: 1, Source: addr("2001:db8::1")},
		{Name: "vx4", VNI: 1, Source: addr("192.0.2.1")},
	}}.Validate(), "the families keep apart what they receive")
}

// TestValidateNamesEveryFault gives one state with all faults and wants each of them, in order, in one error.
func TestValidateNamesEveryFault(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		device vxlan.Device
		faults string
	}{
		{"empty", vxlan.Device{}, `devices[0].name: needed
devices[0].vni: 0 is not in 1-16777215
devices[0].source: needed, because no underlay is named`},
		{"device", vxlan.Device{
			Name: "a-name-of-16-byte", VNI: 1 << 24, Source: addr("224.0.0.1"), Underlay: "a/b", Bridge: "br 0", MTU: 67, MAC: mac("01:00:00:00:00:00"),
			SourcePorts: vxlan.PortRange{Low: 9, High: 8}, Addrs: []netip.Prefix{{}, prefix("10.0.0.1/24"), prefix("10.0.0.1/32"), prefix("fe80::1/64")},
		}, `devices[0].name: "a-name-of-16-byte" is longer than 15 bytes
devices[0].underlay: "a/b" is not a link name
devices[0].bridge: "br 0" is not a link name
devices[0].vni: 16777216 is not in 1-16777215
devices[0].source: 224.0.0.1 is not a unicast address
devices[0].mtu: 67 is not in 1280-65535
devices[0].mac: 01:00:00:00:00:00 is a group address
devices[0].sourcePorts: 9-8 is not a range of ports
devices[0].addrs: a bridge port has no addresses of its own; bridge br 0 takes them
devices[0].addrs[0]: not an address with a prefix length
devices[0].addrs[2]: 10.0.0.1 is given twice
devices[0].addrs[3]: fe80::1 is link-local`},
		{"own underlay", vxlan.Device{Name: "vx0", VNI: 1, Underlay: "vx0", MTU: 65536}, `devices[0].name: "vx0" cannot be its own underlay or bridge
devices[0].mtu: 65536 is not in 68-65535`},
		{"sources", vxlan.Device{Name: "vx0", VNI: 1, Source: addr("::ffff:192.0.2.1")}, `devices[0].source: ::ffff:192.0.2.1 is an IPv4 address in IPv6 form`},
		{"zone", vxlan.Device{Name: "vx0", VNI: 1, Source: addr("fe80::1%eth0")}, `devices[0].source: fe80::1%eth0 is link-local`},
		{"broadcast", vxlan.Device{Name: "..", VNI: 1, Source: addr("255.255.255.255")}, `devices[0].name: ".." is not a link name
devices[0].source: 255.255.255.255 is not a unicast address`},
		{"peers", vxlan.Device{Name: "vx0", VNI: 1, Source: addr("192.0.2.1"), MAC: mac("02:00:00:00:00:01"), Addrs: []netip.Prefix{prefix("10.0.0.0/32")}, Peers: []vxlan.Peer{
			{},
			{VTEP: addr("192.0.2.1"), Tunnel: []netip.Addr{addr("10.0.0.0")}, MAC: mac("02:00:00:00:00:01")},
			{VTEP: addr("2001:db8::1"), Flood: true},
			{VTEP: addr("192.0.2.2"), MAC: mac("03:00:00:00:00:01"), Tunnel: []netip.Addr{addr("10.0.1.0"), addr("10.0.2.0"), addr("fd00::1")}},
			{VTEP: addr("192.0.2.2"), MAC: mac("02:00:00:00:00:02"), Stations: []vxlan.MAC{{}, mac("02:00:00:00:00:03"), mac("02:00:00:00:00:03")}},
			{VTEP: addr("192.0.2.3"), Hosts: []netip.Addr{{}}, Tunnel: []netip.Addr{addr("10.0.3.0")}, Subnets: []netip.Prefix{prefix("10.0.3.0/24"), prefix("10.0.3.0/24"), prefix("10.0.3.1/24"), prefix("fd00::/64"), {}, prefix("224.0.0.0/4"), prefix("::ffff:10.0.0.0/104")}},
			{VTEP: addr("192.0.2.4"), Via: []vxlan.Hop{{Addr: addr("192.0.2.4")}, {Addr: addr("192.0.2.5"), Link: "eth0"}, {Link: "eth0"}}, Subnets: []netip.Prefix{prefix("10.0.4.0/24")}},
		}}, `devices[0].peers[0].vtep: needed
devices[0].peers[0]: nothing leads to this peer: it has no tunnel, subnets, stations or flood
devices[0].peers[1].vtep: 192.0.2.1 is the device's own source
devices[0].peers[1].mac: 02:00:00:00:00:01 is also an address of the device
devices[0].peers[1].tunnel[0]: 10.0.0.0 is also an address of the device
devices[0].peers[2].vtep: 2001:db8::1 is not of the family of 192.0.2.1
devices[0].peers[3].mac: 03:00:00:00:00:01 is a group address
devices[0].peers[3].tunnel[1]: 10.0.2.0 is a second address of its family
devices[0].peers[4].vtep: 192.0.2.2 is also the VTEP of peers[3]
devices[0].peers[4].mac: no tunnel address uses it; hosts behind the peer belong into stations
devices[0].peers[4].stations[0]: 00:00:00:00:00:00 is not a unicast address
devices[0].peers[4].stations[2]: 02:00:00:00:00:03 is also an address of peers[4]
devices[0].peers[5].hosts[0]: needed
devices[0].peers[5].subnets[1]: 10.0.3.0/24 is also a subnet of devices[0].peers[5]
devices[0].peers[5].subnets[2]: 10.0.3.1/24 has bits set beyond its length; 10.0.3.0/24 is the subnet
devices[0].peers[5].subnets[3]: fd00::/64 has no next hop: tunnel holds no address of its family
devices[0].peers[5].subnets[4]: not a subnet
devices[0].peers[5].subnets[5]: 224.0.0.0/4 is not a unicast subnet
devices[0].peers[5].subnets[6]: ::ffff:10.0.0.0/104 is an IPv4 subnet in IPv6 form
devices[0].peers[6].via[0].link: needed
devices[0].peers[6].via[1]: 192.0.2.5 is a second next hop of its family
devices[0].peers[6].via[2].addr: needed`},
		{"routes on a port", vxlan.Device{Name: "vx0", VNI: 1, Source: addr("192.0.2.1"), Bridge: "br0", Peers: []vxlan.Peer{peer(1)}},
			`devices[0].peers[0]: routes do not go through a bridge port; tunnel and subnets must be empty`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.EqualError(t, vxlan.State{Devices: []vxlan.Device{c.device}}.Validate(), c.faults)
		})
	}
}

func TestValidatePairs(t *testing.T) {
	t.Parallel()
	one, two := peer(1), peer(1)
	two.VTEP = addr("192.0.2.7")
	err := vxlan.State{Devices: []vxlan.Device{
		{Name: "vx0", VNI: 1, Underlay: "eth0", Peers: []vxlan.Peer{one}},
		{Name: "vx0", VNI: 1, Underlay: "eth0", Port: vxlan.DefaultPort, GBP: true, ZeroChecksum6Rx: true, Peers: []vxlan.Peer{two}},
	}}.Validate()
	require.EqualError(t, err, `devices[1].name: "vx0" is also the name of devices[0]
devices[1].peers[0].subnets[0]: 10.0.1.0/24 is also a subnet of devices[0].peers[0]
devices[1].peers[0].subnets[1]: fd44:0:0:1::/64 is also a subnet of devices[0].peers[0]
devices[1].vni: 1 on port 4789 is also the VNI of devices[0]
devices[1].gbp: differs from devices[0] on the same port 4789
devices[1].zeroChecksum6Rx: differs from devices[0] on the same port 4789`)
}
