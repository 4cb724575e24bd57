package policy

import (
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"

	"github.com/podplumb/podplumb/netns"

	"github.com/podplumb/podplumb/internal/nft"
)

// Config says where a Client works, what it owns and how it refuses. The zero Config works, and enforces the policies of every pod of
// the State.
type Config struct {
	// NetNS is the network namespace; nil is the one that New is called in.
	NetNS *netns.NS

	// Table is the name of the inet table that the Client owns, whole; empty is "podplumb-policy".
	Table string

	// Node is the name of the node that the Client runs on: the pods with this nodeName, and those without any, are enforced here, and all
	// others are only peers. Empty enforces all pods.
	Node string

	// Local holds the address ranges of this node's own pods. An address in them that no pod of the State has is cut off in both
	// directions, so that a pod that starts before it is known (see Client.Admit) is closed and not open.
	Local []netip.Prefix

	// AllowUnknown lets the unknown addresses of Local through, as if no policy were for them.
	AllowUnknown bool

	// AllowBridged leaves packets to others that a bridge forwards from port to port without the IP hooks seeing them, as it does where
	// br_netfilter is not loaded or turned off. By default Sync, Apply, Update, Admit and Watch fail with ErrBridged when a pod of this
	// node is behind such a bridge: policies would be silently without effect between pods on it.
	AllowBridged bool

	// Reject answers what is denied with a TCP reset or ICMP "administratively prohibited"; by default it gets no answer.
	Reject bool

	// KeepLive leaves connections alone that were made before a change denied them. By default their conntrack entries are deleted, and
	// packets from the middle of a TCP connection that conntrack does not know are denied to and from pods with policies: else the
	// connection would go on as one that its other end had opened.
	KeepLive bool

	// Log hands denied packets to Client.Denials.
	Log Log

	// Mark is the run of bits of the packet mark that carries a number from one rule to the next while the first packet of a pod's
	// connection is judged; they are zero then, and other bits are kept. It must be contiguous, eight bits or more, and include bit 31;
	// zero is 0xffff0000. It bounds the number of different profiles of a direction and address family, and with 16 bits or more that of
	// different selectors of peers.
	Mark uint32

	// Shared leaves the table without an owner. By default, where the kernel can (6.9 and later), the table belongs to the Client's
	// socket: nobody else can change or flush it, it outlives the Client, and the next Client takes it over.
	Shared bool

	// Repaired, when set, is told by Watch what it put right, or the error that kept it from doing so.
	Repaired func(Plan, error)
}

// Log says what becomes known of denied packets.
type Log struct {
	Group uint16 // of NFLOG; zero logs nothing
	Rate  uint32 // packets a second for each reason to deny, as many at once; zero is 10
}

// DefaultTable is the table's name when Config.Table is empty.
const DefaultTable = "podplumb-policy"

// DefaultMark is the mark mask when Config.Mark is zero.
const DefaultMark uint32 = 0xffff0000

// maxTable is the longest name of a table that nft prints well.
const maxTable = 64

// complete fills in what zero means and names every fault.
func (c *Config) complete() error {
	if c.Table == "" {
		c.Table = DefaultTable
	}
	if c.Mark == 0 {
		c.Mark = DefaultMark
	}
	if c.Log.Rate == 0 {
		c.Log.Rate = 10
	}
	var faults []error
	if len(c.Table) > maxTable || strings.ContainsFunc(c.Table, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./", r))
	}) {
		faults = append(faults, fmt.Errorf("table: %q is not up to %d letters, digits, '-', '_', '.' and '/'", c.Table, maxTable))
	}
	if n := bits.OnesCount32(c.Mark); bits.LeadingZeros32(^c.Mark) != n || n < 8 {
		faults = append(faults, fmt.Errorf("mark: 0x%08x is not a run of eight bits or more that includes bit 31", c.Mark))
	}
	for i, p := range c.Local {
		if !p.IsValid() || p.Addr().Is4In6() {
			faults = append(faults, fmt.Errorf("local[%d]: %s is no range of IPv4 or IPv6 addresses", i, p))
		}
	}
	return errors.Join(faults...)
}

// marked holds while the mark has a number: the packet is a pod's, and nothing has allowed it yet.
func (c *Config) marked() nft.Stmt {
	return nft.Any{Field: nft.MetaMark, Bits: c.Mark}
}

// shift is where the number stands in the mark.
func (c *Config) shift() uint8 { return uint8(bits.TrailingZeros32(c.Mark)) }
