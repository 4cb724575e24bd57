package ipvs

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// State is the virtual servers that a Client keeps in the kernel. The zero State is none. The order means nothing.
type State struct {
	Services []Service `json:"services,omitempty"`
}

// Key identifies a virtual server: either Protocol and Address, or Mark and Family.
type Key struct {
	// Protocol of an address's service: TCP, UDP or SCTP. It is zero for a mark's.
	Protocol Protocol `json:"protocol,omitempty"`

	// Address is where clients connect to. Port 0 means every port and needs persistence.
	Address netip.AddrPort `json:"address,omitzero"`

	// Mark makes a service of all packets that carry this firewall mark (nftables: meta mark set), whatever their address, protocol
	// and port. Zero means that Address counts.
	Mark uint32 `json:"mark,omitempty"`

	// Family of a mark's packets, which has a service for each; it is zero for an address's service.
	Family Family `json:"family,omitempty"`
}

// String returns "tcp 10.96.0.10:80" or "mark 7 ipv4".
func (k Key) String() string {
	if k.Mark != 0 {
		return "mark " + strconv.FormatUint(uint64(k.Mark), 10) + " " + k.Family.String()
	}
	return k.Protocol.String() + " " + k.Address.String()
}

// Compare orders keys: addresses before marks, by address, port, protocol.
func (k Key) Compare(other Key) int {
	if c := cmp.Compare(k.Mark, other.Mark); c != 0 {
		return c
	}
	if c := k.Address.Compare(other.Address); c != 0 {
		return c
	}
	if c := cmp.Compare(k.Family, other.Family); c != 0 {
		return c
	}
	return cmp.Compare(k.Protocol, other.Protocol)
}

// family is the address family of the service, whichever kind it is.
func (k Key) family() Family {
	if k.Mark != 0 {
		return k.Family
	}
	if k.Address.Addr().Is4() {
		return IPv4
	}
	return IPv6
}

// Service is a virtual server: a place that clients connect to, and the real servers behind it.
type Service struct {
	Key

	// Scheduler chooses the destination of a new connection. Empty means WeightedLeastConnection, as in ipvsadm.
	Scheduler Scheduler `json:"scheduler,omitempty"`

	// HashPort makes SourceHashing and Maglev hash the client's port too, not only its address (ipvsadm: sh-port, mh-port).
	HashPort bool `json:"hashPort,omitempty"`

	// Fallback makes SourceHashing and Maglev take another destination when the one that the hash names has weight 0 or is
	// overloaded (ipvsadm: sh-fallback, mh-fallback). Without it such connections fail.
	Fallback bool `json:"fallback,omitempty"`

	// OnePacket schedules every UDP datagram anew and keeps no connection (ipvsadm: --ops). Answers are not translated back, so
	// it goes with the methods that leave answering to the destination: Direct, Tunnel and Local.
	OnePacket bool `json:"onePacket,omitempty"`

	// Persistence sends the connections of one client to one destination. The zero value does not.
	Persistence Persistence `json:"persistence,omitzero"`

	// Destinations are the real servers. None: connections are refused with ICMP unreachable.
	Destinations []Destination `json:"destinations,omitempty"`
}

// Persistence says which connections belong together and for how long.
type Persistence struct {
	// Timeout is how long after the last connection of a client ended its next one goes to the same destination; whole seconds.
	// Zero means no persistence.
	Timeout time.Duration `json:"timeout,omitempty"`

	// Prefix is the length of the address prefix that counts as one client. Zero means the whole address: 32 or 128. Read gives -1 where
	// somebody set an IPv4 mask that is no prefix, 0.0.0.0 say; it cannot be set.
	Prefix int `json:"prefix,omitempty"`

	// Engine looks into the packets for more than the client's address (and Prefix) to tell what belongs together: "sip", the kernel's only one, takes
	// the Call-ID, so that several calls of one client may go to several destinations. It is for UDP.
	Engine string `json:"engine,omitempty"`
}

// Destination is a real server.
type Destination struct {
	// Address receives the connections. The port is that of the real server with Masquerade. The other methods do not change packets:
	// there it must be the service's own. A service with port 0 or a mark takes port 0, which keeps the client's.
	Address netip.AddrPort `json:"address"`

	// Method is how packets get there; zero is Masquerade.
	Method Method `json:"method,omitempty"`

	// Weight is the share of new connections, below 1<<31. Zero gets none, and keeps those it has.
	Weight uint32 `json:"weight"`

	// Upper is the number of connections at which the destination gets no new ones until it is at Lower again. Zero means no limit.
	// With a Lower of zero it gets new ones again at three quarters of Upper.
	Upper uint32 `json:"upper,omitempty"`
	Lower uint32 `json:"lower,omitempty"`

	// Tunnel says more about the method Tunnel.
	Tunnel Tunnel `json:"tunnel,omitzero"`
}

// Tunnel is the encapsulation of the method Tunneling. The zero value is IPIP.
type Tunnel struct {
	Type TunnelType `json:"type,omitempty"`

	// Port is the UDP port of GUE at the destination.
	Port uint16 `json:"port,omitempty"`

	// Checksum says which checksum the outer header has; IPIP has none.
	Checksum TunnelChecksum `json:"checksum,omitempty"`
}

// Stats are counters since the service or destination was made or last zeroed, and rates over the last seconds. The kernel
// brings them up to date every two seconds.
type Stats struct {
	Connections                 uint64
	InPackets, OutPackets       uint64
	InBytes, OutBytes           uint64
	ConnectionRate              uint64 // per second
	InPacketRate, OutPacketRate uint64 // per second
	InByteRate, OutByteRate     uint64 // per second
}

// ServiceStats is what a service has done.
type ServiceStats struct {
	Key Key
	Stats
	Destinations []DestinationStats // sorted by address
}

// DestinationStats is what a destination has done and what it is doing.
type DestinationStats struct {
	Address netip.AddrPort
	Stats
	Active     uint32 // established connections
	Inactive   uint32 // connections in other states, and all UDP ones
	Persistent uint32 // persistence entries
}

// String returns the destination's form in a plan: where, how and with which weight.
func (d Destination) String() string {
	s := fmt.Sprintf("%s %s weight %d", d.Address, d.Method, d.Weight)
	if d.Method == Tunneling {
		s += " " + d.Tunnel.String()
	}
	if d.Upper != 0 {
		s += fmt.Sprintf(" upper %d lower %d", d.Upper, d.Lower)
	}
	return s
}

// String returns "ipip", "gue port 5555" or "gre checksum".
func (t Tunnel) String() string {
	s := t.Type.String()
	if t.Port != 0 {
		s += " port " + strconv.Itoa(int(t.Port))
	}
	if t.Checksum != NoChecksum {
		s += " " + t.Checksum.String()
	}
	return s
}
