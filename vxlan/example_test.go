package vxlan_test

import (
	"fmt"
	"net/netip"

	"github.com/podplumb/podplumb/vxlan"
)

// A node's overlay with two peers, printed as the plan that makes it.
func ExampleDiff() {
	node := func(n byte) vxlan.Peer {
		tunnel := netip.AddrFrom4([4]byte{10, 244, n, 0})
		return vxlan.Peer{
			VTEP:    netip.AddrFrom4([4]byte{192, 168, 50, 10 + n}),
			Tunnel:  []netip.Addr{tunnel},
			Subnets: []netip.Prefix{netip.PrefixFrom(tunnel, 24)},
		}
	}
	have := vxlan.State{Devices: []vxlan.Device{{
		Name:   "vxlan0",
		VNI:    42,
		Source: netip.MustParseAddr("192.168.50.10"),
		Addrs:  []netip.Prefix{netip.MustParsePrefix("10.244.0.0/32")},
		Peers:  []vxlan.Peer{node(1)},
	}}}
	want := have
	want.Devices = []vxlan.Device{have.Devices[0]}
	want.Devices[0].Peers = []vxlan.Peer{node(1), node(2)}

	fmt.Println("from nothing:")
	fmt.Print(vxlan.Diff(vxlan.State{}, have))
	fmt.Println("one peer more:")
	fmt.Print(vxlan.Diff(have, want))
	// Output:
	// from nothing:
	// + device vxlan0: vni 42 port 4789 source 192.168.50.10
	// + address 10.244.0.0 dev vxlan0: /32
	// + fdb 66:65:29:d2:b0:c1 dev vxlan0: dst 192.168.50.11
	// + neighbour 10.244.1.0 dev vxlan0: lladdr 66:65:29:d2:b0:c1
	// + route 10.244.1.0/24: via 10.244.1.0 dev vxlan0 onlink
	// one peer more:
	// + fdb 06:46:0d:a0:6f:72 dev vxlan0: dst 192.168.50.12
	// + neighbour 10.244.2.0 dev vxlan0: lladdr 06:46:0d:a0:6f:72
	// + route 10.244.2.0/24: via 10.244.2.0 dev vxlan0 onlink
}

// Every fault of a State is told at once, with its path.
func ExampleState_Validate() {
	err := vxlan.State{Devices: []vxlan.Device{{
		Name:     "vxlan0",
		Underlay: "eth0",
		MTU:      20,
		Peers: []vxlan.Peer{{
			VTEP:    netip.MustParseAddr("192.168.50.11"),
			Subnets: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")},
		}},
	}}}.Validate()
	fmt.Println(err)
	// Output:
	// devices[0].vni: 0 is not in 1-16777215
	// devices[0].mtu: 20 is not in 68-65535
	// devices[0].peers[0].subnets[0]: 10.244.1.0/24 has no next hop: tunnel holds no address of its family
}

// A node's MAC address comes from something that its peers know as well.
func ExampleMACFromKey() {
	fmt.Println(vxlan.MACFromKey("node-1"))
	// Output: 72:84:2e:91:e6:b4
}
