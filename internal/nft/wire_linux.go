package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// wire builds netlink messages in one buffer.
type wire struct{ b []byte }

const (
	nested     = unix.NLA_F_NESTED
	headerSize = unix.NLMSG_HDRLEN
	maxAttr    = 1<<16 - 1
)

// begin starts a message and returns where.
func (w *wire) begin(typ, flags uint16, family Family, resource uint16) int {
	at := len(w.b)
	w.b = append(w.b, make([]byte, headerSize)...)
	binary.NativeEndian.PutUint16(w.b[at+4:], typ)
	binary.NativeEndian.PutUint16(w.b[at+6:], flags|unix.NLM_F_REQUEST)
	w.b = append(w.b, byte(family), 0, byte(resource>>8), byte(resource))
	return at
}

// end closes the message that began at.
func (w *wire) end(at int, seq uint32) {
	binary.NativeEndian.PutUint32(w.b[at:], uint32(len(w.b)-at))
	binary.NativeEndian.PutUint32(w.b[at+8:], seq)
}

// open starts a nested attribute and returns where.
func (w *wire) open(typ uint16) int {
	at := len(w.b)
	w.b = append(w.b, 0, 0, 0, 0)
	binary.NativeEndian.PutUint16(w.b[at+2:], typ|nested)
	return at
}

// close ends the attribute that was opened at.
func (w *wire) close(at int) {
	binary.NativeEndian.PutUint16(w.b[at:], uint16(len(w.b)-at))
}

// openBytes starts an attribute of bytes, which closeBytes ends.
func (w *wire) openBytes(typ uint16) int {
	at := len(w.b)
	w.b = append(w.b, 0, 0, 0, 0)
	binary.NativeEndian.PutUint16(w.b[at+2:], typ)
	return at
}

func (w *wire) closeBytes(at int) {
	n := len(w.b) - at
	binary.NativeEndian.PutUint16(w.b[at:], uint16(n))
	for ; n%4 != 0; n++ {
		w.b = append(w.b, 0)
	}
}

func (w *wire) bytes(typ uint16, data []byte) {
	n := 4 + len(data)
	w.b = binary.NativeEndian.AppendUint16(w.b, uint16(n))
	w.b = binary.NativeEndian.AppendUint16(w.b, typ)
	w.b = append(w.b, data...)
	for ; n%4 != 0; n++ {
		w.b = append(w.b, 0)
	}
}

func (w *wire) string(typ uint16, s string) {
	n := 4 + len(s) + 1
	w.b = binary.NativeEndian.AppendUint16(w.b, uint16(n))
	w.b = binary.NativeEndian.AppendUint16(w.b, typ)
	w.b = append(w.b, s...)
	w.b = append(w.b, 0)
	for ; n%4 != 0; n++ {
		w.b = append(w.b, 0)
	}
}

func (w *wire) uint32(typ uint16, n uint32) {
	w.b = binary.NativeEndian.AppendUint16(w.b, 8)
	w.b = binary.NativeEndian.AppendUint16(w.b, typ)
	w.b = binary.BigEndian.AppendUint32(w.b, n)
}

// attrs calls f for each attribute of b. It stops at the first malformed one.
func attrs(b []byte, f func(typ uint16, data []byte)) {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:n])
		if n = (n + 3) &^ 3; n >= len(b) {
			return
		}
		b = b[n:]
	}
}

func be32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

func cstring(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
