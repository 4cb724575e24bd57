package nft

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The expressions that most rules consist of are written straight into the
// message: a ruleset of ten thousand rules has a hundred thousand of them.

// begin opens an expression and its data, which end closes.
func (l *lowering) begin(name string) (at, data int) {
	at = l.w.open(unix.NFTA_LIST_ELEM)
	l.w.string(unix.NFTA_EXPR_NAME, name)
	return at, l.w.open(unix.NFTA_EXPR_DATA)
}

func (l *lowering) end(at, data int) {
	l.w.close(data)
	l.w.close(at)
}

// value writes bytes as an attribute of a kind that holds data.
func (l *lowering) value(typ uint16, b []byte) {
	at := l.w.open(typ)
	l.w.bytes(unix.NFTA_DATA_VALUE, b)
	l.w.close(at)
}

func (l *lowering) cmp(op expr.CmpOp, reg uint32, b []byte) {
	at, data := l.begin("cmp")
	l.w.uint32(unix.NFTA_CMP_SREG, reg)
	l.w.uint32(unix.NFTA_CMP_OP, uint32(op))
	l.value(unix.NFTA_CMP_DATA, b)
	l.end(at, data)
}

func (l *lowering) payload(f Load, reg uint32, size int) {
	l.writes(reg, size)
	base := uint32(unix.NFT_PAYLOAD_NETWORK_HEADER)
	if f.arg == transportHeader {
		base = unix.NFT_PAYLOAD_TRANSPORT_HEADER
	}
	at, data := l.begin("payload")
	l.w.uint32(unix.NFTA_PAYLOAD_DREG, reg)
	l.w.uint32(unix.NFTA_PAYLOAD_BASE, base)
	l.w.uint32(unix.NFTA_PAYLOAD_OFFSET, f.arg2)
	l.w.uint32(unix.NFTA_PAYLOAD_LEN, uint32(size))
	l.end(at, data)
}

func (l *lowering) meta(key, reg uint32) {
	at, data := l.begin("meta")
	l.w.uint32(unix.NFTA_META_KEY, key)
	l.w.uint32(unix.NFTA_META_DREG, reg)
	l.end(at, data)
}

func (l *lowering) putMeta(key, reg uint32) {
	at, data := l.begin("meta")
	l.w.uint32(unix.NFTA_META_KEY, key)
	l.w.uint32(unix.NFTA_META_SREG, reg)
	l.end(at, data)
}

// lookup looks a key up; a map's value or verdict goes to the register to,
// which is none for a set.
func (l *lowering) lookup(set string, from uint32, not bool, to ...uint32) {
	at, data := l.begin("lookup")
	l.w.string(unix.NFTA_LOOKUP_SET, set)
	l.w.uint32(unix.NFTA_LOOKUP_SREG, from)
	for _, reg := range to {
		l.w.uint32(unix.NFTA_LOOKUP_DREG, reg)
	}
	if not {
		l.w.uint32(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV)
	}
	l.end(at, data)
}

// and keeps those bits of a register that mask has.
func (l *lowering) and(reg uint32, mask []byte) {
	l.writes(reg, len(mask))
	var none [16]byte
	at, data := l.begin("bitwise")
	l.w.uint32(unix.NFTA_BITWISE_SREG, reg)
	l.w.uint32(unix.NFTA_BITWISE_DREG, reg)
	l.w.uint32(unix.NFTA_BITWISE_LEN, uint32(len(mask)))
	l.value(unix.NFTA_BITWISE_MASK, mask)
	l.value(unix.NFTA_BITWISE_XOR, none[:len(mask)])
	l.end(at, data)
}

func (l *lowering) verdict(v Verdict) {
	at, data := l.begin("immediate")
	l.w.uint32(unix.NFTA_IMMEDIATE_DREG, verdictWord)
	d := l.w.open(unix.NFTA_IMMEDIATE_DATA)
	l.w.verdict(v)
	l.w.close(d)
	l.end(at, data)
}

func (w *wire) verdict(v Verdict) {
	at := w.open(unix.NFTA_DATA_VERDICT)
	w.uint32(unix.NFTA_VERDICT_CODE, uint32(v.Code))
	if v.Chain != "" {
		w.string(unix.NFTA_VERDICT_CHAIN, v.Chain)
	}
	w.close(at)
}

func (l *lowering) count(counter string) {
	at, data := l.begin("objref")
	l.w.uint32(unix.NFTA_OBJREF_IMM_TYPE, objectCounter)
	l.w.string(unix.NFTA_OBJREF_IMM_NAME, counter)
	l.end(at, data)
}

// countFor counts in the element of a set that has the key in a register.
func (l *lowering) countFor(set string, from uint32) {
	at, data := l.begin("dynset")
	l.w.string(unix.NFTA_DYNSET_SET_NAME, set)
	l.w.uint32(unix.NFTA_DYNSET_OP, unix.NFT_DYNSET_OP_UPDATE)
	l.w.uint32(unix.NFTA_DYNSET_SREG_KEY, from)
	x := l.w.open(unix.NFTA_DYNSET_EXPR)
	l.w.string(unix.NFTA_EXPR_NAME, "counter")
	l.w.close(l.w.open(unix.NFTA_EXPR_DATA))
	l.w.close(x)
	l.end(at, data)
}

func (l *lowering) immediate(reg uint32, b []byte) {
	l.writes(reg, len(b))
	at, data := l.begin("immediate")
	l.w.uint32(unix.NFTA_IMMEDIATE_DREG, reg)
	l.value(unix.NFTA_IMMEDIATE_DATA, b)
	l.end(at, data)
}

// prefixed loads the bits of an address that a prefix covers. The kernel
// fills up the last four bytes with zeros.
func (l *lowering) prefixed(p Prefixed, reg uint32) {
	if l.holds(p, reg) {
		return
	}
	if p.Bits%8 == 0 && p.Bits > 8*(p.Of.typ.size-4) {
		l.payload(p.Of, reg, p.Bits/8)
	} else {
		l.load(p.Of, reg)
		l.and(reg, prefixMask(netip.PrefixFrom(netip.IPv6Unspecified(), p.Bits))[:p.Of.typ.size])
	}
	l.held[reg-firstWord] = p
}

// within compares the bytes of an address that a prefix covers whole; only a
// prefix that ends within a byte needs a mask.
func (l *lowering) within(s Within, reg uint32) {
	want := s.Prefix.Masked().Addr().AsSlice()
	if bits := s.Prefix.Bits(); bits > 0 && bits%8 == 0 && s.Field.source == payload {
		l.payload(s.Field, reg, bits/8)
		l.cmp(expr.CmpOpEq, reg, want[:bits/8])
		return
	}
	l.load(s.Field, reg)
	l.and(reg, prefixMask(s.Prefix))
	l.cmp(expr.CmpOpEq, reg, want)
}

func (l *lowering) masked(m Masked, reg uint32) {
	l.load(m.Of, reg)
	l.and(reg, binary.NativeEndian.AppendUint32(nil, m.Mask))
}

func (l *lowering) load(f Load, reg uint32) {
	if l.holds(f, reg) {
		return
	}
	l.writes(reg, f.typ.size)
	switch f.source {
	case payload:
		l.payload(f, reg, f.typ.size)
	case meta:
		l.meta(f.arg, reg)
	case conntrack:
		l.conntrack(f, reg)
	case fib:
		l.add(&expr.Fib{
			Register: reg, FlagDADDR: f.arg&unix.NFTA_FIB_F_DADDR != 0, FlagSADDR: f.arg&unix.NFTA_FIB_F_SADDR != 0,
			ResultADDRTYPE: f.arg2 == unix.NFT_FIB_RESULT_ADDRTYPE,
		})
	}
	if f != MetaMark { // which rules change
		l.held[reg-firstWord] = f
	}
}

// conntrack is written here because a direction of "original", which is
// zero, must be sent for the fields that have one and must not for others.
func (l *lowering) conntrack(f Load, reg uint32) {
	at, data := l.begin("ct")
	l.w.uint32(unix.NFTA_CT_DREG, reg)
	l.w.uint32(unix.NFTA_CT_KEY, f.arg)
	if f.arg2 != noDirection {
		l.w.bytes(unix.NFTA_CT_DIRECTION, []byte{byte(f.arg2)})
	}
	l.end(at, data)
}

func prefixMask(p netip.Prefix) []byte {
	mask := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}
