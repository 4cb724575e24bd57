package nft

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Registers are counted in four-byte words; the first of 16 is firstWord.
const (
	firstWord   = unix.NFT_REG32_00
	verdictWord = unix.NFT_REG_VERDICT
)

// lower appends a rule's expressions to w as list elements.
func (l *lowering) lower(w *wire, family Family, r *Rule) error {
	*l = lowering{w: w, family: family}
	if f := r.family(); f != 0 && family == FamilyInet {
		l.meta(MetaNFProto.arg, firstWord)
		l.cmp(expr.CmpOpEq, firstWord, []byte{byte(f)})
	}
	for _, s := range r.Stmts {
		l.stmt(s)
	}
	if l.err != nil {
		return fmt.Errorf("rule %s: %w", r, l.err)
	}
	return nil
}

type lowering struct {
	w      *wire
	family Family
	err    error

	held  [16]Expr // what of a packet registers hold, by the first word
	reuse bool     // what is held is not loaded again
}

// holds says that a register need not be loaded with e.
func (l *lowering) holds(e Expr, reg uint32) bool { return l.reuse && l.held[reg-firstWord] == e }

// writes notes that words of registers get another value.
func (l *lowering) writes(reg uint32, size int) {
	first := int(reg) - firstWord
	for i := range l.held {
		if e := l.held[i]; e != nil && i < first+(size+3)/4 && i+int(words(e)) > first {
			l.held[i] = nil
		}
	}
}

func (l *lowering) add(e expr.Any) {
	l.held = [16]Expr{} // whichever register e writes to
	b, err := expr.Marshal(byte(l.family), e)
	if err != nil && l.err == nil {
		l.err = err
	}
	l.w.bytes(unix.NFTA_LIST_ELEM|nested, b)
}

func (l *lowering) stmt(s Stmt) {
	const reg = firstWord
	switch s := s.(type) {
	case In:
		l.expr(s.Key, reg)
		l.lookup(s.Set.Name, reg, s.Not)
	case Is:
		l.load(s.Field, reg)
		op := expr.CmpOpEq
		if s.Not {
			op = expr.CmpOpNeq
		}
		l.cmp(op, reg, s.Value)
	case MaskedIs:
		l.masked(s.Of, reg)
		l.cmp(expr.CmpOpEq, reg, binary.NativeEndian.AppendUint32(nil, s.Value))
	case Within:
		l.within(s, reg)
	case Any:
		l.masked(Masked{Of: s.Field, Mask: s.Bits}, reg)
		l.cmp(expr.CmpOpNeq, reg, make([]byte, 4))
	case Verdict:
		l.verdict(s)
	case VMap:
		l.expr(s.Key, reg)
		l.lookup(s.Map.Name, reg, false, verdictWord)
	case ClearMark:
		l.masked(Masked{Of: MetaMark, Mask: ^s.Bits}, reg)
		l.putMeta(MetaMark.arg, reg)
	case PutMark:
		l.putMark(s)
	case DNAT:
		l.dnat(s)
	case SNAT:
		l.snat(s)
	case Redirect:
		l.redirect(s)
	case Rewrite:
		l.rewrite(s)
	case Learn:
		data := l.expr(s.Key, reg)
		l.expr(s.Data, data)
		l.add(&expr.Dynset{
			SrcRegKey: reg, SrcRegData: data, SetName: s.Map.Name,
			Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: s.Timeout,
		})
	case Masquerade:
		l.add(&expr.Masq{FullyRandom: true})
	case Reject:
		e := &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}
		if s.Reset {
			e = &expr.Reject{Type: unix.NFT_REJECT_TCP_RST}
		}
		l.add(e)
	case OnPort:
		l.payload(ThDport, reg, Port.size)
		l.cmp(expr.CmpOpEq, reg, binary.BigEndian.AppendUint16(nil, uint16(s)))
	case Count:
		l.count(s.Counter)
	case CountFor:
		l.reuse = true
		l.expr(s.Key, reg)
		l.reuse = false
		l.countFor(s.Set.Name, reg)
	case filtering:
		s.lower(l, reg)
	default:
		l.err = fmt.Errorf("unknown statement %T", s)
	}
}

// putMark stores value << shift into the mark and keeps the mark's low bits.
// The kernel before 6.13 cannot combine two registers by "or", but a left
// shift of two words moves the high bits of the second into the first: the
// words are the value and the mark's low bits, shifted up before.
func (l *lowering) putMark(s PutMark) {
	const value, low = firstWord, firstWord + 1
	l.expr(s.Value, value)
	if s.Shift > 0 {
		l.load(MetaMark, low)
		l.shift(low, 4, 32-uint32(s.Shift))
		l.shift(value, 8, uint32(s.Shift))
	}
	l.putMeta(MetaMark.arg, value)
}

// shift shifts size bytes of registers left. google/nftables has no shifts.
func (l *lowering) shift(reg, size, bits uint32) {
	l.writes(reg, int(size))
	at, data := l.begin("bitwise")
	l.w.uint32(unix.NFTA_BITWISE_SREG, reg)
	l.w.uint32(unix.NFTA_BITWISE_DREG, reg)
	l.w.uint32(unix.NFTA_BITWISE_LEN, size)
	l.w.uint32(bitwiseOp, bitwiseLshift)
	l.value(bitwiseData, binary.NativeEndian.AppendUint32(nil, bits))
	l.end(at, data)
}

// From linux/netfilter/nf_tables.h; x/sys/unix lacks them.
const (
	bitwiseOp     = 6 // NFTA_BITWISE_OP
	bitwiseData   = 7 // NFTA_BITWISE_DATA
	bitwiseLshift = 1 // NFT_BITWISE_LSHIFT
)

func (l *lowering) dnat(s DNAT) {
	types := s.To.types()
	if len(types) != 2 || types[1] != Port {
		l.err = fmt.Errorf("dnat to %s: not an address and a port", s.To)
		return
	}
	family := uint32(unix.NFPROTO_IPV4)
	if types[0] == Addr6 {
		family = unix.NFPROTO_IPV6
	}
	l.expr(s.To, firstWord)
	l.add(&expr.NAT{
		Type: expr.NATTypeDestNAT, Family: family,
		RegAddrMin: firstWord, RegProtoMin: firstWord + uint32(types[0].size)/4,
	})
}

func (l *lowering) snat(s SNAT) {
	types := s.From.types()
	if !s.From.Map.DataRange || len(types) != 2 && (len(types) != 4 || types[1] != Port) {
		l.err = fmt.Errorf("snat to %s: not a range of addresses, with ports or without", s.From)
		return
	}
	e := &expr.NAT{
		Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, FullyRandom: s.Random, Persistent: s.Persistent,
		RegAddrMin: firstWord,
	}
	if types[0] == Addr6 {
		e.Family = unix.NFPROTO_IPV6
	}
	addr := uint32(types[0].size) / 4
	e.RegAddrMax = firstWord + addr
	if len(types) == 4 {
		e.RegProtoMin = firstWord + addr
		e.RegAddrMax = e.RegProtoMin + 1
		e.RegProtoMax = e.RegAddrMax + addr
	}
	l.expr(s.From, firstWord)
	l.add(e)
}

func (l *lowering) redirect(s Redirect) {
	if types := s.To.types(); len(types) != 1 || types[0] != Port {
		l.err = fmt.Errorf("redirect to %s: not a port", s.To)
		return
	}
	l.expr(s.To, firstWord)
	l.add(&expr.Redir{RegisterProtoMin: firstWord, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED})
}

// rewrite keeps the checksums right: that of the header, where there is one,
// and those of protocols that cover the addresses.
func (l *lowering) rewrite(s Rewrite) {
	if s.Field.source != payload || s.Field.arg != networkHeader {
		l.err = fmt.Errorf("rewriting %s: not an address in the header", s.Field)
		return
	}
	l.expr(s.Value, firstWord)
	e := &expr.Payload{
		OperationType: expr.PayloadWrite, SourceRegister: firstWord, Base: expr.PayloadBaseNetworkHeader,
		Offset: s.Field.arg2, Len: uint32(s.Field.typ.size), CsumFlags: unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR,
	}
	if s.Field.typ == Addr4 {
		const offset = 10 // of the IPv4 header's checksum
		e.CsumType, e.CsumOffset = expr.CsumTypeInet, offset
	}
	l.add(e)
}

// expr computes e into the words from reg on and returns the next free word.
func (l *lowering) expr(e Expr, reg uint32) uint32 {
	switch e := e.(type) {
	case Load:
		l.load(e, reg)
		return reg + words(e)
	case Concat:
		for _, part := range e {
			reg = l.expr(part, reg)
		}
		return reg
	case Random:
		l.add(&expr.Numgen{Register: reg, Modulus: uint32(e), Type: unix.NFT_NG_RANDOM})
		return reg + 1
	case Drawn:
		kind := uint32(unix.NFT_NG_RANDOM)
		if e.InTurn {
			kind = unix.NFT_NG_INCREMENTAL
		}
		l.add(&expr.Numgen{Register: reg, Modulus: e.Mod, Offset: e.Offset, Type: kind})
		return reg + 1
	case Masked:
		l.masked(e, reg)
		return reg + 1
	case Hashed:
		l.load(e.Of, reg)
		l.add(&expr.Hash{
			SourceRegister: reg, DestRegister: reg, Length: uint32(e.Of.typ.size),
			Modulus: e.Mod, Seed: e.Seed, Offset: e.Offset, Type: expr.HashTypeJenkins,
		})
		return reg + 1
	case Prefixed:
		l.prefixed(e, reg)
		return reg + words(e)
	case Address:
		l.immediate(reg, e.AsSlice())
		return reg + words(e)
	case Zeroed:
		zero := make([]byte, e.Of.typ.size)
		l.load(e.Of, reg)
		l.and(reg, zero)
		return reg + words(e)
	case Mapped:
		l.expr(e.Key, reg)
		l.lookup(e.Map.Name, reg, false, reg)
		l.writes(reg, 4*int(words(e)))
		return reg + words(e)
	}
	l.err = fmt.Errorf("unknown expression %T", e)
	return reg
}

func words(e Expr) uint32 {
	switch e := e.(type) { // most are: without making a list
	case Load:
		return uint32(e.typ.padded() / 4)
	case Prefixed:
		return uint32(e.Of.typ.padded() / 4)
	case Address:
		return uint32(e.BitLen() / 32)
	case Mapped:
		if len(e.Map.Data) == 1 && !e.Map.DataRange {
			return words(e.Map.Data[0])
		}
	}
	n := 0
	for _, t := range e.types() {
		n += t.padded() / 4
	}
	return uint32(n)
}
