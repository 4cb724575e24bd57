package rtnl

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// attrType masks the nested and byte-order flags out of an attribute's type.
const attrType = 0x3fff

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// attrs walks the attributes in b and stops at the first malformed one.
func attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofRtAttr || n > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&attrType, b[unix.SizeofRtAttr:n]) {
				return
			}
			if n = align(n); n > len(b) {
				return
			}
			b = b[n:]
		}
	}
}

func cstring(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

// The getters tolerate short values, which a kernel never sends, by returning zero.

func getU8(b []byte) uint8 {
	if len(b) < 1 {
		return 0
	}
	return b[0]
}

func getU16(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(b)
}

func getU32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

func getBE16(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

func getAddr(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

func getMAC(b []byte) (m MAC) {
	if len(b) == len(m) {
		copy(m[:], b)
	}
	return m
}

// raw is a fixed header (ifinfomsg, ifaddrmsg, ...) already in wire form.
type raw []byte

func (r raw) Len() int          { return len(r) }
func (r raw) Serialize() []byte { return r }

func u8(kind int, v uint8) *nl.RtAttr   { return nl.NewRtAttr(kind, nl.Uint8Attr(v)) }
func u16(kind int, v uint16) *nl.RtAttr { return nl.NewRtAttr(kind, nl.Uint16Attr(v)) }
func u32(kind int, v uint32) *nl.RtAttr { return nl.NewRtAttr(kind, nl.Uint32Attr(v)) }
func be16(kind int, v uint16) *nl.RtAttr {
	return nl.NewRtAttr(kind, nl.BEUint16Attr(v))
}
func text(kind int, s string) *nl.RtAttr { return nl.NewRtAttr(kind, nl.ZeroTerminated(s)) }
func ip(kind int, a netip.Addr) *nl.RtAttr {
	return nl.NewRtAttr(kind, a.AsSlice())
}
func nested(kind int) *nl.RtAttr { return nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil) }

func flag(v bool) uint8 {
	if v {
		return 1
	}
	return 0
}

// putU8 and its brothers add an attribute when the optional value is set.

func putU8(to *nl.RtAttr, kind int, v *uint8) {
	if v != nil {
		to.AddChild(u8(kind, *v))
	}
}

func putFlag(to *nl.RtAttr, kind int, v *bool) {
	if v != nil {
		to.AddChild(u8(kind, flag(*v)))
	}
}

func putU16(to *nl.RtAttr, kind int, v *uint16) {
	if v != nil {
		to.AddChild(u16(kind, *v))
	}
}

func putU32(to *nl.RtAttr, kind int, v *uint32) {
	if v != nil {
		to.AddChild(u32(kind, *v))
	}
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
