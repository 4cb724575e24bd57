package veth

import (
	"fmt"
	"net"
	"net/netip"
	"time"
)

// State is what a client keeps in one node's namespace. The zero State is "nothing". The order of all slices is without meaning.
type State struct {
	Bridges []Bridge
	Pairs   []Pair
}

// Bridge is an Ethernet bridge of the node. Its addresses are the gateways of the pods behind it.
type Bridge struct {
	Name string // 1 to 15 bytes (IFNAMSIZ), unique in the node
	MAC  MAC    // zero: random when the bridge is made, then kept and not compared
	MTU  int    // bytes; zero: 1500
	Down bool   // zero: up

	// Addresses are the gateway addresses with their subnets. An address on the bridge that is not listed here is replaced or
	// refused, see Config.ForceAddress; link-local addresses that the kernel made are left alone.
	Addresses []netip.Prefix
	Routes    []Route           // node routes through the bridge
	Sysctls   map[string]string // see Pod.Sysctls; the node's, so every name has IFNAME in it
	DAD       bool              // IPv6 duplicate address detection (RFC 4862); zero: off, addresses work at once

	Promiscuous       bool          // IFF_PROMISC: the bridge hears every frame
	MulticastSnooping bool          // IGMP and MLD snooping; zero: off, multicast reaches every port and so neighbour discovery never depends on a querier
	GroupForwardMask  uint16        // bit n forwards frames to 01:80:c2:00:00:0n (IEEE 802.1D reserved); bits 0 to 2 are refused by the kernel; zero: none
	Ageing            time.Duration // how long a silent MAC address stays learned, in steps of 10 ms; zero: 300 s; negative: not at all, every frame goes to every port
	CallIPTables      bool          // bridged IPv4 and IPv6 packets pass the netfilter hooks of ip and ip6 (needs br_netfilter); zero: no more than net.bridge.bridge-nf-call-* say

	// VLANFiltering turns on IEEE 802.1Q filtering. VLANs is then the membership of the bridge's own interface, whose Access zero
	// means VLAN 1 if it has no trunks either.
	VLANFiltering bool
	VLANs         VLANs
}

// Pair is a veth pair: one end in the node, one inside a pod. Its key is the name of the node's end.
type Pair struct {
	Host  Host
	Pod   Pod
	Group uint32 // IFLA_GROUP of the node's end, for removal in bulk with Client.DetachGroup; zero: the kernel's default group
}

// Host is the node's end of a pair: a port of a bridge, or (Bridge empty) routed point to point. A routed end gets a node route to
// each address of the pod, /32 or /128, scope link.
type Host struct {
	Name string // 1 to 15 bytes (IFNAMSIZ), unique in the node
	MAC  MAC    // zero: random when the pair is made, then kept and not compared
	MTU  int    // bytes; zero: the pod end's, or 1500
	Down bool   // zero: up

	Bridge string // bridge of the state, or one that exists already; empty: routed
	Port   Port   // only with Bridge

	// The rest is for a routed end; the addresses of a bridge port belong on the bridge.
	//
	// The gateway idiom: Addresses 169.254.1.1/32 and fe80::1/64 here on every pair, and in the pod a default route via each with
	// OnLink. Or no addresses, and Proxy (or ProxyARP) answers for the gateway instead.
	Addresses []netip.Prefix
	Routes    []Route // more node routes through the pair, or with other properties in the place of one to a pod's address
	// Unrouted are addresses of the pod that the node has no route to; zero: it has a route to each that is not link-local.
	Unrouted []netip.Addr
	// ProxyARP answers ARP for every address that the node routes elsewhere (RFC 1027, net.ipv4.conf.IFNAME.proxy_arp), without delay.
	ProxyARP bool
	// Proxy are addresses that the end answers ARP or neighbour discovery for (ip neigh add proxy). IPv4 needs a node route to the
	// address and forwarding; IPv6 (RFC 4389, proxy_ndp) needs net.ipv6.conf.all.forwarding.
	Proxy   []netip.Addr
	Sysctls map[string]string // see Pod.Sysctls; the node's, so every name has IFNAME in it
	DAD     bool              // IPv6 duplicate address detection (RFC 4862); zero: off; a bridge port has no IPv6 addresses
}

// Pod is the pod's end of a pair.
type Pod struct {
	NetNS string // path of the pod's namespace: /run/netns/web, /proc/123/ns/net; absolute
	Name  string // 1 to 15 bytes (IFNAMSIZ), unique in the pod
	MAC   MAC    // zero: random when the pair is made, then kept and not compared
	MTU   int    // bytes; zero: the node end's, or 1500; both ends have the same
	Down  bool   // zero: up

	Addresses []netip.Prefix
	Routes    []Route
	// Sysctls are kernel parameters of the pod by name, as net.ipv4.conf.IFNAME.rp_filter: below net., with dots or slashes, and
	// IFNAME in the place of the link's name. One that is dropped from the state goes back to conf.default's value if it has IFNAME
	// in it, and is left at its value otherwise. Names and namespace path share the 255 bytes of a link alias.
	Sysctls map[string]string
	DAD     bool // IPv6 duplicate address detection (RFC 4862); zero: off, addresses work at once
}

// Port is how a bridge treats the node's end of a pair.
type Port struct {
	Hairpin  bool // a frame may go back out of the port it came from: a pod can reach itself through its service
	Isolated bool // exchanges frames only with ports that are not isolated, and the bridge itself
	VLANs    VLANs
}

// VLANs is the VLAN membership of a port on a bridge that filters. The zero value means VLAN 1 untagged if the bridge is part of the
// same state, and "as it is" if it is not.
type VLANs struct {
	None   bool        // member of no VLAN: nothing passes
	Access uint16      // 1 to 4094: untagged frames belong to it (PVID), and it leaves untagged; zero with trunks: untagged frames are dropped
	Trunks []VLANRange // tagged in and out
}

// VLANRange is a run of VLAN ids, both included.
type VLANRange struct{ First, Last uint16 }

// String prints 10 or 10-20.
func (r VLANRange) String() string {
	if r.First == r.Last {
		return fmt.Sprint(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// MAC is an Ethernet address. The zero MAC means "none given".
type MAC [6]byte

// ParseMAC reads an EUI-48 such as 02:00:5e:10:00:01.
func ParseMAC(s string) (MAC, error) {
	a, err := net.ParseMAC(s)
	if err != nil || len(a) != len(MAC{}) {
		return MAC{}, fmt.Errorf("veth: parse MAC %q: not an EUI-48 address", s)
	}
	return MAC(a), nil
}

// String prints the address as 02:00:5e:10:00:01.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText is String, and empty for the zero MAC.
func (m MAC) MarshalText() ([]byte, error) {
	if m == (MAC{}) {
		return nil, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText is ParseMAC; empty text is the zero MAC.
func (m *MAC) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*m = MAC{}
		return nil
	}
	*m, err = ParseMAC(string(text))
	return err
}
