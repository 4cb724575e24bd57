package nft

import (
	"encoding/binary"
)

// Userdata is bytes that the kernel keeps for user space: records of a type
// byte, a length byte and a value. The numbers are those of libnftnl's
// udata.h and nft's sources; numbers in values are in host byte order.
const (
	udTableComment = 0
	udRuleComment  = 0
	udElemComment  = 0

	udSetKeyByteOrder  = 0
	udSetDataByteOrder = 1
	udSetKeyTypeof     = 3
	udSetDataTypeof    = 4
	udSetDataInterval  = 6
	udSetComment       = 7

	// udStamp and udExtra are ours; nft ignores types it does not know.
	udStamp = 0xa5
	udExtra = 0xa6
)

const (
	byteOrderHost = 1
	byteOrderBig  = 2
)

// nft's numbers of expressions (enum expr_types).
const (
	exprPayload = 7
	exprMeta    = 9
	exprConcat  = 13
	exprNumgen  = 23
)

func udata(b []byte, typ byte, value []byte) []byte {
	return append(append(b, typ, byte(len(value))), value...)
}

func udataString(b []byte, typ byte, s string) []byte {
	if s == "" {
		return b
	}
	return append(append(append(b, typ, byte(len(s)+1)), s...), 0)
}

func udataUint32(b []byte, typ byte, n uint32) []byte {
	return udata(b, typ, binary.NativeEndian.AppendUint32(nil, n))
}

// findUdata returns the value of the first record of a type.
func findUdata(b []byte, typ byte) ([]byte, bool) {
	for len(b) >= 2 {
		n := int(b[1])
		if len(b) < 2+n {
			return nil, false
		}
		if b[0] == typ {
			return b[2 : 2+n], true
		}
		b = b[2+n:]
	}
	return nil, false
}

func findUdataString(b []byte, typ byte) string {
	v, ok := findUdata(b, typ)
	if !ok || len(v) == 0 {
		return ""
	}
	return string(v[:len(v)-1])
}

// userdata describes the set so that nft lists keys and values as what they
// are.
func (s *Set) userdata() []byte {
	b := udataUint32(nil, udSetKeyByteOrder, byteOrder(s.Key))
	if s.Map() {
		b = udataUint32(b, udSetDataByteOrder, byteOrder(s.Data))
	}
	if s.DataRange {
		b = udataUint32(b, udSetDataInterval, 1)
	} else if t, ok := typeof(Concat(s.Key)); ok {
		if d, ok := typeof(Concat(s.Data)); ok || s.Verdict {
			b = udata(b, udSetKeyTypeof, t)
			if len(s.Data) > 0 {
				b = udata(b, udSetDataTypeof, d)
			}
		}
	}
	return udataString(b, udSetComment, s.Comment)
}

func byteOrder(list []Expr) uint32 {
	types := concatTypes(list)
	if len(types) != 1 {
		return 0
	}
	if types[0].host {
		return byteOrderHost
	}
	return byteOrderBig
}

// typeof encodes an expression for nft; false says that nft 1.0.6 cannot
// read it there.
func typeof(e Expr) ([]byte, bool) {
	kind, value := uint32(0), []byte(nil)
	switch e := e.(type) {
	case Concat:
		if len(e) == 0 {
			return nil, true
		}
		if len(e) == 1 {
			return typeof(e[0])
		}
		kind = exprConcat
		for i, part := range e {
			p, ok := typeof(part)
			if !ok {
				return nil, false
			}
			value = udata(value, byte(i), p)
		}
	case Random:
		kind = exprNumgen
		value = udataUint32(value, 0, 1)
		value = udataUint32(value, 1, uint32(e))
		value = udataUint32(value, 2, 0)
	case Load:
		switch e.source {
		case payload:
			kind = exprPayload
			value = udataUint32(value, 0, e.desc)
			value = udataUint32(value, 1, e.field)
		case meta:
			kind = exprMeta
			value = udataUint32(value, 0, e.arg)
		default:
			return nil, false
		}
	default:
		return nil, false
	}
	return udata(udataUint32(nil, 0, kind), 1, value), true
}
