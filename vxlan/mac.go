package vxlan

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// MAC is a 48-bit Ethernet address.
type MAC [6]byte

// macSalt keeps the addresses of this package apart from those that others derive from the same key.
const macSalt = "podplumb vxlan mac\x00"

// MACFromKey derives a device's MAC address from a key that is stable for the node and known to its peers: its name, its machine id, or, as the
// defaults do, the text of its underlay address. The address is the first 6 bytes of SHA-256("podplumb vxlan mac\x00" + key) with the group bit
// cleared and the locally administered bit set (IEEE 802, section 8.2.2), so 46 bits depend on the key. The derivation never changes.
func MACFromKey(key string) MAC {
	sum := sha256.Sum256([]byte(macSalt + key))
	m := MAC(sum[:6])
	m[0] = m[0]&^1 | 2
	return m
}

// ParseMAC reads six hexadecimal bytes with colons, as "02:00:5e:10:00:01".
func ParseMAC(s string) (MAC, error) {
	var m MAC
	ok := len(s) == 17
	for i := 0; ok && i < len(m); i++ {
		n, err := hex.Decode(m[i:i+1], []byte(s[3*i:3*i+2]))
		ok = err == nil && n == 1 && (i == 5 || s[3*i+2] == ':')
	}
	if !ok {
		return MAC{}, fmt.Errorf("vxlan: parse MAC %q: want six hexadecimal bytes with colons", s)
	}
	return m, nil
}

// String returns the address as "02:00:5e:10:00:01".
func (m MAC) String() string {
	b := make([]byte, 0, 17)
	for i, c := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = hex.AppendEncode(b, []byte{c})
	}
	return string(b)
}

// IsZero reports whether m is 00:00:00:00:00:00, which stands for "not set".
func (m MAC) IsZero() bool { return m == MAC{} }

// IsUnicast reports whether m can be the address of a device: not zero, and without the group bit.
func (m MAC) IsUnicast() bool { return !m.IsZero() && m[0]&1 == 0 }

// Compare orders addresses by their bytes.
func (m MAC) Compare(o MAC) int { return bytes.Compare(m[:], o[:]) }

// MarshalText returns the text of String, and nothing for the zero MAC.
func (m MAC) MarshalText() ([]byte, error) {
	if m.IsZero() {
		return []byte{}, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText reads what ParseMAC reads; no text is the zero MAC.
func (m *MAC) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*m = MAC{}
		return nil
	}
	*m, err = ParseMAC(string(b))
	return err
}
