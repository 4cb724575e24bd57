package nft

import (
	"crypto/sha256"
	"fmt"
	"strconv"
)

// Fields that filters look at.
var (
	TCPFlags    = Load{&load{"tcp flags", flagBits, payload, transportHeader, 13, 0, 0, 0}}
	ICMP6Type   = Load{&load{"icmpv6 type", flagBits, payload, transportHeader, 0, FamilyIPv6, 0, 0}}
	IP6HopLimit = Load{&load{"ip6 hoplimit", flagBits, payload, networkHeader, 7, FamilyIPv6, 0, 0}}
)

// flagBits is one byte of a header.
var flagBits = Type{"byte", 4, 1, false}

// Between holds when a field lies between two values in network byte order,
// both included.
type Between struct {
	Field  Load
	Lo, Hi []byte
	Text   string // as people write the range
}

func (s Between) String() string { return s.Field.String() + " " + s.Text }

// OnPort holds for a destination port.
type OnPort uint16

func (s OnPort) String() string { return string(s.appendTo(nil)) }

func (s OnPort) appendTo(b []byte) []byte {
	return strconv.AppendUint(append(b, "th dport "...), uint64(s), 10)
}

// Bits holds when those bits of a one-byte field that Mask has are Value, or
// with Not when they are not.
type Bits struct {
	Field       Load
	Mask, Value byte
	Not         bool
}

func (s Bits) String() string {
	return fmt.Sprintf("%s & 0x%02x%s 0x%02x", s.Field, s.Mask, map[bool]string{false: " ==", true: " !="}[s.Not], s.Value)
}

// Count counts the packet in a counter of the table.
type Count struct{ Counter string }

func (s Count) String() string { return string(s.appendTo(nil)) }

func (s Count) appendTo(b []byte) []byte {
	return strconv.AppendQuote(append(b, "counter name "...), s.Counter)
}

// CountFor counts the packet for a key in a set of counters, which need not
// have it before. It ends the rule when the set is full, with 65,535 keys.
type CountFor struct {
	Key Expr
	Set *Set
}

func (s CountFor) String() string { return string(s.appendTo(nil)) }

func (s CountFor) appendTo(b []byte) []byte {
	b = append(append(append(b, "update @"...), s.Set.Name...), " { "...)
	return append(appendText(b, s.Key), " counter }"...)
}

// Limit holds for up to Rate packets a second, and Burst more at once. Every
// rule counts for itself.
type Limit struct{ Rate, Burst uint32 }

func (s Limit) String() string {
	return fmt.Sprintf("limit rate %d/second burst %d packets", s.Rate, s.Burst)
}

// Log hands the beginning of the packet to the listeners of an NFLOG group.
type Log struct {
	Group  uint16
	Prefix string // up to 127 bytes
	Bytes  uint32 // of the packet
}

func (s Log) String() string {
	return fmt.Sprintf("log prefix %q group %d snaplen %d", s.Prefix, s.Group, s.Bytes)
}

// Prohibit answers with ICMP "administratively prohibited" and drops the
// packet.
type Prohibit struct{}

func (Prohibit) String() string { return "reject with icmpx admin-prohibited" }

// A Counter is a named counter of a table, which rules refer to. It outlives
// them.
type Counter struct {
	Name    string // up to 255 bytes
	Comment string // up to 127 bytes
}

func (c Counter) String() string {
	if c.Comment == "" {
		return "\tcounter " + c.Name + " {\n\t}\n"
	}
	return fmt.Sprintf("\tcounter %s {\n\t\tcomment %q\n\t}\n", c.Name, c.Comment)
}

// Stamps identifies the chain's rules, in their order, as Inventory tells
// them of the kernel's.
func (c *Chain) Stamps() []uint64 {
	list := make([]uint64, len(c.Rules))
	for i, r := range c.Rules {
		list[i] = r.stamp()
	}
	return list
}

// RangeElements returns the two elements that hold the keys from lo to hi,
// both included, in an interval set; the second is missing when hi is the
// last key of all.
func RangeElements(lo, hi []byte) []Element {
	list := []Element{{Key: append([]byte(nil), lo...)}}
	if end, ok := after(hi, 8*len(hi)); ok {
		list = append(list, Element{Key: end, End: true})
	}
	return list
}

// A Seal is a digest of a rule's text.
type Seal [16]byte

// Sealed returns the rule with its seal, of which its stamp is a part from then
// on, so that neither need be made of the text again. The text is written to
// the end of buf, which is returned for the next.
func (r Rule) Sealed(buf []byte) (Rule, []byte) {
	buf = r.appendTo(buf[:0])
	sum := sha256.Sum256(buf)
	r.seal = Seal(sum[:])
	return r, buf
}

// Seal returns what Sealed made.
func (r *Rule) Seal() Seal { return r.seal }

// SizeOf is the number of bytes that an expression takes as a part of a key:
// padded to four in a concatenation.
func SizeOf(e Expr) int { return size(e.types()) }
