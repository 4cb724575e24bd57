package nat

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"strings"

	"github.com/podplumb/podplumb/netns"
)

// Config says where a Client works and what it owns. The zero Config works.
type Config struct {
	// NetNS is the network namespace; nil is the one that New is called in.
	NetNS *netns.NS

	// Table is the name of the inet table that the Client owns, whole; empty
	// is "podplumb-nat".
	Table string

	// Mark is the run of bits of the packet mark that carries a number from
	// one rule to the next while a connection's first packet is placed. They
	// are zero again before the packet leaves the chain; other bits are
	// kept. It must be contiguous, eight bits or more, and include bit 31;
	// zero is 0xff000000.
	Mark uint32

	// Shared leaves the table without an owner. By default, where the kernel
	// can (6.9 and later), the table belongs to the Client's socket: nobody
	// else can change or flush it, it outlives the Client, and the next
	// Client takes it over. A Shared table can be changed by others, such as
	// processes that each do one Update and go; then every change by anyone in
	// the namespace costs the Client a full read before its next Sync, Plan
	// or Apply, but not before an Update.
	Shared bool

	// Counters makes every target's elements count the connections that they
	// are drawn for, to be read by Client.Counts. It costs memory and some
	// nanoseconds a connection. Without it nothing counts and nothing is paid. A
	// table made with another setting is made anew by the next Sync.
	Counters bool

	// Whole, when not zero, is what Generation of an earlier Client for the
	// same table, by the same program, returned in this namespace since it was
	// made. While it is still the ruleset's generation, nobody has changed
	// anything, and Update takes for granted that the table's fixed part is
	// there: for short-lived processes that hand it on.
	Whole uint32

	// Socket, when set, is an nftables socket (NETLINK_NETFILTER) of the
	// namespace that the Client works through; it keeps a duplicate. The table
	// then belongs to that socket, and stays owned while anybody has it open:
	// so short-lived processes, one at a time, can share what a lasting one
	// holds for them.
	Socket *os.File

	// Repaired, when set, is told by Watch what it put right, or the error
	// that kept it from doing so.
	Repaired func(Plan, error)
}

// DefaultTable is the table's name when Config.Table is empty.
const DefaultTable = "podplumb-nat"

// DefaultMark is the mark mask when Config.Mark is zero.
const DefaultMark uint32 = 0xff000000

// maxTable is the longest name of a table that the kernel takes, less its
// final zero byte (NFT_TABLE_MAXNAMELEN), cut down to what nft prints well.
const maxTable = 64

// complete fills in what zero means and names every fault.
func (c *Config) complete() error {
	if c.Table == "" {
		c.Table = DefaultTable
	}
	if c.Mark == 0 {
		c.Mark = DefaultMark
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
	return errors.Join(faults...)
}
