package nft

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
)

// An Expr is something that a rule computes from a packet.
type Expr interface {
	String() string
	// types lists the data types of the value, more than one for a
	// concatenation.
	types() []Type
	// family is the network protocol that a packet must have: 0 for any,
	// else FamilyIPv4 or FamilyIPv6.
	family() Family
}

// A Load reads a field of the packet or of what the kernel knows about it.
type Load struct{ *load }

type load struct {
	text   string
	typ    Type
	source source
	// arg and arg2 depend on the source: payload base and offset, meta or
	// conntrack key and direction, fib flags and result.
	arg, arg2 uint32
	fam       Family
	// desc and field are nft's numbers for a payload field in typeof.
	desc, field uint32
}

type source uint8

const (
	payload source = iota
	meta
	conntrack
	fib
)

// Payload bases (NFT_PAYLOAD_*).
const (
	networkHeader   = 1
	transportHeader = 2
)

// nft's numbers of protocol descriptions (enum proto_desc_id).
const (
	descTh  = 11
	descIP  = 12
	descIP6 = 13
)

// The fields, named as nft names them.
var (
	IPSaddr  = Load{&load{"ip saddr", Addr4, payload, networkHeader, 12, FamilyIPv4, descIP, 11}}
	IPDaddr  = Load{&load{"ip daddr", Addr4, payload, networkHeader, 16, FamilyIPv4, descIP, 12}}
	IP6Saddr = Load{&load{"ip6 saddr", Addr6, payload, networkHeader, 8, FamilyIPv6, descIP6, 8}}
	IP6Daddr = Load{&load{"ip6 daddr", Addr6, payload, networkHeader, 24, FamilyIPv6, descIP6, 9}}
	ThSport  = Load{&load{"th sport", Port, payload, transportHeader, 0, 0, descTh, 1}}
	ThDport  = Load{&load{"th dport", Port, payload, transportHeader, 2, 0, descTh, 2}}

	MetaMark     = Load{&load{"meta mark", MarkType, meta, 3, 0, 0, 0, 0}}
	MetaIifname  = Load{&load{"iifname", IfName, meta, 6, 0, 0, 0, 0}}
	MetaOifname  = Load{&load{"oifname", IfName, meta, 7, 0, 0, 0, 0}}
	MetaIiftype  = Load{&load{"meta iiftype", LinkType, meta, 8, 0, 0, 0, 0}}
	MetaSkuid    = Load{&load{"meta skuid", UserID, meta, 10, 0, 0, 0, 0}}
	MetaSkgid    = Load{&load{"meta skgid", GroupID, meta, 11, 0, 0, 0, 0}}
	MetaNFProto  = Load{&load{"meta nfproto", NFProto, meta, 15, 0, 0, 0, 0}}
	MetaL4Proto  = Load{&load{"meta l4proto", InetProto, meta, 16, 0, 0, 0, 0}}
	CTStateField = Load{&load{"ct state", CTState, conntrack, 0, noDirection, 0, 0, 0}}
	CTStatusBits = Load{&load{"ct status", CTStatus, conntrack, 2, noDirection, 0, 0, 0}}

	CTDirection    = Load{&load{"ct direction", CTDir, conntrack, 1, noDirection, 0, 0, 0}}
	CTOrigSaddr4   = Load{&load{"ct original ip saddr", Addr4, conntrack, 19, 0, FamilyIPv4, 0, 0}}
	CTOrigSaddr6   = Load{&load{"ct original ip6 saddr", Addr6, conntrack, 21, 0, FamilyIPv6, 0, 0}}
	CTOrigDaddr4   = Load{&load{"ct original ip daddr", Addr4, conntrack, 20, 0, FamilyIPv4, 0, 0}}
	CTOrigDaddr6   = Load{&load{"ct original ip6 daddr", Addr6, conntrack, 22, 0, FamilyIPv6, 0, 0}}
	CTOrigProtoDst = Load{&load{"ct original proto-dst", Port, conntrack, 12, 0, 0, 0, 0}}

	FibSaddrType = Load{&load{"fib saddr type", FibType, fib, 1 << 0, 3, 0, 0, 0}}
	FibDaddrType = Load{&load{"fib daddr type", FibType, fib, 1 << 1, 3, 0, 0, 0}}
)

const noDirection = 0xff

func (l Load) String() string           { return l.text }
func (l Load) appendTo(b []byte) []byte { return append(b, l.text...) }
func (l Load) types() []Type            { return []Type{l.typ} }
func (l Load) family() Family           { return l.fam }

// Concat joins expressions into one key.
type Concat []Expr

func (c Concat) String() string { return string(c.appendTo(nil)) }

func (c Concat) appendTo(b []byte) []byte {
	for i, e := range c {
		if i > 0 {
			b = append(b, " . "...)
		}
		b = appendText(b, e)
	}
	return b
}

func (c Concat) types() []Type {
	var t []Type
	for _, e := range c {
		t = append(t, e.types()...)
	}
	return t
}

func (c Concat) family() Family {
	for _, e := range c {
		if f := e.family(); f != 0 {
			return f
		}
	}
	return 0
}

// Random is a random number below its value.
type Random uint32

func (r Random) String() string { return fmt.Sprintf("numgen random mod %d", uint32(r)) }
func (Random) types() []Type    { return []Type{Integer} }
func (Random) family() Family   { return 0 }

// Drawn is a number from Offset on and below Offset+Mod: a random one, or with
// InTurn the one after the last that the rule drew.
type Drawn struct {
	Mod, Offset uint32
	InTurn      bool
}

func (d Drawn) String() string {
	kind := "random"
	if d.InTurn {
		kind = "inc"
	}
	return fmt.Sprintf("numgen %s mod %d%s", kind, d.Mod, offset(d.Offset))
}
func (Drawn) types() []Type  { return []Type{Integer} }
func (Drawn) family() Family { return 0 }

func offset(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" offset %d", n)
}

// Hashed is a number from Offset on and below Offset+Mod that depends only on
// a field and the seed.
type Hashed struct {
	Of                Load
	Mod, Seed, Offset uint32
}

func (h Hashed) String() string {
	return fmt.Sprintf("jhash %s mod %d seed 0x%x%s", h.Of, h.Mod, h.Seed, offset(h.Offset))
}
func (Hashed) types() []Type    { return []Type{Integer} }
func (h Hashed) family() Family { return h.Of.fam }

// Address is an address that does not depend on the packet.
type Address struct{ netip.Addr }

func (a Address) appendTo(b []byte) []byte { return a.AppendTo(b) }

func (a Address) types() []Type {
	if a.Is4() {
		return []Type{Addr4}
	}
	return []Type{Addr6}
}
func (Address) family() Family { return 0 }

// Prefixed is the first bits of an address field; the others are zero.
type Prefixed struct {
	Of   Load
	Bits int
}

func (p Prefixed) String() string { return string(p.appendTo(nil)) }

func (p Prefixed) appendTo(b []byte) []byte {
	return strconv.AppendInt(append(p.Of.appendTo(b), " & /"...), int64(p.Bits), 10)
}
func (p Prefixed) types() []Type  { return p.Of.types() }
func (p Prefixed) family() Family { return p.Of.fam }

// Mapped is the value that a map holds for a key.
type Mapped struct {
	Key Expr
	Map *Set
}

func (m Mapped) String() string { return string(m.appendTo(nil)) }

func (m Mapped) appendTo(b []byte) []byte {
	return append(append(appendText(b, m.Key), " map @"...), m.Map.Name...)
}
func (m Mapped) types() []Type  { return m.Map.dataTypes() }
func (m Mapped) family() Family { return m.Key.family() }

// Masked is the bits of a four-byte value in host byte order that Mask has.
type Masked struct {
	Of   Load
	Mask uint32
}

func (m Masked) String() string { return string(m.appendTo(nil)) }

func (m Masked) appendTo(b []byte) []byte {
	return appendHex(append(m.Of.appendTo(b), " & "...), m.Mask)
}

// appendHex appends a number of four bytes as nft prints it.
func appendHex(b []byte, n uint32) []byte {
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], n)
	return hex.AppendEncode(append(b, "0x"...), raw[:])
}
func (m Masked) types() []Type  { return m.Of.types() }
func (m Masked) family() Family { return m.Of.fam }

// Zeroed is a field with all its bits cleared: a constant of the field's type
// in a key that otherwise has the field.
type Zeroed struct{ Of Load }

func (z Zeroed) String() string {
	if z.Of.typ == Addr6 {
		return z.Of.text + " & ::"
	}
	return z.Of.text + " & 0.0.0.0"
}
func (z Zeroed) types() []Type  { return z.Of.types() }
func (z Zeroed) family() Family { return z.Of.fam }

func concatTypes(list []Expr) []Type { return Concat(list).types() }

// size is the number of bytes that a value takes: concatenated parts are
// padded to four each.
func size(types []Type) int {
	if len(types) == 1 {
		return types[0].size
	}
	n := 0
	for _, t := range types {
		n += t.padded()
	}
	return n
}
