package nat

import (
	"net/netip"
	"slices"
	"time"

	"github.com/podplumb/podplumb/internal/nft"
)

// forward changes one forward; a nil want removes it. have and want are
// canonical.
func (w *world) forward(k Key, want *Forward, e *edits) error {
	have := w.forwards[k]
	next := (*entry)(nil)
	if want != nil {
		next = &entry{Forward: *want}
		var old []netip.AddrPort
		if have != nil {
			old = have.slots
		}
		if want.Algorithm == Maglev {
			next.slots = maglev(want.To)
		} else {
			next.slots = place(old, want.To)
		}
	}
	f := w.lay.of(k.Addr)
	key := forwardKey(k)
	w.slots(f, key, have, next, e)
	if err := w.entrance(f, key, have, next, e); err != nil {
		return err
	}
	if !k.node() {
		w.count(w.addresses, f.addresses, addressElement, k.Addr, have, next, e)
	}
	w.flags(f, key, have, next, e)
	w.contrast(f, k, have, next, e)
	w.sources(f, key, have, next, e)
	if err := w.affinity(f, key, have, next, e); err != nil {
		return err
	}
	w.hairpins(f, have, next, e)
	if next == nil {
		delete(w.forwards, k)
	} else {
		w.forwards[k] = next
	}
	return nil
}

// count keeps an element that several forwards share while one needs it.
func (w *world) count(uses map[netip.Addr]int, s *nft.Set, element func(netip.Addr) nft.Element, a netip.Addr, have, next *entry, e *edits) {
	switch {
	case have == nil && next != nil:
		if uses[a]++; uses[a] == 1 {
			e.add(s, element(a))
		}
	case have != nil && next == nil:
		if uses[a]--; uses[a] == 0 {
			delete(uses, a)
			e.del(s, element(a))
		}
	}
}

func addressElement(a netip.Addr) nft.Element { return nft.Element{Key: a.AsSlice()} }

func hairpinElement(a netip.Addr) nft.Element {
	return nft.Element{Key: nft.AppendAddr(nft.AppendAddr(make([]byte, 0, 32), a), a)}
}

// flags edits the sets that say whom to masquerade.
func (w *world) flags(f *family, key []byte, have, next *entry, e *edits) {
	was, is := f.masquerade(have), f.masquerade(next)
	if was == is {
		return
	}
	if was != nil {
		e.del(was, nft.Element{Key: key})
	}
	if is != nil {
		e.add(is, nft.Element{Key: key})
	}
}

func (f *family) masquerade(en *entry) *nft.Set {
	if en == nil {
		return nil
	}
	switch en.Masquerade {
	case MasqueradeRemote:
		return f.masqFar
	case MasqueradeAll:
		return f.masqAll
	}
	return nil
}

// affinity edits what says how long to keep a client's target.
func (w *world) affinity(f *family, key []byte, have, next *entry, e *edits) error {
	var was, is time.Duration
	if have != nil {
		was = have.Affinity
	}
	if next != nil {
		is = next.Affinity
	}
	if was == is {
		return nil
	}
	if was != 0 {
		e.del(f.sticky, nft.Element{Key: key})
	}
	if is != 0 {
		number, err := w.takeLane(lane{learn: is}, e)
		if err != nil {
			return err
		}
		e.add(f.sticky, nft.Element{Key: key, Data: nft.AppendUint32(nil, number)})
	}
	if was != 0 {
		w.lanes[lane{learn: was}].count--
	}
	return nil
}

// sources edits which sources are served.
func (w *world) sources(f *family, key []byte, have, next *entry, e *edits) {
	var was, is Forward
	if have != nil {
		was = have.Forward
	}
	if next != nil {
		is = next.Forward
	}
	for _, list := range []struct {
		set      *nft.Set
		was, now []netip.Prefix
	}{{f.allowed, was.Allow, is.Allow}, {f.denied, was.Deny, is.Deny}} {
		for _, p := range list.was {
			if !slices.Contains(list.now, p) {
				e.del(list.set, sourceElement(key, p))
			}
		}
		for _, p := range list.now {
			if !slices.Contains(list.was, p) {
				e.add(list.set, sourceElement(key, p))
			}
		}
	}
	switch {
	case len(was.Allow) == 0 && len(is.Allow) > 0:
		e.add(f.choosy, nft.Element{Key: key})
	case len(was.Allow) > 0 && len(is.Allow) == 0:
		e.del(f.choosy, nft.Element{Key: key})
	}
}

// sourceElement is a forward with a range of sources.
func sourceElement(key []byte, p netip.Prefix) nft.Element {
	first, last := p.Masked().Addr(), p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	return nft.Element{
		Key:    nft.AppendAddr(slices.Clone(key), first),
		KeyEnd: append(slices.Clone(key), last...),
	}
}

// contrast keeps the forwards that masquerade less than the node port of
// their port in a set of their own: after translation the two look alike.
func (w *world) contrast(f *family, k Key, have, next *entry, e *edits) {
	port := portKey{k.Port, k.Proto, k.Addr.Is4()}
	was, is := have != nil && f.masquerade(have) == nil, next != nil && f.masquerade(next) == nil
	if !k.node() {
		node := w.forwards[Key{unspecified(k.Addr), k.Port, k.Proto}]
		marked := f.masquerade(node) != nil
		switch {
		case is && !was:
			w.notePlain(k)
			if marked {
				e.add(f.masqNot, nft.Element{Key: forwardKey(k)})
			}
		case was && !is:
			delete(w.plain[port], k.Addr)
			if key := forwardKey(k); marked && !e.undo(f.masqNot, key) {
				e.del(f.masqNot, nft.Element{Key: key})
			}
		}
		return
	}
	before, after := f.masquerade(have) != nil, f.masquerade(next) != nil
	if before == after {
		return
	}
	for a := range w.plain[port] {
		el := nft.Element{Key: forwardKey(Key{a, k.Port, k.Proto})}
		if after {
			e.add(f.masqNot, el)
		} else {
			e.del(f.masqNot, el)
		}
	}
}

func (w *world) notePlain(k Key) {
	port := portKey{k.Port, k.Proto, k.Addr.Is4()}
	if w.plain[port] == nil {
		w.plain[port] = map[netip.Addr]bool{}
	}
	w.plain[port][k.Addr] = true
}

// node says that the key is of a node port.
func (k Key) node() bool { return k.Addr.IsUnspecified() }

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func forwardKey(k Key) []byte {
	b := nft.AppendAddr(make([]byte, 0, 28), k.Addr)
	return nft.AppendPort(nft.AppendProto(b, uint8(k.Proto)), k.Port)
}
