package nat

import (
	"encoding/binary"
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

// place gives every target as many slots as its weight and leaves as many
// slots as it can as they were.
func place(old []netip.AddrPort, targets []Target) []netip.AddrPort {
	need := make(map[netip.AddrPort]int, len(targets))
	total := 0
	for _, t := range targets {
		need[netip.AddrPortFrom(t.Addr, t.Port)] = t.Weight
		total += t.Weight
	}
	slots := make([]netip.AddrPort, total)
	for i, t := range old[:min(len(old), total)] {
		if need[t] > 0 {
			need[t]--
			slots[i] = t
		}
	}
	free := 0
	for _, t := range targets {
		at := netip.AddrPortFrom(t.Addr, t.Port)
		for ; need[at] > 0; need[at]-- {
			for slots[free].IsValid() {
				free++
			}
			slots[free] = at
		}
	}
	return slots
}

// slots edits the elements that lead from slots to targets.
func (w *world) slots(f *family, key []byte, have, next *entry, e *edits) {
	var old, now []netip.AddrPort
	if have != nil {
		old = have.slots
	}
	if next != nil {
		now = next.slots
	}
	before, after := shares(have), shares(next)
	for i := range max(len(old), len(now)) {
		if i < len(old) && i < len(now) && old[i] == now[i] && before[old[i]] == after[now[i]] {
			continue
		}
		k := nft.AppendUint32(slices.Clone(key), uint32(i))
		if i < len(old) {
			e.del(f.targets, nft.Element{Key: k})
		}
		if i < len(now) {
			e.add(f.targets, targetElement(k, now[i], after[now[i]]))
		}
	}
}

// shares returns the weights above one that the number of slots does not
// tell, to be noted in the elements.
func shares(en *entry) map[netip.AddrPort]int {
	if en == nil || en.Algorithm != Maglev {
		return nil
	}
	var m map[netip.AddrPort]int
	for _, t := range en.To {
		if t.Weight > 1 {
			if m == nil {
				m = map[netip.AddrPort]int{}
			}
			m[netip.AddrPortFrom(t.Addr, t.Port)] = t.Weight
		}
	}
	return m
}

func targetElement(key []byte, t netip.AddrPort, share int) nft.Element {
	el := nft.Element{Key: key, Data: nft.AppendPort(nft.AppendAddr(make([]byte, 0, 20), t.Addr()), t.Port())}
	if share > 1 {
		el.Extra = binary.AppendUvarint(nil, uint64(share))
	}
	return el
}

// entrance edits the element that leads from the forward to its lane, or the
// one that refuses while there are no targets.
func (w *world) entrance(f *family, key []byte, have, next *entry, e *edits) error {
	from, to := w.door(f, have), w.door(f, next)
	var fromLane, toLane lane
	if from == f.forwards {
		fromLane = laneFor(have)
	}
	if to == f.forwards {
		toLane = laneFor(next)
	}
	if from == to && fromLane == toLane && (have == nil || have.Name == next.Name && have.Empty == next.Empty && have.Algorithm == next.Algorithm && have.Drain == next.Drain) {
		return nil
	}
	if from != nil {
		e.del(from, nft.Element{Key: key})
	}
	var number uint32
	if toLane.size != 0 {
		n, err := w.takeLane(toLane, e)
		if err != nil {
			return err
		}
		number = n
	}
	if to != nil {
		e.add(to, doorElement(f, to, key, next, number))
	}
	if fromLane.size != 0 {
		// An unused lane stays for the next forward of its size: opening one
		// costs more than a chain that nothing leads to.
		w.lanes[fromLane].count--
	}
	return nil
}

// door is the set that an entry's forward is in.
func (w *world) door(f *family, en *entry) *nft.Set {
	switch {
	case en == nil:
		return nil
	case len(en.slots) > 0:
		return f.forwards
	case en.Empty == Drop:
		return f.dropped
	}
	return f.rejected
}

// notes is what of a forward no rule needs. It is kept beside its element so
// that it can be read back.
type notes struct {
	empty     Refusal
	algorithm Algorithm
	drain     Drain
}

func (n notes) encode() []byte { return []byte{byte(n.empty), byte(n.algorithm), byte(n.drain)} }

func (f *Forward) note(b []byte) {
	if len(b) == 3 {
		f.Empty, f.Algorithm, f.Drain = Refusal(b[0]), Algorithm(b[1]), Drain(b[2])
	}
}

func doorElement(f *family, door *nft.Set, key []byte, en *entry, number uint32) nft.Element {
	el := nft.Element{Key: key, Comment: en.Name}
	if door == f.forwards {
		el.Data = nft.AppendUint32(nil, number)
	}
	if n := (notes{en.Empty, en.Algorithm, en.Drain}); n != (notes{}) {
		el.Extra = n.encode()
	}
	return el
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

// hairpins counts the addresses of targets.
func (w *world) hairpins(f *family, have, next *entry, e *edits) {
	var was, is []Target
	if have != nil {
		was = have.To
	}
	if next != nil {
		is = next.To
	}
	if slices.Equal(was, is) {
		return
	}
	for _, t := range is {
		if w.hairpin[t.Addr]++; w.hairpin[t.Addr] == 1 {
			e.add(f.hairpin, hairpinElement(t.Addr))
		}
	}
	for _, t := range was {
		if w.hairpin[t.Addr]--; w.hairpin[t.Addr] == 0 {
			delete(w.hairpin, t.Addr)
			e.del(f.hairpin, hairpinElement(t.Addr))
		}
	}
}

func forwardKey(k Key) []byte {
	b := nft.AppendAddr(make([]byte, 0, 28), k.Addr)
	return nft.AppendPort(nft.AppendProto(b, uint8(k.Proto)), k.Port)
}
