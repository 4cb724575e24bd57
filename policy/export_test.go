package policy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/internal/nft"
)

// Interpret says what the rules of a Ruleset do with the first packet of a connection that is forwarded, as the kernel would.
func Interpret(r Ruleset, p Packet) bool {
	i := &interpreter{r: &r, packet: p, family: addrFamily(p.Src)}
	if r.Empty() {
		return true
	}
	done := i.chain("forward")
	return done != nft.Drop
}

type interpreter struct {
	r      *Ruleset
	packet Packet
	family int
	mark   uint32
	depth  int
}

// chain returns the verdict: Accept and Drop are final, Return is the chain's end.
func (i *interpreter) chain(name string) nft.VerdictCode {
	if i.depth++; i.depth > 20 {
		panic("the rules lead in a circle")
	}
	defer func() { i.depth-- }()
	c := i.r.chains[name]
	if c == nil {
		panic("no chain " + name)
	}
	for _, r := range c.rules {
		switch v, holds := i.rule(r); {
		case !holds:
		case v.Code == nft.Jump:
			if code := i.chain(v.Chain); code != nft.Return {
				return code
			}
		case v.Code == nft.Goto:
			return i.chain(v.Chain)
		default:
			return v.Code
		}
	}
	return nft.Return
}

// rule returns the verdict of a rule, if it has one and its conditions hold.
func (i *interpreter) rule(r nft.Rule) (nft.Verdict, bool) {
	for _, stmt := range r.Stmts {
		switch s := stmt.(type) {
		case nft.Verdict:
			return s, true
		case nft.VMap:
			key, ok := i.value(s.Key)
			if !ok {
				return nft.Verdict{}, false
			}
			name, ok := i.r.sets[s.Map.Name].elements[string(key)]
			return nft.Verdict{Code: nft.Goto, Chain: name}, ok
		case nft.Reject, nft.Prohibit:
			return nft.Verdict{Code: nft.Drop}, true
		default:
			if !i.holds(stmt) {
				return nft.Verdict{}, false
			}
		}
	}
	return nft.Verdict{}, false
}

func (i *interpreter) holds(stmt nft.Stmt) bool {
	switch s := stmt.(type) {
	case nft.In:
		key, ok := i.value(s.Key)
		return ok && i.member(i.r.sets[s.Set.Name], key) != s.Not
	case nft.Is:
		v, ok := i.value(s.Field)
		return ok && bytes.Equal(v, s.Value) != s.Not
	case nft.Within:
		v, ok := i.value(s.Field)
		return ok && slices.Equal(v, i.prefix(v, s))
	case nft.OnPort:
		v, ok := i.value(nft.ThDport)
		return ok && binary.BigEndian.Uint16(v) == uint16(s)
	case nft.Between:
		v, ok := i.value(s.Field)
		return ok && bytes.Compare(v, s.Lo) >= 0 && bytes.Compare(v, s.Hi) <= 0
	case nft.Bits:
		v, ok := i.value(s.Field)
		return ok && (v[0]&s.Mask == s.Value) != s.Not
	case nft.Any:
		return s.Field == nft.MetaMark && i.mark&s.Bits != 0 // nothing is known of the connection
	case nft.MaskedIs:
		v, ok := i.value(s.Of)
		return ok && binary.NativeEndian.Uint32(v) == s.Value
	case nft.PutMark:
		key, ok := i.value(s.Value.Key)
		if !ok {
			return false
		}
		n, ok := i.r.sets[s.Value.Map.Name].elements[string(key)]
		if ok {
			i.mark = i.mark&(1<<s.Shift-1) | binary.NativeEndian.Uint32([]byte(n))<<s.Shift
		}
		return ok
	case nft.ClearMark:
		i.mark &^= s.Bits
		return true
	case nft.CountFor:
		if set := i.r.sets[s.Set.Name]; set == nil || !set.def.Counted {
			panic("no counters " + s.Set.Name)
		}
		return true
	case nft.Count, nft.Limit, nft.Log:
		return true
	}
	panic(fmt.Sprintf("unknown statement %T", stmt))
}

// prefix returns v if it lies in the prefix of s.
func (i *interpreter) prefix(v []byte, s nft.Within) []byte {
	addr := i.packet.Src
	if bytes.Equal(v, i.packet.Dst.AsSlice()) && strings.Contains(s.Field.String(), "daddr") {
		addr = i.packet.Dst
	}
	if s.Prefix.Contains(addr) {
		return v
	}
	return nil
}

func (i *interpreter) member(s *set, key []byte) bool {
	if !s.def.Interval {
		_, ok := s.elements[string(key)]
		return ok
	}
	best, inside := "", false
	for k := range s.elements {
		end := len(k) == len(key)+1
		k = k[:len(key)]
		if k <= string(key) && (k > best || best == "" || k == best && !end) {
			best, inside = k, !end
		}
	}
	return inside
}

func (i *interpreter) value(e nft.Expr) ([]byte, bool) {
	switch e := e.(type) {
	case nft.Concat:
		var all []byte
		for _, part := range e {
			v, ok := i.value(part)
			if !ok {
				return nil, false
			}
			all = append(all, v...)
			for len(all)%4 != 0 {
				all = append(all, 0)
			}
		}
		return all, true
	case nft.Prefixed:
		v, ok := i.load(e.Of)
		if !ok {
			return nil, false
		}
		a, _ := netip.AddrFromSlice(v)
		return netip.PrefixFrom(a, e.Bits).Masked().Addr().AsSlice(), true
	case nft.Address:
		return e.AsSlice(), true
	case nft.Masked:
		return nft.AppendUint32(nil, i.mark&e.Mask), true
	case nft.Load:
		return i.load(e)
	}
	panic(fmt.Sprintf("unknown expression %T", e))
}

func (i *interpreter) load(l nft.Load) ([]byte, bool) {
	p := &i.packet
	switch l {
	case nft.IPSaddr, nft.IP6Saddr:
		return p.Src.AsSlice(), (l == nft.IPSaddr) == p.Src.Is4()
	case nft.IPDaddr, nft.IP6Daddr:
		return p.Dst.AsSlice(), (l == nft.IPDaddr) == p.Dst.Is4()
	case nft.ThDport:
		return portBytes(p.Port), true
	case nft.MetaL4Proto:
		if n, ok := p.Protocol.number(); ok {
			return []byte{n}, true
		}
		return []byte{[]byte{1, 58}[i.family]}, true
	case nft.MetaNFProto:
		return []byte{[]byte{byte(nft.FamilyIPv4), byte(nft.FamilyIPv6)}[i.family]}, true
	case nft.TCPFlags:
		return []byte{tcpSyn}, true
	case nft.ICMP6Type:
		return []byte{128}, i.family == six
	case nft.IP6HopLimit:
		return []byte{63}, i.family == six
	case nft.FibDaddrType, nft.FibSaddrType:
		return nft.AppendUint32(nil, 1), true // unicast, not local
	}
	panic("unknown field " + l.String())
}

// CompileAnyway compiles what Validate refuses too.
func CompileAnyway(c Config, s State) Ruleset { return CompileNarrow(c, 0, s) }

// CompileNarrow does it in a NarrowWorld.
func CompileNarrow(c Config, numbers uint32, s State) Ruleset {
	w := NarrowWorld(c, numbers).w
	w.change(Change{Set: s})
	if w.err != nil {
		panic(w.err)
	}
	return *w.rules
}

// World is a world to make changes in.
type World struct{ w *world }

// NewWorld returns an empty one.
func NewWorld(c Config) World { return NarrowWorld(c, 0) }

// NarrowWorld returns one with few numbers for peers, so that many want the same.
func NarrowWorld(c Config, numbers uint32) World {
	if err := c.complete(); err != nil {
		panic(err)
	}
	w := newWorld(&c)
	for f := range w.numbers {
		if numbers > 0 {
			w.numbers[f] = newSlots(numbers)
		}
	}
	return World{w}
}

// Gathered counts the entries that stand for rules with selectors.
func (w World) Gathered() (n int) {
	for _, use := range w.w.blocks {
		if use.members != nil {
			n += len(use.entries)
		}
	}
	return n
}

// Change makes a change and returns its Plan.
func (w World) Change(c Change) Plan {
	_, p := w.w.journalled(c)
	return p
}

// Ruleset returns what the world compiles to, Evaluator its Evaluator.
func (w World) Ruleset() Ruleset      { return *w.w.rules }
func (w World) Evaluator() *Evaluator { return w.w.ev }

// Fits says that a plan begins at a Ruleset; Applied is the Ruleset where it leads.
func Fits(p Plan, r Ruleset) bool           { return p.fits(&r) }
func Applied(p Plan, r Ruleset) (s Ruleset) { return p.applied(&r) }
