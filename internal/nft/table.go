package nft

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strings"
)

// Family is a netfilter protocol family by its number in the kernel.
type Family uint8

// The families.
const (
	FamilyInet   Family = 1
	FamilyIPv4   Family = 2
	FamilyNetdev Family = 5
	FamilyBridge Family = 7
	FamilyIPv6   Family = 10
)

func (f Family) String() string {
	switch f {
	case FamilyInet:
		return "inet"
	case FamilyIPv4:
		return "ip"
	case FamilyNetdev:
		return "netdev"
	case FamilyBridge:
		return "bridge"
	case FamilyIPv6:
		return "ip6"
	}
	return fmt.Sprintf("family(%d)", f)
}

// A Table is the fixed part of a ruleset. What changes lives in the elements
// of its sets and maps.
type Table struct {
	Family  Family
	Name    string
	Comment string // shown by nft, followed by the stamp
	// Owned gives the table to the socket that creates it and lets it
	// outlive the socket (flags owner and persist), where the kernel can.
	Owned  bool
	Sets   []*Set
	Chains []*Chain
}

// A Chain is a list of rules; with a Hook the kernel calls it.
type Chain struct {
	Name  string
	Hook  *Hook
	Rules []Rule
}

// A Hook is where and when the kernel calls a chain.
type Hook struct {
	Type     string // filter, nat, route
	Point    HookPoint
	Priority int32
}

// HookPoint is a place in the path of a packet by its number in the kernel
// (NF_INET_*).
type HookPoint uint32

// The hook points.
const (
	Prerouting HookPoint = iota
	Input
	Forward
	Output
	Postrouting
)

func (h HookPoint) String() string {
	if int(h) < len(hookNames) {
		return hookNames[h]
	}
	return fmt.Sprintf("hook(%d)", uint32(h))
}

var hookNames = [...]string{"prerouting", "input", "forward", "output", "postrouting"}

// A Set is a named set, or with Data or Verdict a map.
type Set struct {
	Name    string
	Key     []Expr // what a key is, as in nft's typeof
	Data    []Expr // what a value is
	Verdict bool   // values are verdicts
	// DataRange makes values ranges: Data twice, the first and the last.
	DataRange bool

	Interval bool // elements are ranges
	// Dynamic lets rules add elements, which expire. Size bounds them.
	Dynamic bool
	Size    uint32
	// Counted lets rules add elements, which count and stay (see CountFor).
	Counted bool
	Comment string
}

// Map says that elements have values.
func (s *Set) Map() bool { return s.Verdict || len(s.Data) > 0 }

func (s *Set) dataTypes() []Type {
	types := concatTypes(s.Data)
	if s.DataRange {
		types = append(types, types...)
	}
	return types
}

func (s *Set) String() string {
	var b strings.Builder
	kind := "set"
	if s.Map() {
		kind = "map"
	}
	fmt.Fprintf(&b, "\t%s %s {\n\t\ttypeof %s", kind, s.Name, Concat(s.Key))
	if s.Verdict {
		b.WriteString(" : verdict")
	} else if s.Map() {
		b.WriteString(" : ")
		if s.DataRange {
			b.WriteString("interval ")
		}
		b.WriteString(Concat(s.Data).String())
	}
	b.WriteString("\n")
	if s.Interval {
		b.WriteString("\t\tflags interval\n")
	}
	if s.Size > 0 {
		fmt.Fprintf(&b, "\t\tsize %d\n", s.Size)
	}
	if s.Dynamic {
		b.WriteString("\t\tflags dynamic,timeout\n")
	}
	if s.Counted {
		b.WriteString("\t\tflags dynamic\n")
	}
	if s.Comment != "" {
		fmt.Fprintf(&b, "\t\tcomment %q\n", s.Comment)
	}
	b.WriteString("\t}\n")
	return b.String()
}

// String prints the table in the manner of nft.
func (t *Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", t.Family, t.Name)
	if t.Comment != "" {
		fmt.Fprintf(&b, "\tcomment %q\n", t.Comment)
	}
	for _, s := range t.Sets {
		b.WriteString(s.String())
	}
	for _, c := range t.Chains {
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		if h := c.Hook; h != nil {
			fmt.Fprintf(&b, "\t\ttype %s hook %s priority %d;\n", h.Type, h.Point, h.Priority)
		}
		for _, r := range c.Rules {
			b.WriteString("\t\t" + r.String() + "\n")
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// Stamp identifies the table's text. Two tables of the same stamp have the
// same sets, chains and rules.
func (t *Table) Stamp() uint64 { return stamp(t.String()) }

func (r *Rule) stamp() uint64 {
	if r.seal != (Seal{}) {
		return binary.BigEndian.Uint64(r.seal[:])
	}
	return stamp(r.String())
}

func stamp(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text))
	return h.Sum64()
}
