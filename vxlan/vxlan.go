package vxlan

import (
	"net/netip"
)

// DefaultPort is the UDP port that IANA assigned to VXLAN (RFC 7348, section 5). The kernel's own default, 8472, is older than that.
const DefaultPort = 4789

// MaxVNI is the largest VXLAN network identifier: 24 bits (RFC 7348, section 5).
const MaxVNI = 1<<24 - 1

// Overhead of the encapsulation in bytes: the inner Ethernet header (14), the VXLAN (8), UDP (8) and outer IP (20 or 40) headers. A device's MTU
// is at most its underlay's MTU less this.
const (
	Overhead4 = 14 + 8 + 8 + 20
	Overhead6 = 14 + 8 + 8 + 40
)

// State is what a Client keeps in the kernel. The zero State is nothing: no device.
type State struct {
	Devices []Device `json:"devices,omitempty"`
}

// Device is one VXLAN device and the peers that are reached through it.
type Device struct {
	// Name of the link, at most 15 bytes. A Device read from the kernel has no name when it only holds direct routes whose device is gone.
	Name string `json:"name"`

	// VNI is the network identifier, 1 to MaxVNI. Changing it makes the device again.
	VNI uint32 `json:"vni"`

	// Port is the UDP port of this device and of all peers; 0 means DefaultPort. Changing it makes the device again.
	Port uint16 `json:"port,omitempty"`

	// Source is the underlay address that packets are sent from. The zero Addr means the first global address of Underlay, of the peers' family.
	// Changing its family makes the device again; within a family it changes in place, unless the device learns.
	Source netip.Addr `json:"source,omitzero"`

	// Underlay names the link that the device stands on (IFLA_VXLAN_LINK): MTU and Source follow it, DirectRouting looks at its subnets, and when
	// the kernel deletes it it deletes the device too. The way of encapsulated packets is still the routing table's. Empty, the device stands on
	// no link, and the one that holds Source, which is needed then, plays that part. Another link is taken in place; none makes the device again.
	Underlay string `json:"underlay,omitempty"`

	// MTU in bytes of the packets inside. 0 means the underlay's MTU less Overhead4 or Overhead6, where the underlay is the link Underlay or the
	// one that holds Source. That tells nothing when it is the loopback device: give the MTU then.
	MTU int `json:"mtu,omitempty"`

	// MAC address of the device. The zero MAC means MACFromKey of Source's text.
	MAC MAC `json:"mac,omitzero"`

	// Learning makes the device learn the senders of arriving frames. Off, the default, the FDB holds what the peers say and nothing else.
	Learning bool `json:"learning,omitempty"`

	// GBP carries the packet mark's low 16 bits as group policy (draft-smith-vxlan-group-policy). Changing it makes the device again, and every
	// device on the same port must agree.
	GBP bool `json:"gbp,omitempty"`

	// ZeroChecksum sends outer UDP packets over IPv4 without a checksum. Changing it makes the device again.
	ZeroChecksum bool `json:"zeroChecksum,omitempty"`

	// ZeroChecksum6Tx sends outer UDP packets over IPv6 without a checksum, ZeroChecksum6Rx takes such packets (RFC 6935). Changing one makes
	// the device again.
	ZeroChecksum6Tx bool `json:"zeroChecksum6Tx,omitempty"`
	ZeroChecksum6Rx bool `json:"zeroChecksum6Rx,omitempty"`

	// TTL or hop limit of outer packets; 0 lets the kernel choose.
	TTL uint8 `json:"ttl,omitempty"`

	// TOS byte of outer packets; 1 copies the inner packet's.
	TOS uint8 `json:"tos,omitempty"`

	// SourcePorts is the range that the flow hash spreads outer UDP source ports over. The zero range means the kernel's,
	// net.ipv4.ip_local_port_range. Changing it makes the device again.
	SourcePorts PortRange `json:"sourcePorts,omitzero"`

	// Bridge names the bridge that the device is a port of (an L2 overlay); empty means none. The bridge is not made here.
	Bridge string `json:"bridge,omitempty"`

	// Addrs are the device's own addresses, as a rule the first address of the node's pod subnet as a /32 or /128: the source of what the node
	// itself sends to pods, and what peers name in their Tunnel. The kernel makes the route to a wider prefix together with the address; should
	// somebody delete that route alone, it is not noticed.
	Addrs []netip.Prefix `json:"addrs,omitempty"`

	// DirectRouting sends the packets for a peer's subnets straight to the peer when one of its addresses (VTEP, Hosts) is in a subnet of the
	// underlay link. Resolve turns it into Peer.Via, so a read State never has it set.
	DirectRouting bool `json:"directRouting,omitempty"`

	// Peers behind the device, in any order, at most one for each VTEP.
	Peers []Peer `json:"peers,omitempty"`
}

// Peer is the other end of a tunnel. Every entry of the kernel can be told as a Peer, so a State that was read may hold incomplete ones: without
// VTEP no FDB entry, without MAC no neighbour.
type Peer struct {
	// VTEP is the peer's underlay address, by which it is known.
	VTEP netip.Addr `json:"vtep,omitzero"`

	// MAC address of the peer's device. The zero MAC of a peer with Tunnel addresses means MACFromKey of VTEP's text, which is what the peer's
	// own Device uses by default.
	MAC MAC `json:"mac,omitzero"`

	// Tunnel holds the addresses of the peer's device, at most one of each family: the next hops of the routes to its subnets.
	Tunnel []netip.Addr `json:"tunnel,omitempty"`

	// Subnets are the networks behind the peer, of both families.
	Subnets []netip.Prefix `json:"subnets,omitempty"`

	// Hosts are further underlay addresses of the peer that direct routing may use, for subnets that are not of VTEP's family. Resolve turns
	// them into Via.
	Hosts []netip.Addr `json:"hosts,omitempty"`

	// Via holds next hops outside the tunnel, at most one of each family; the subnets of that family are routed to it. DirectRouting fills it.
	Via []Hop `json:"via,omitempty"`

	// Stations are MAC addresses of hosts behind the peer, for L2 overlays that do not learn.
	Stations []MAC `json:"stations,omitempty"`

	// Flood sends the peer a copy of every broadcast, unknown unicast and multicast frame (head-end replication).
	Flood bool `json:"flood,omitempty"`
}

// Hop is a next hop on a link of the node.
type Hop struct {
	Addr netip.Addr `json:"addr"`
	Link string     `json:"link"`
}

// PortRange is a range of UDP ports, both ends included.
type PortRange struct {
	Low  uint16 `json:"low"`
	High uint16 `json:"high"`
}

// port returns the UDP port with its default.
func (d *Device) port() uint16 {
	if d.Port == 0 {
		return DefaultPort
	}
	return d.Port
}

// mac returns the peer's MAC with its default.
func (p *Peer) mac() MAC {
	if p.MAC.IsZero() && p.VTEP.IsValid() && len(p.Tunnel) > 0 {
		return MACFromKey(p.VTEP.String())
	}
	return p.MAC
}

// tunnel returns the peer's tunnel address of the family of a, the zero Addr when there is none.
func (p *Peer) tunnel(a netip.Addr) netip.Addr {
	for _, t := range p.Tunnel {
		if t.Is4() == a.Is4() {
			return t
		}
	}
	return netip.Addr{}
}

// via returns the peer's direct next hop of the family of a.
func (p *Peer) via(a netip.Addr) (Hop, bool) {
	for _, h := range p.Via {
		if h.Addr.Is4() == a.Is4() {
			return h, true
		}
	}
	return Hop{}, false
}

// mac returns the device's MAC with its default, the zero MAC while Source is not known.
func (d *Device) mac() MAC {
	if d.MAC.IsZero() && d.Source.IsValid() {
		return MACFromKey(d.Source.String())
	}
	return d.MAC
}
