package nat

import (
	"encoding/binary"
	"net/netip"

	"github.com/podplumb/podplumb/internal/nft"
)

// uses counts what several forwards need one element for. The element has the
// count beside it, so that who changes one forward need not know the others.
type uses struct {
	m     map[netip.Addr]use
	dirty []netip.Addr // whose count may be another than the element has
}

type use struct {
	n     int32
	had   int32 // what the element has; zero: there is none
	dirty bool
}

func newUses() *uses { return &uses{m: map[netip.Addr]use{}} }

func (u *uses) add(a netip.Addr, by int32) {
	v := u.m[a]
	v.n += by
	if !v.dirty {
		v.dirty = true
		u.dirty = append(u.dirty, a)
	}
	u.m[a] = v
}

// count takes in a use that an element counts already.
func (u *uses) count(a netip.Addr) {
	v := u.m[a]
	v.n, v.had = v.n+1, v.had+1
	u.m[a] = v
}

// note takes in what an element has.
func (u *uses) note(a netip.Addr, n int32) { u.m[a] = use{n: n, had: n} }

// settle makes the elements have the counts.
func (u *uses) settle(set func(netip.Addr) *nft.Set, element func([]byte, netip.Addr) nft.Element, e *edits) {
	if n := len(u.dirty); n > 1000 {
		e.expect(set(u.dirty[0]), n)
	}
	for _, a := range u.dirty {
		v := u.m[a]
		v.dirty = false
		if v.n != v.had {
			s, el := set(a), element(e.bytes(32), a)
			if v.had > 0 {
				e.del(s, el)
			}
			if v.n > 1 {
				el.Extra = binary.AppendUvarint(nil, uint64(v.n))
			}
			if v.n > 0 {
				e.add(s, el)
			}
			v.had = v.n
		}
		if u.m[a] = v; v.n == 0 {
			delete(u.m, a)
		}
	}
	u.dirty = u.dirty[:0]
}

// counted is the number of uses that an element has beside it.
func counted(e *nft.Element) int32 {
	if n, length := binary.Uvarint(e.Extra); length > 0 {
		return int32(n)
	}
	return 1
}

// settle edits the elements that forwards share. It comes last.
func (w *world) settle(e *edits) {
	w.addresses.settle(func(a netip.Addr) *nft.Set { return w.lay.of(a).addresses }, appendAddress, e)
	w.hairpin.settle(func(a netip.Addr) *nft.Set { return w.lay.of(a).hairpin }, appendHairpin, e)
}

func addressElement(a netip.Addr) nft.Element { return appendAddress(nil, a) }

func hairpinElement(a netip.Addr) nft.Element { return appendHairpin(nil, a) }

func appendAddress(b []byte, a netip.Addr) nft.Element { return nft.Element{Key: nft.AppendAddr(b, a)} }

func appendHairpin(b []byte, a netip.Addr) nft.Element {
	return nft.Element{Key: nft.AppendAddr(nft.AppendAddr(b, a), a)}
}
