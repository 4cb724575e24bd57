package nat

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"github.com/podplumb/podplumb/internal/nft"
)

// load reads the table into world and notes what is wrong with it.
func (c *Client) load(ctx context.Context) error {
	w := newWorld(c.lay)
	info, err := c.conn.Table(ctx, c.lay.table.Family, c.lay.table.Name)
	if errors.Is(err, fs.ErrNotExist) {
		c.world, c.exists, c.owned, c.damaged, c.orphan = w, false, false, false, false
		return nil
	}
	if err != nil {
		return err
	}
	if info.Stamp == 0 {
		return ErrForeign
	}
	c.exists = true
	c.owned = info.Owner == c.conn.PortID()
	c.orphan = info.Persist && info.Owner == 0
	intact := info.Stamp == c.lay.table.Stamp()
	for try := 0; intact; try++ {
		r := reader{c: c, w: newWorld(c.lay)}
		ok, err := r.all(ctx)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		w = r.w
		if ok && err == nil {
			break
		}
		// Before Linux 6.16 a list of elements can be wrong while their table
		// grows, for a moment: damage that stays is damage.
		if intact = r.bad && try < rereads; intact {
			sleep(ctx, time.Duration(try+1)*time.Millisecond)
		}
	}
	c.world, c.damaged = w, !intact
	return nil
}

// rereads is how often a table that seems damaged is read again.
const rereads = 5

// reader fills a world from the kernel's elements.
type reader struct {
	c     *Client
	w     *world
	slots map[Key][]netip.AddrPort
	doors map[Key]uint32 // lane numbers; zero for refused forwards
	plain map[Key]bool   // forwards that masquerade less than the node port
	// shares are weights that are not the number of slots.
	shares map[share]int
	bad    bool // an element is not one that a Client writes
}

// all reads everything and says whether it is exactly what this version
// would have written.
func (r *reader) all(ctx context.Context) (bool, error) {
	r.slots, r.doors, r.plain = map[Key][]netip.AddrPort{}, map[Key]uint32{}, map[Key]bool{}
	r.shares = map[share]int{}
	if err := r.lanes(ctx); err != nil {
		return false, err
	}
	var chains []*nft.Chain
	for l := range r.w.lanes {
		chains = append(chains, l.chain(r.c.lay))
	}
	if ok, err := r.c.conn.Intact(ctx, r.c.lay.table, chains); !ok || err != nil {
		return false, err
	}
	shared := map[*nft.Set]map[netip.Addr]int{}
	for _, f := range r.c.lay.families() {
		if err := r.ranges(ctx, f); err != nil {
			return false, err
		}
		if err := r.forwards(ctx, f); err != nil {
			return false, err
		}
		for _, s := range []*nft.Set{f.addresses, f.hairpin} {
			m := map[netip.Addr]int{}
			shared[s] = m
			err := r.elements(ctx, s, func() { clear(m) }, func(e *nft.Element) {
				if a, ok := netip.AddrFromSlice(e.Key[:len(e.Key)/(len(s.Key))]); ok {
					m[a] = 1
				}
			})
			if err != nil {
				return false, err
			}
		}
	}
	r.entries()
	r.contrasts()
	for _, f := range r.c.lay.families() {
		if !sameKeys(shared[f.addresses], r.w.addresses, f) || !sameKeys(shared[f.hairpin], r.w.hairpin, f) {
			r.bad = true
		}
	}
	return !r.bad, nil
}

// sameKeys compares what one family's set holds with what is in use.
func sameKeys(have, want map[netip.Addr]int, f *family) bool {
	n := 0
	for a := range want {
		if a.Is4() != f.is4() {
			continue
		}
		n++
		if have[a] == 0 {
			return false
		}
	}
	return n == len(have)
}

func (r *reader) elements(ctx context.Context, s *nft.Set, reset func(), each func(*nft.Element)) error {
	return r.c.conn.Elements(ctx, r.c.lay.table, s, r.c.owned, reset, each)
}

func (r *reader) lanes(ctx context.Context) error {
	lay := r.c.lay
	for _, s := range []*nft.Set{lay.lanes, lay.learn} {
		forget := func() {
			for l, u := range r.w.lanes {
				if lay.mapOf(l) == s {
					r.w.numbers[u.number] = false
					delete(r.w.lanes, l)
				}
			}
		}
		err := r.elements(ctx, s, forget, func(e *nft.Element) {
			if e.Verdict == nil || len(e.Key) != 4 {
				r.bad = true
				return
			}
			l, ok := parseLane(e.Verdict.Chain)
			number := binary.NativeEndian.Uint32(e.Key) >> lay.shift()
			for len(r.w.numbers) <= int(number) {
				r.w.numbers = append(r.w.numbers, false)
			}
			if !ok || number == 0 || lay.mapOf(l) != s || r.w.numbers[number] {
				r.bad = true
				return
			}
			r.w.numbers[number] = true
			r.w.lanes[l] = &laneUse{number: number}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) ranges(ctx context.Context, f *family) error {
	err := r.prefixes(ctx, f.networks, func(p netip.Prefix, e *nft.Element) {
		r.w.networks[p] = Network{Prefix: p, Name: e.Comment}
	})
	if err != nil {
		return err
	}
	if err := r.prefixes(ctx, f.excluded, func(p netip.Prefix, _ *nft.Element) { r.w.exclude[p] = p }); err != nil {
		return err
	}
	if err := r.localRanges(ctx, f); err != nil {
		return err
	}
	return r.prefixes(ctx, f.virtual, func(p netip.Prefix, e *nft.Element) {
		v := Virtual{Prefix: p}
		if e.Verdict != nil && e.Verdict.Code == nft.Drop {
			v.Miss = Drop
		}
		r.w.virtual[p] = v
	})
}

// localRanges reads which addresses serve node ports: all but loopback when
// there are no ranges.
func (r *reader) localRanges(ctx context.Context, f *family) error {
	want := map[string]bool{} // what is left of everywhere, by key and end
	id := func(e *nft.Element) string { return fmt.Sprint(e.Key, e.End) }
	for _, e := range f.everywhere() {
		want[id(&e)] = true
	}
	var have []nft.Element
	err := r.elements(ctx, f.local, func() { have = nil }, func(e *nft.Element) {
		have = append(have, nft.Element{Key: slices.Clone(e.Key), End: e.End})
	})
	if err != nil {
		return err
	}
	if len(have) == len(want) && !slices.ContainsFunc(have, func(e nft.Element) bool { return !want[id(&e)] }) {
		return nil
	}
	return r.prefixes(ctx, f.local, func(p netip.Prefix, _ *nft.Element) { r.w.local[p] = p })
}

// prefixes reads an interval set. The kernel lists the ends and beginnings of
// ranges in no promised order.
func (r *reader) prefixes(ctx context.Context, s *nft.Set, each func(netip.Prefix, *nft.Element)) error {
	type start struct {
		addr netip.Addr
		e    nft.Element
	}
	var starts []start
	ends := map[netip.Addr]bool{}
	err := r.elements(ctx, s, func() { starts = nil; clear(ends) }, func(e *nft.Element) {
		a, ok := netip.AddrFromSlice(e.Key)
		switch {
		case !ok:
			r.bad = true
		case e.End:
			ends[a] = true
		default:
			starts = append(starts, start{a, nft.Element{Comment: e.Comment, Verdict: e.Verdict}})
		}
	})
	if err != nil {
		return err
	}
	for _, st := range starts {
		p, ok := rangeFrom(st.addr, ends)
		if !ok {
			r.bad = true
			continue
		}
		each(p, &st.e)
	}
	return nil
}

// rangeFrom finds the prefix that begins at a address: the one whose end is
// an element, the longest first; without any, the one that ends with the
// last address.
func rangeFrom(a netip.Addr, ends map[netip.Addr]bool) (netip.Prefix, bool) {
	for bits := a.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(a, bits)
		if p.Masked() != p {
			break
		}
		list := nft.Range(p)
		if len(list) == 1 {
			return p, true
		}
		if end, _ := netip.AddrFromSlice(list[1].Key); ends[end] {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func (r *reader) forwards(ctx context.Context, f *family) error {
	mine := func(k Key) bool { return k.Addr.Is4() == f.is4() }
	drop := func() {
		for k := range r.slots {
			if mine(k) {
				delete(r.slots, k)
			}
		}
	}
	if err := r.elements(ctx, f.targets, drop, func(e *nft.Element) { r.target(f, e) }); err != nil {
		return err
	}
	for _, s := range []*nft.Set{f.forwards, f.rejected, f.dropped} {
		var seen []Key
		reset := func() {
			for _, k := range seen {
				delete(r.w.forwards, k)
				delete(r.doors, k)
			}
			seen = nil
		}
		err := r.elements(ctx, s, reset, func(e *nft.Element) {
			k, ok := parseForwardKey(f, e.Key)
			if _, twice := r.w.forwards[k]; !ok || twice {
				r.bad = true
				return
			}
			seen = append(seen, k)
			en := &entry{Forward: Forward{Addr: k.Addr, Port: k.Port, Proto: k.Proto, Name: e.Comment}}
			en.note(e.Extra)
			if (s == f.dropped && en.Empty != Drop) || (s == f.rejected && en.Empty != Reject) {
				r.bad = true
			}
			r.w.forwards[k] = en
			if s == f.forwards && len(e.Data) == 4 {
				r.doors[k] = binary.NativeEndian.Uint32(e.Data)
			}
		})
		if err != nil {
			return err
		}
	}
	if err := r.masquerades(ctx, f); err != nil {
		return err
	}
	if err := r.affinities(ctx, f); err != nil {
		return err
	}
	if err := r.sources(ctx, f); err != nil {
		return err
	}
	unlike := func() {
		for k := range r.plain {
			if mine(k) {
				delete(r.plain, k)
			}
		}
	}
	return r.elements(ctx, f.masqNot, unlike, func(e *nft.Element) {
		k, ok := parseForwardKey(f, e.Key)
		r.plain[k] = true
		r.bad = r.bad || !ok
	})
}

// sources reads which sources forwards serve.
func (r *reader) sources(ctx context.Context, f *family) error {
	lists := map[*nft.Set]func(*entry) *[]netip.Prefix{
		f.allowed: func(en *entry) *[]netip.Prefix { return &en.Allow },
		f.denied:  func(en *entry) *[]netip.Prefix { return &en.Deny },
	}
	for s, list := range lists {
		reset := func() {
			for k, en := range r.w.forwards {
				if k.Addr.Is4() == f.is4() {
					*list(en) = nil
				}
			}
		}
		err := r.elements(ctx, s, reset, func(e *nft.Element) {
			k, ok := parseForwardKey(f, e.Key)
			en := r.w.forwards[k]
			p, isPrefix := parseSource(f, e)
			if !ok || en == nil || !isPrefix {
				r.bad = true
				return
			}
			*list(en) = append(*list(en), p)
		})
		if err != nil {
			return err
		}
	}
	choosy := 0
	err := r.elements(ctx, f.choosy, func() { choosy = 0 }, func(e *nft.Element) {
		k, ok := parseForwardKey(f, e.Key)
		if en := r.w.forwards[k]; !ok || en == nil || len(en.Allow) == 0 {
			r.bad = true
		}
		choosy++
	})
	for k, en := range r.w.forwards {
		if k.Addr.Is4() != f.is4() {
			continue
		}
		if len(en.Allow) > 0 {
			choosy--
		}
		slices.SortFunc(en.Allow, comparePrefix)
		slices.SortFunc(en.Deny, comparePrefix)
	}
	r.bad = r.bad || choosy != 0
	return err
}

// parseSource is the inverse of sourceElement.
func parseSource(f *family, e *nft.Element) (netip.Prefix, bool) {
	size := f.addrSize()
	if len(e.Key) != 2*size+8 || len(e.KeyEnd) != len(e.Key) {
		return netip.Prefix{}, false
	}
	first, _ := netip.AddrFromSlice(e.Key[size+8:])
	for bits := range first.BitLen() + 1 {
		p := netip.PrefixFrom(first, bits)
		if p.Masked() == p && bytes.Equal(sourceElement(e.Key[:size+8], p).KeyEnd, e.KeyEnd) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// affinities reads how long forwards keep a client's target.
func (r *reader) affinities(ctx context.Context, f *family) error {
	numbers := map[uint32]lane{}
	for l, u := range r.w.lanes {
		numbers[u.number] = l
	}
	reset := func() {
		for k, en := range r.w.forwards {
			if k.Addr.Is4() == f.is4() && en.Affinity != 0 {
				r.w.lanes[lane{learn: en.Affinity}].count--
				en.Affinity = 0
			}
		}
	}
	return r.elements(ctx, f.sticky, reset, func(e *nft.Element) {
		k, ok := parseForwardKey(f, e.Key)
		en := r.w.forwards[k]
		if !ok || en == nil || len(e.Data) != 4 || numbers[binary.NativeEndian.Uint32(e.Data)].learn == 0 || en.Affinity != 0 {
			r.bad = true
			return
		}
		l := numbers[binary.NativeEndian.Uint32(e.Data)]
		en.Affinity = l.learn
		r.w.lanes[l].count++
	})
}

func (r *reader) masquerades(ctx context.Context, f *family) error {
	for s, m := range map[*nft.Set]Masquerade{f.masqAll: MasqueradeAll, f.masqFar: MasqueradeRemote} {
		reset := func() {
			for k, en := range r.w.forwards {
				if k.Addr.Is4() == f.is4() && en.Masquerade == m {
					en.Masquerade = MasqueradeHairpin
				}
			}
		}
		err := r.elements(ctx, s, reset, func(e *nft.Element) {
			k, ok := parseForwardKey(f, e.Key)
			en := r.w.forwards[k]
			if !ok || en == nil || en.Masquerade != MasqueradeHairpin {
				r.bad = true
				return
			}
			en.Masquerade = m
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) target(f *family, e *nft.Element) {
	k, ok := parseForwardKey(f, e.Key)
	size := f.addrSize()
	if !ok || len(e.Key) != size+12 || len(e.Data) < size+2 {
		r.bad = true
		return
	}
	slot := int(binary.NativeEndian.Uint32(e.Key[size+8:]))
	if slot >= maxSlots {
		r.bad = true
		return
	}
	list := r.slots[k]
	for len(list) <= slot {
		list = append(list, netip.AddrPort{})
	}
	a, _ := netip.AddrFromSlice(e.Data[:size])
	list[slot] = netip.AddrPortFrom(a, binary.BigEndian.Uint16(e.Data[size:]))
	r.slots[k] = list
	if n, length := binary.Uvarint(e.Extra); length > 0 {
		r.shares[share{k, list[slot]}] = int(n)
	}
}

type share struct {
	key    Key
	target netip.AddrPort
}

func parseForwardKey(f *family, b []byte) (Key, bool) {
	size := f.addrSize()
	if len(b) < size+8 {
		return Key{}, false
	}
	a, _ := netip.AddrFromSlice(b[:size])
	return Key{Addr: a, Proto: Proto(b[size]), Port: binary.BigEndian.Uint16(b[size+4:])}, true
}

// entries completes the forwards with their targets and counts what they
// share.
func (r *reader) entries() {
	for k, en := range r.w.forwards {
		en.slots = r.slots[k]
		delete(r.slots, k)
		if !k.node() {
			r.w.addresses[k.Addr]++
		}
		number, served := r.doors[k]
		if served != (len(en.slots) > 0) {
			r.bad = true
		}
		if !served {
			continue
		}
		l, ok := r.w.lanes[laneFor(en)]
		if !ok || l.number != number {
			r.bad = true
			continue
		}
		l.count++
		for _, t := range en.slots {
			if !t.IsValid() {
				r.bad = true
				continue
			}
			en.To = append(en.To, Target{Addr: t.Addr(), Port: t.Port()})
		}
		en.To = canonicalTargets(en.To)
		if en.Algorithm == Maglev {
			for i, t := range en.To {
				en.To[i].Weight = max(1, r.shares[share{k, netip.AddrPortFrom(t.Addr, t.Port)}])
			}
			r.bad = r.bad || !slices.Equal(en.slots, maglev(en.To))
		}
		for _, t := range en.To {
			r.w.hairpin[t.Addr]++
		}
	}
	if len(r.slots) > 0 {
		r.bad = true // targets of nothing
	}
}

// contrasts notes which forwards masquerade nothing but hairpins, and compares
// those whose node port masquerades more with what was read.
func (r *reader) contrasts() {
	for k, en := range r.w.forwards {
		f := r.w.lay.of(k.Addr)
		if k.node() || f.masquerade(en) != nil {
			continue
		}
		r.w.notePlain(k)
		if f.masquerade(r.w.forwards[Key{unspecified(k.Addr), k.Port, k.Proto}]) == nil {
			continue
		}
		if !r.plain[k] {
			r.bad = true
		}
		delete(r.plain, k)
	}
	if len(r.plain) > 0 {
		r.bad = true
	}
}
