package nft

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A Stmt is a step of a rule: a condition that ends the rule when it does not
// hold, or an action.
type Stmt interface{ String() string }

// A part of a rule that appends its text to that of the rest.
type appender interface{ appendTo(b []byte) []byte }

func appendText(b []byte, s fmt.Stringer) []byte {
	if a, ok := s.(appender); ok {
		return a.appendTo(b)
	}
	return append(b, s.String()...)
}

// In holds when the set has the key, or with Not when it has not.
type In struct {
	Key Expr
	Set *Set
	Not bool
}

func (s In) String() string { return string(s.appendTo(nil)) }

func (s In) appendTo(b []byte) []byte {
	b = append(appendText(b, s.Key), not(s.Not)...)
	return append(append(b, " @"...), s.Set.Name...)
}

// Is holds when a field has a value, given in the field's byte order.
type Is struct {
	Field Load
	Value []byte
	Text  string // as people write the value; empty prints hexadecimal
	Not   bool
}

func (s Is) String() string { return string(s.appendTo(nil)) }

func (s Is) appendTo(b []byte) []byte {
	b = append(s.Field.appendTo(b), not(s.Not)...)
	if s.Text == "" {
		return hex.AppendEncode(append(b, " 0x"...), s.Value)
	}
	return append(append(b, ' '), s.Text...)
}

// MaskedIs holds when some bits of a field are those of Value.
type MaskedIs struct {
	Of    Masked
	Value uint32
	Text  string // the comparison as people write it; empty prints hexadecimal
}

func (s MaskedIs) String() string {
	if s.Text != "" {
		return s.Of.Of.String() + " " + s.Text
	}
	return fmt.Sprintf("%s == 0x%08x", s.Of, s.Value)
}

// Within holds when an address field lies in a prefix.
type Within struct {
	Field  Load
	Prefix netip.Prefix
}

func (s Within) String() string { return string(s.appendTo(nil)) }

func (s Within) appendTo(b []byte) []byte { return s.Prefix.AppendTo(append(s.Field.appendTo(b), ' ')) }

// Any holds when a field in host byte order has one of the bits.
type Any struct {
	Field Load
	Bits  uint32
	Text  string // the comparison as people write it; empty prints hexadecimal
}

func (s Any) String() string { return string(s.appendTo(nil)) }

func (s Any) appendTo(b []byte) []byte {
	b = append(s.Field.appendTo(b), ' ')
	if s.Text != "" {
		return append(b, s.Text...)
	}
	return append(appendHex(append(b, "& "...), s.Bits), " != 0x00000000"...)
}

// A Verdict ends a rule. Jump and Goto name a chain.
type Verdict struct {
	Code  VerdictCode
	Chain string
}

// VerdictCode is the kind of a verdict, by its number in the kernel.
type VerdictCode int32

// The verdicts.
const (
	Drop   VerdictCode = 0
	Accept VerdictCode = 1
	Jump   VerdictCode = -3
	Goto   VerdictCode = -4
	Return VerdictCode = -5
)

func (v Verdict) appendTo(b []byte) []byte {
	switch v.Code {
	case Jump:
		return append(append(b, "jump "...), v.Chain...)
	case Goto:
		return append(append(b, "goto "...), v.Chain...)
	}
	return append(b, v.String()...)
}

func (v Verdict) String() string {
	switch v.Code {
	case Drop:
		return "drop"
	case Accept:
		return "accept"
	case Jump:
		return "jump " + v.Chain
	case Goto:
		return "goto " + v.Chain
	case Return:
		return "return"
	}
	return fmt.Sprintf("verdict(%d) %s", v.Code, v.Chain)
}

// VMap takes the verdict that a map holds for a key.
type VMap struct {
	Key Expr
	Map *Set
}

func (s VMap) String() string { return s.Key.String() + " vmap @" + s.Map.Name }

// ClearMark zeroes bits of the packet mark.
type ClearMark struct{ Bits uint32 }

func (s ClearMark) String() string { return string(s.appendTo(nil)) }

func (s ClearMark) appendTo(b []byte) []byte {
	return appendHex(append(b, "meta mark set meta mark & "...), ^s.Bits)
}

// PutMark writes the value of a map, which is four bytes in host byte order,
// shifted left into the packet mark. The mark's Shift low bits are kept.
type PutMark struct {
	Value Mapped
	Shift uint8
}

func (s PutMark) String() string { return string(s.appendTo(nil)) }

func (s PutMark) appendTo(b []byte) []byte {
	if b = s.Value.appendTo(append(b, "meta mark set "...)); s.Shift > 0 {
		b = strconv.AppendUint(append(b, " << "...), uint64(s.Shift), 10)
	}
	return b
}

// DNAT sends the connection to the address and port that a map holds.
type DNAT struct{ To Mapped }

func (s DNAT) String() string {
	proto := "ip"
	if s.To.family() == FamilyIPv6 {
		proto = "ip6"
	}
	return "dnat " + proto + " to " + s.To.String()
}

// SNAT gives the connection a source from the range that a map holds, of
// addresses, or of addresses and ports.
type SNAT struct {
	From Mapped
	// Random draws the port even where the client's own is free; Persistent
	// gives all connections of a client the same address.
	Random, Persistent bool
}

func (s SNAT) String() string {
	proto := "ip"
	if s.From.family() == FamilyIPv6 {
		proto = "ip6"
	}
	text := "snat " + proto + " to " + s.From.String()
	var flags []string
	if s.Random {
		flags = append(flags, "fully-random")
	}
	if s.Persistent {
		flags = append(flags, "persistent")
	}
	if len(flags) > 0 {
		text += " " + strings.Join(flags, ",")
	}
	return text
}

// Redirect sends the connection to the port of this host that a map holds.
type Redirect struct{ To Mapped }

func (s Redirect) String() string { return "redirect to :" + s.To.String() }

// Rewrite puts another address in place of one in the packet's header.
type Rewrite struct {
	Field Load
	Value Expr
}

func (s Rewrite) String() string { return s.Field.String() + " set " + s.Value.String() }

// Learn keeps a value for a key in a dynamic map until Timeout after it was
// last learnt. A value that is there stays.
type Learn struct {
	Map     *Set
	Key     Expr
	Data    Expr
	Timeout time.Duration
}

func (s Learn) String() string {
	return fmt.Sprintf("update @%s { %s timeout %s : %s }", s.Map.Name, s.Key, s.Timeout, s.Data)
}

// Masquerade gives the connection an address of the outgoing interface and a
// random port.
type Masquerade struct{}

func (Masquerade) String() string { return "masquerade fully-random" }

// Reject answers with a refusal and drops the packet.
type Reject struct{ Reset bool } // a TCP reset instead of ICMP port unreachable

func (s Reject) String() string {
	if s.Reset {
		return "reject with tcp reset"
	}
	return "reject"
}

func not(n bool) string {
	if n {
		return " !="
	}
	return ""
}

// A Rule is steps taken in order.
type Rule struct {
	Stmts   []Stmt
	Comment string // up to 127 bytes

	seal Seal // zero until it is made
}

func (r Rule) String() string { return string(r.appendTo(nil)) }

func (r *Rule) appendTo(b []byte) []byte {
	for i, st := range r.Stmts {
		if i > 0 {
			b = append(b, ' ')
		}
		b = appendText(b, st)
	}
	if r.Comment != "" {
		b = strconv.AppendQuote(append(b, " comment "...), r.Comment)
	}
	return b
}

// family is the one network protocol that the rule's fields need, or 0.
func (r *Rule) family() Family {
	for _, st := range r.Stmts {
		var f Family
		switch s := st.(type) {
		case In:
			f = s.Key.family()
		case Is:
			f = s.Field.fam
		case Within:
			f = s.Field.fam
		case VMap:
			f = s.Key.family()
		case CountFor:
			f = s.Key.family()
		case PutMark:
			f = s.Value.family()
		case DNAT:
			f = s.To.family()
		case Rewrite:
			f = s.Field.fam
		case SNAT:
			f = s.From.family()
		case Learn:
			f = s.Key.family()
		}
		if f != 0 {
			return f
		}
	}
	return 0
}
