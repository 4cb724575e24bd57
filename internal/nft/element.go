package nft

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// An Element is a member of a set or map. Key and Data are bytes as the
// kernel compares them: network byte order for addresses, ports and
// protocols, host byte order for numbers and marks, each part of a
// concatenation padded to four bytes.
type Element struct {
	Key     []byte
	KeyEnd  []byte // last key of a range, in interval sets of concatenations
	Data    []byte
	Verdict *Verdict // instead of Data, in verdict maps

	// End makes the element the first key after a range (interval sets of
	// one part only).
	End bool

	Comment string // shown by nft; up to 127 bytes
	Extra   []byte // kept by the kernel, ignored by nft; up to 100 bytes

	// Counter counts the packets for which the element was found.
	Counter bool
	Packets uint64 // as read
	Bytes   uint64 // as read
}

// AppendAddr appends an address as part of a key or value.
func AppendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		v := a.As4()
		return append(b, v[:]...)
	}
	v := a.As16()
	return append(b, v[:]...)
}

// AppendPort appends a port and its padding.
func AppendPort(b []byte, port uint16) []byte { return append(b, byte(port>>8), byte(port), 0, 0) }

// AppendProto appends a protocol number and its padding.
func AppendProto(b []byte, proto uint8) []byte { return append(b, proto, 0, 0, 0) }

// AppendUint32 appends a number in host byte order.
func AppendUint32(b []byte, n uint32) []byte { return binary.NativeEndian.AppendUint32(b, n) }

// Range returns the two elements that hold a prefix in an interval set: its
// first address, and the first address after it. The second is missing for a
// prefix that ends with the last address of all.
func Range(p netip.Prefix) []Element {
	p = p.Masked()
	start := p.Addr().AsSlice()
	list := []Element{{Key: start}}
	if end, ok := after(start, p.Bits()); ok {
		list = append(list, Element{Key: end, End: true})
	}
	return list
}

// after adds one to the bits'th bit of an address.
func after(start []byte, bits int) ([]byte, bool) {
	end := append([]byte(nil), start...)
	if bits == 0 {
		return nil, false
	}
	i := (bits - 1) / 8
	add := byte(1) << (7 - (bits-1)%8)
	for ; i >= 0; i-- {
		end[i] += add
		if end[i] >= add {
			return end, true
		}
		add = 1
	}
	return nil, false
}

// Format prints an element of the set in the manner of nft; without data only
// its key.
func (s *Set) Format(e *Element, data bool) string {
	var b strings.Builder
	b.WriteString(formatValue(e.Key, concatTypes(s.Key)))
	if e.KeyEnd != nil {
		b.WriteString(" to " + formatValue(e.KeyEnd, concatTypes(s.Key)))
	}
	if e.End {
		b.WriteString(" end")
	}
	if !data {
		return b.String()
	}
	if e.Comment != "" {
		fmt.Fprintf(&b, " comment %q", e.Comment)
	}
	if e.Verdict != nil {
		b.WriteString(" : " + e.Verdict.String())
	} else if e.Data != nil {
		b.WriteString(" : " + formatValue(e.Data, s.dataTypes()))
	}
	return b.String()
}

func formatValue(b []byte, types []Type) string {
	var parts []string
	for _, t := range types {
		if len(b) < t.size {
			return "(" + hex.EncodeToString(b) + ")"
		}
		v := b[:t.size]
		b = b[min(t.padded(), len(b)):]
		parts = append(parts, t.format(v))
	}
	return strings.Join(parts, " . ")
}

func (t Type) format(v []byte) string {
	switch t {
	case Addr4, Addr6:
		a, _ := netip.AddrFromSlice(v)
		return a.String()
	case Port:
		return strconv.Itoa(int(binary.BigEndian.Uint16(v)))
	case InetProto:
		switch v[0] {
		case 6:
			return "tcp"
		case 17:
			return "udp"
		case 132:
			return "sctp"
		}
		return strconv.Itoa(int(v[0]))
	case Integer:
		return strconv.FormatUint(uint64(binary.NativeEndian.Uint32(v)), 10)
	}
	if t.host && t.size == 4 {
		return fmt.Sprintf("0x%08x", binary.NativeEndian.Uint32(v))
	}
	return "0x" + hex.EncodeToString(v)
}
