package nat

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/plan"
)

// world is what the table holds, as this process knows it: the State, where
// each target sits, and how often shared elements are used. A change to it
// yields the edits that make the same change in the kernel.
type world struct {
	lay      *layout
	networks map[netip.Prefix]Network
	exclude  map[netip.Prefix]netip.Prefix
	virtual  map[netip.Prefix]Virtual
	forwards map[Key]*entry

	addresses map[netip.Addr]int // forwards by address
	hairpin   map[netip.Addr]int // forwards' targets by address
	lanes     map[lane]*laneUse
	numbers   []bool // lane numbers in use, from 1
}

type entry struct {
	Forward
	slots []netip.AddrPort // which target each slot leads to
}

type laneUse struct {
	number uint32
	count  int
}

func newWorld(lay *layout) *world {
	return &world{
		lay:      lay,
		networks: map[netip.Prefix]Network{}, exclude: map[netip.Prefix]netip.Prefix{}, virtual: map[netip.Prefix]Virtual{},
		forwards: map[Key]*entry{}, addresses: map[netip.Addr]int{}, hairpin: map[netip.Addr]int{},
		lanes: map[lane]*laneUse{}, numbers: make([]bool, 1),
	}
}

// state returns the State that the world holds, canonical.
func (w *world) state() State {
	s := State{
		Networks: sorted(w.networks, func(a, b Network) int { return comparePrefix(a.Prefix, b.Prefix) }),
		Exclude:  sorted(w.exclude, comparePrefix),
		Virtual:  sorted(w.virtual, func(a, b Virtual) int { return comparePrefix(a.Prefix, b.Prefix) }),
	}
	if len(w.forwards) > 0 {
		s.Forwards = make([]Forward, 0, len(w.forwards))
		for _, e := range w.forwards {
			s.Forwards = append(s.Forwards, e.Forward)
		}
		slices.SortFunc(s.Forwards, func(a, b Forward) int { return a.Key().compare(b.Key()) })
	}
	return s
}

func sorted[T any](m map[netip.Prefix]T, compare func(a, b T) int) []T {
	if len(m) == 0 {
		return nil
	}
	out := make([]T, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	slices.SortFunc(out, compare)
	return out
}

// fits says that what the plan changes is still as the plan saw it.
func (w *world) fits(p Plan) bool {
	for _, c := range p.networks {
		if !same(w.networks, c) {
			return false
		}
	}
	for _, c := range p.exclude {
		if !same(w.exclude, c) {
			return false
		}
	}
	for _, c := range p.virtual {
		if !same(w.virtual, c) {
			return false
		}
	}
	for _, c := range p.forwards {
		have, ok := w.forwards[c.Key]
		if ok != (c.Have != nil) || ok && !have.Forward.equal(c.Have) {
			return false
		}
	}
	return true
}

func same[T comparable](m map[netip.Prefix]T, c plan.Change[netip.Prefix, T]) bool {
	have, ok := m[c.Key]
	return ok == (c.Have != nil) && (!ok || have == *c.Have)
}

// ranges does the plan's changes to networks, exclusions and virtual ranges.
func (w *world) ranges(p Plan, e *edits) {
	for _, c := range p.networks {
		s := w.lay.of(c.Key.Addr()).networks
		if c.Have != nil {
			e.del(s, nft.Range(c.Key)...)
			delete(w.networks, c.Key)
		}
		if c.Want != nil {
			e.add(s, networkElements(*c.Want)...)
			w.networks[c.Key] = *c.Want
		}
	}
	for _, c := range p.exclude {
		s := w.lay.of(c.Key.Addr()).excluded
		if c.Have != nil {
			e.del(s, nft.Range(c.Key)...)
			delete(w.exclude, c.Key)
			continue
		}
		e.add(s, nft.Range(c.Key)...)
		w.exclude[c.Key] = c.Key
	}
	for _, c := range p.virtual {
		s := w.lay.of(c.Key.Addr()).virtual
		if c.Have != nil {
			e.del(s, nft.Range(c.Key)...)
			delete(w.virtual, c.Key)
		}
		if c.Want != nil {
			e.add(s, virtualElements(*c.Want)...)
			w.virtual[c.Key] = *c.Want
		}
	}
}

func networkElements(n Network) []nft.Element {
	list := nft.Range(n.Prefix)
	list[0].Comment = n.Name
	return list
}

func virtualElements(v Virtual) []nft.Element {
	list := nft.Range(v.Prefix)
	verdict := goTo("reject")
	if v.Miss == Drop {
		verdict = nft.Verdict{Code: nft.Drop}
	}
	list[0].Verdict = &verdict
	return list
}

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
		next.slots = place(old, want.To)
	}
	f := w.lay.of(k.Addr)
	key := forwardKey(k)
	w.slots(f, key, have, next, e)
	if err := w.entrance(f, key, have, next, e); err != nil {
		return err
	}
	w.count(w.addresses, f.addresses, addressElement, k.Addr, have, next, e)
	w.flags(f, key, have, next, e)
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
	for i := range max(len(old), len(now)) {
		if i < len(old) && i < len(now) && old[i] == now[i] {
			continue
		}
		k := nft.AppendUint32(slices.Clone(key), uint32(i))
		if i < len(old) {
			e.del(f.targets, nft.Element{Key: k})
		}
		if i < len(now) {
			e.add(f.targets, targetElement(k, now[i]))
		}
	}
}

func targetElement(key []byte, t netip.AddrPort) nft.Element {
	return nft.Element{Key: key, Data: nft.AppendPort(nft.AppendAddr(make([]byte, 0, 20), t.Addr()), t.Port())}
}

// entrance edits the element that leads from the forward to its lane, or the
// one that refuses while there are no targets.
func (w *world) entrance(f *family, key []byte, have, next *entry, e *edits) error {
	from, to := w.door(f, have), w.door(f, next)
	var fromLane, toLane lane
	if from == f.forwards {
		fromLane = laneFor(len(have.slots))
	}
	if to == f.forwards {
		toLane = laneFor(len(next.slots))
	}
	if from == to && fromLane == toLane && (have == nil || have.Name == next.Name && have.Empty == next.Empty) {
		return nil
	}
	if from != nil {
		e.del(from, nft.Element{Key: key})
	}
	var number uint32
	if toLane != 0 {
		n, err := w.takeLane(toLane, e)
		if err != nil {
			return err
		}
		number = n
	}
	if to != nil {
		e.add(to, doorElement(f, to, key, next, number))
	}
	if fromLane != 0 {
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

func doorElement(f *family, door *nft.Set, key []byte, en *entry, number uint32) nft.Element {
	el := nft.Element{Key: key, Comment: en.Name}
	if door == f.forwards {
		el.Data = nft.AppendUint32(nil, number)
		if en.Empty != Reject {
			el.Extra = []byte{byte(en.Empty)}
		}
	}
	return el
}

func (w *world) takeLane(l lane, e *edits) (uint32, error) {
	if u, ok := w.lanes[l]; ok {
		u.count++
		return u.number, nil
	}
	number := slices.Index(w.numbers[1:], false) + 1
	if number == 0 && len(w.numbers) > w.lay.capacity() {
		if number = w.dropLane(e); number == 0 {
			return 0, fmt.Errorf("%d different numbers of targets at once: Config.Mark has too few bits", len(w.numbers))
		}
	}
	if number == 0 {
		number = len(w.numbers)
		w.numbers = append(w.numbers, false)
	}
	w.numbers[number] = true
	w.lanes[l] = &laneUse{number: uint32(number), count: 1}
	e.open = append(e.open, l)
	e.add(w.lay.lanes, w.laneElement(l))
	return uint32(number), nil
}

// dropLane removes a lane that no forward uses and returns its number, or
// zero when all are in use.
func (w *world) dropLane(e *edits) int {
	for l, u := range w.lanes {
		if u.count == 0 && !slices.Contains(e.open, l) {
			e.del(w.lay.lanes, w.laneElement(l))
			e.shut = append(e.shut, l)
			delete(w.lanes, l)
			return int(u.number)
		}
	}
	return 0
}

func (w *world) laneElement(l lane) nft.Element {
	verdict := goTo(l.name())
	return nft.Element{Key: nft.AppendUint32(nil, w.lanes[l].number<<w.lay.shift()), Verdict: &verdict}
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
