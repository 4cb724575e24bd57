package ipvs

import (
	"errors"
	"fmt"
	"strconv"
)

// Protocol is a transport protocol that IPVS balances, with its IP protocol number.
type Protocol uint8

// The protocols of services.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

var protocolNames = map[Protocol]string{TCP: "tcp", UDP: "udp", SCTP: "sctp"}

// String returns the lower-case name.
func (p Protocol) String() string { return name(protocolNames, p, "protocol") }

// MarshalText returns the name.
func (p Protocol) MarshalText() ([]byte, error) { return marshal(protocolNames, p) }

// UnmarshalText reads the name.
func (p *Protocol) UnmarshalText(b []byte) error { return unmarshal(protocolNames, p, b) }

// Family is an address family. Its values are the kernel's AF_INET and AF_INET6.
type Family uint8

// The address families.
const (
	IPv4 Family = 2
	IPv6 Family = 10
)

var familyNames = map[Family]string{IPv4: "ipv4", IPv6: "ipv6"}

// String returns "ipv4" or "ipv6".
func (f Family) String() string { return name(familyNames, f, "family") }

// MarshalText returns the name.
func (f Family) MarshalText() ([]byte, error) { return marshal(familyNames, f) }

// UnmarshalText reads the name.
func (f *Family) UnmarshalText(b []byte) error { return unmarshal(familyNames, f, b) }

// Scheduler is the name of a scheduling method in the kernel. Each is a module, ip_vs_NAME, that the kernel loads on first use. Any other
// name of up to 15 letters, digits, - and _ is passed on, for schedulers from outside the mainline kernel.
type Scheduler string

// The schedulers of the mainline kernel (net/netfilter/ipvs/Kconfig).
const (
	RoundRobin                              Scheduler = "rr"    // one after the other
	WeightedRoundRobin                      Scheduler = "wrr"   // in proportion to the weights
	LeastConnection                         Scheduler = "lc"    // the fewest connections
	WeightedLeastConnection                 Scheduler = "wlc"   // the fewest connections for its weight
	WeightedFailover                        Scheduler = "fo"    // the highest weight that is available
	WeightedOverflow                        Scheduler = "ovf"   // the highest weight until it has more connections than its weight
	LocalityBasedLeastConnection            Scheduler = "lblc"  // by the destination address, for caches
	LocalityBasedLeastConnectionReplication Scheduler = "lblcr" // the same with sets of servers
	DestinationHashing                      Scheduler = "dh"    // by hash of the destination address
	SourceHashing                           Scheduler = "sh"    // by hash of the client's address
	Maglev                                  Scheduler = "mh"    // by a consistent hash of the client's address
	ShortestExpectedDelay                   Scheduler = "sed"   // the least (connections+1)/weight
	NeverQueue                              Scheduler = "nq"    // an idle one, else the shortest expected delay
	TwoRandomChoices                        Scheduler = "twos"  // the better of two random ones (Linux 5.13)
)

// Schedulers returns those of the mainline kernel.
func Schedulers() []Scheduler {
	return []Scheduler{RoundRobin, WeightedRoundRobin, LeastConnection, WeightedLeastConnection, WeightedFailover, WeightedOverflow,
		LocalityBasedLeastConnection, LocalityBasedLeastConnectionReplication, DestinationHashing, SourceHashing, Maglev,
		ShortestExpectedDelay, NeverQueue, TwoRandomChoices}
}

// String returns the kernel's name, that of the default when empty.
func (s Scheduler) String() string {
	if s == "" {
		return string(WeightedLeastConnection)
	}
	return string(s)
}

// hashes reports whether the scheduler knows HashPort and Fallback.
func (s Scheduler) hashes() bool { return s == SourceHashing || s == Maglev }

// Method is how packets of a connection get to its destination (enum IP_VS_CONN_F_* of linux/ip_vs.h).
type Method uint8

// The forwarding methods.
const (
	Masquerade Method = 0 // the destination address and port are translated; answers must come back through this machine
	Local      Method = 1 // the destination is this machine
	Tunneling  Method = 2 // packets are encapsulated; the destination has the service's address and answers directly
	Direct     Method = 3 // only the link-layer address changes; the destination is on the same link and has the service's address
	Bypass     Method = 4 // to the packet's own destination address: what the kernel uses for transparent caches
)

var methodNames = map[Method]string{Masquerade: "masquerade", Local: "local", Tunneling: "tunnel", Direct: "direct", Bypass: "bypass"}

// String returns the lower-case name.
func (m Method) String() string { return name(methodNames, m, "method") }

// MarshalText returns the name.
func (m Method) MarshalText() ([]byte, error) { return marshal(methodNames, m) }

// UnmarshalText reads the name.
func (m *Method) UnmarshalText(b []byte) error { return unmarshal(methodNames, m, b) }

// TunnelType is an encapsulation.
type TunnelType uint8

// The encapsulations: IPIP, GUE (Linux 5.3) and GRE (Linux 5.3).
const (
	IPIP TunnelType = 0
	GUE  TunnelType = 1
	GRE  TunnelType = 2
)

var tunnelNames = map[TunnelType]string{IPIP: "ipip", GUE: "gue", GRE: "gre"}

// String returns the lower-case name.
func (t TunnelType) String() string { return name(tunnelNames, t, "tunnel") }

// MarshalText returns the name.
func (t TunnelType) MarshalText() ([]byte, error) { return marshal(tunnelNames, t) }

// UnmarshalText reads the name.
func (t *TunnelType) UnmarshalText(b []byte) error { return unmarshal(tunnelNames, t, b) }

// TunnelChecksum is how the outer header protects the packet.
type TunnelChecksum uint8

// The checksums: none, the full one (GUE and GRE), and remote checksum offload, in which GUE leaves the inner one to the receiver.
const (
	NoChecksum     TunnelChecksum = 0
	Checksum       TunnelChecksum = 1
	RemoteChecksum TunnelChecksum = 2
)

var checksumNames = map[TunnelChecksum]string{NoChecksum: "no-checksum", Checksum: "checksum", RemoteChecksum: "remote-checksum"}

// String returns the lower-case name.
func (c TunnelChecksum) String() string { return name(checksumNames, c, "checksum") }

// MarshalText returns the name.
func (c TunnelChecksum) MarshalText() ([]byte, error) { return marshal(checksumNames, c) }

// UnmarshalText reads the name.
func (c *TunnelChecksum) UnmarshalText(b []byte) error { return unmarshal(checksumNames, c, b) }

func name[E ~uint8](names map[E]string, e E, kind string) string {
	if n, ok := names[e]; ok {
		return n
	}
	return kind + "(" + strconv.Itoa(int(e)) + ")"
}

var errNoSuchValue = errors.New("no such value")

func marshal[E ~uint8](names map[E]string, e E) ([]byte, error) {
	if n, ok := names[e]; ok {
		return []byte(n), nil
	}
	if e == 0 {
		return nil, nil
	}
	return nil, fmt.Errorf("ipvs: %d: %w", e, errNoSuchValue)
}

func unmarshal[E ~uint8](names map[E]string, e *E, text []byte) error {
	if len(text) == 0 {
		*e = 0
		return nil
	}
	for v, n := range names {
		if n == string(text) {
			*e = v
			return nil
		}
	}
	return fmt.Errorf("ipvs: %q: %w", text, errNoSuchValue)
}
