package nat

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// State is everything that a Client keeps in its table. The zero State is
// nothing: no table.
type State struct {
	// Networks are the sources that leave under an address of this host.
	Networks []Network

	// Exclude holds the destinations that traffic from Networks reaches with
	// its own address: the cluster's ranges. Traffic between two Networks
	// and multicast are never translated, listed here or not.
	Exclude []netip.Prefix

	// Virtual holds the ranges whose addresses exist only as forwards. A
	// packet to one of them that no forward serves is refused, never routed.
	Virtual []Virtual

	// Local holds the ranges of the host's own addresses on which forwards of
	// an unspecified address are served. A family without a range serves them
	// on all of the host's addresses. Loopback addresses have a setting of
	// their own, Localhost.
	Local []netip.Prefix

	// Localhost has up to one address of each family, the host's own. It
	// serves forwards of the unspecified address on the family's loopback
	// addresses too, and is what forwards of a loopback address need:
	// connections that the host makes from 127.0.0.1 or ::1 to one enter as
	// from this address, and are masqueraded. No sysctl is needed, and none
	// of the host's loopback servers is opened to others. Such connections
	// end when their forward goes or has no targets any more, whatever Drain
	// says. A program of the host that makes a connection to a loopback
	// address from this very address gets no answer from a forward.
	Localhost []netip.Addr

	// Redirects lead ports of the host to others of its ports.
	Redirects []Redirect

	// Capture leads what the namespace sends and receives to a proxy.
	Capture Capture

	// Forwards are the addresses and ports that lead to targets.
	Forwards []Forward
}

// A Network is a range of source addresses whose connections leave under an
// address of this host when they go to a destination outside State.Exclude.
type Network struct {
	Prefix netip.Prefix
	Name   string // for people; up to 120 bytes of printable ASCII

	// To are the addresses that they leave under. The zero Pool masquerades.
	To Pool
}

// Virtual is a range of addresses that exist only as forwards, such as the
// service range of a cluster.
type Virtual struct {
	Prefix netip.Prefix
	// Miss says what becomes of a packet to an address of the range that no
	// forward has. The zero value rejects. An address that has a forward
	// rejects its other ports whatever Miss says.
	Miss Refusal
}

// Key identifies a forward.
type Key struct {
	Addr  netip.Addr
	Port  uint16
	Proto Proto
}

// A Forward leads connections to an address and port to one of its targets.
// Its key is Addr, Port and Proto. Other ports of the address are rejected,
// unless the address is one of the host's own.
//
// The unspecified addresses 0.0.0.0 and :: stand for the host's own addresses
// of their family that State.Local has: a node port. A forward of the address
// itself comes first.
type Forward struct {
	Addr  netip.Addr
	Port  uint16
	Proto Proto

	Name string // for people: shown as a comment; up to 120 bytes of printable ASCII

	// To are the targets, each of Addr's family. Connections spread over
	// them in proportion to their weights, as Algorithm says.
	To        []Target
	Algorithm Algorithm

	// Near, when not empty, takes the place of To for clients that are near:
	// sources in State.Networks or State.Exclude, and the host itself. So To
	// can be the targets on this host, for clients that come from outside
	// and are to keep their address, while those inside reach all targets.
	Near []Target

	// Empty says what becomes of a connection while there is no target for
	// its client. The zero value rejects.
	Empty Refusal

	// Allow, when not empty, holds the sources whose connections are served;
	// Deny holds sources whose connections are not, listed in Allow or not.
	// The others' are dropped. Established connections go on.
	Allow, Deny []netip.Prefix

	// Affinity keeps the connections of a client address on one target until
	// there was no new one for that long, in whole seconds up to 30 days. It
	// ends at once when the target goes. Zero is no affinity.
	Affinity time.Duration

	// Drain says what becomes of established connections to a target that is
	// removed. The zero value lets them go on. UDP clients always go to
	// another target.
	Drain Drain
	// Grace is how long DrainLater lets them go on, in whole seconds up to 24
	// hours.
	Grace time.Duration

	// Masquerade says which connections reach a target under an address of
	// this host. The zero value is only those of a target to itself.
	Masquerade Masquerade

	// Elsewhere leaves it to another load balancer of the host, such as IPVS
	// with net.ipv4.vs.conntrack set, to lead the connections to To. The rest
	// of the forward holds: who is allowed, whom to masquerade, what becomes
	// of connections while To is empty and of UDP clients of removed targets.
	// The address may be local to the host by a route; inside of a Virtual
	// range its other ports are rejected all the same. A node port cannot be
	// left to others, and Algorithm, Affinity and weights mean nothing then.
	Elsewhere bool
}

// Key returns the forward's identity.
func (f Forward) Key() Key { return Key{f.Addr, f.Port, f.Proto} }

// A Target is one destination of a forward.
type Target struct {
	Addr netip.Addr
	Port uint16
	// Weight is the target's share relative to the others, up to 65536; zero
	// means one. Weights are divided by their common factor; what then adds
	// up to more than 4096 is rounded to steps of about 1/4096 of the whole.
	Weight int
}

// Proto is a transport protocol by its IANA number.
type Proto uint8

// The protocols that a forward can serve.
const (
	TCP  Proto = 6
	UDP  Proto = 17
	SCTP Proto = 132
)

func (p Proto) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return "proto(" + strconv.Itoa(int(p)) + ")"
}

// Algorithm says which target a connection gets.
type Algorithm uint8

const (
	// Random draws for each connection.
	Random Algorithm = iota
	// SourceHash gives all connections of a client address the same target
	// while the targets stay.
	SourceHash
	// Maglev does so too, alike on every host with the same targets, and when
	// one of n targets comes or goes moves only about one client in n. It
	// takes 1,024 slots for up to 64 targets, 16,384 for up to 1,024, then
	// 65,536; the targets' shares are off by a few percent of each. (Eisenbud
	// et al., Maglev: A Fast and Reliable Software Network Load Balancer,
	// NSDI 2016, section 3.4.)
	Maglev
	// RoundRobin gives each connection to the target after the last one's;
	// of targets with weights, each comes up in proportion, evenly spread. A
	// forward by it has a chain of its own, for the kernel counts turns by
	// rule: there can be as many as Config.Mark has numbers (255, as it is),
	// and a change of the number of targets begins the turns anew.
	RoundRobin
)

func (a Algorithm) String() string {
	switch a {
	case Random:
		return "random"
	case SourceHash:
		return "source hash"
	case Maglev:
		return "maglev"
	case RoundRobin:
		return "round robin"
	}
	return "algorithm(" + strconv.Itoa(int(a)) + ")"
}

// Refusal is how a packet is turned away.
type Refusal uint8

const (
	// Reject answers at once: a TCP reset, else ICMP port unreachable.
	Reject Refusal = iota
	// Drop does not answer.
	Drop
)

func (r Refusal) String() string {
	switch r {
	case Reject:
		return "reject"
	case Drop:
		return "drop"
	}
	return "refusal(" + strconv.Itoa(int(r)) + ")"
}

// Drain is how a removed target's established connections end.
type Drain uint8

const (
	// DrainKeep lets them go on until they end by themselves.
	DrainKeep Drain = iota
	// DrainReset cuts them: what the client sends next is answered by a
	// reset.
	DrainReset
	// DrainLater cuts them when Forward.Grace is over, unless the target comes
	// back before. The table remembers when; Watch does it in time, and
	// Client.Drain when it is called, in any process. A table that is removed
	// remembers nothing.
	DrainLater
)

func (d Drain) String() string {
	switch d {
	case DrainKeep:
		return "keep"
	case DrainReset:
		return "reset"
	case DrainLater:
		return "later"
	}
	return "drain(" + strconv.Itoa(int(d)) + ")"
}

// Masquerade says which connections of a forward reach their target under an
// address of this host, so that the answers come back through it.
type Masquerade uint8

const (
	// MasqueradeHairpin translates only connections of a target to itself,
	// which could not be answered otherwise.
	MasqueradeHairpin Masquerade = iota
	// MasqueradeRemote also translates connections from sources outside
	// State.Networks and State.Exclude.
	MasqueradeRemote
	// MasqueradeAll translates every connection.
	MasqueradeAll
	// MasqueradeHost also translates connections that the host itself opens.
	MasqueradeHost
)

func (m Masquerade) String() string {
	switch m {
	case MasqueradeHairpin:
		return "hairpin"
	case MasqueradeRemote:
		return "remote"
	case MasqueradeAll:
		return "all"
	case MasqueradeHost:
		return "host"
	}
	return "masquerade(" + strconv.Itoa(int(m)) + ")"
}

func (k Key) String() string {
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(k.Addr, k.Port), k.Proto)
}

func (t Target) String() string {
	s := netip.AddrPortFrom(t.Addr, t.Port).String()
	if t.Weight > 1 {
		s += " weight " + strconv.Itoa(t.Weight)
	}
	return s
}

// A Change is what Client.Update takes: only what differs from before.
type Change struct {
	Set  []Forward // forwards to add or to replace
	Drop []Key     // forwards to remove; absent ones are no error

	SetNetworks  []Network      // networks to add or to replace
	DropNetworks []netip.Prefix // networks to remove; absent ones are no error

	// SetExclude holds exclusions to add, as far as they do not lie inside
	// others. DropExclude holds those to remove; absent ones are no error.
	SetExclude, DropExclude []netip.Prefix

	// SetLocalhost takes the place of the addresses of its families in
	// State.Localhost.
	SetLocalhost []netip.Addr

	// Owner, when not empty, keeps to what bears that Name. A forward or
	// network to set that is there under another name is a *ConflictError,
	// and nothing is changed; one to drop that bears another name stays.
	// What is set must bear it.
	Owner string

	Capture []uint16 // ports to add to Capture.Ports, out of Ports4 and Ports6
	Release []uint16 // ports to remove from all three; absent ones are no error
}
