package nat

import (
	"context"
	"encoding/binary"
	"errors"
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
	c.exists, c.stamp = true, info.Stamp
	c.owned = info.Owner == c.conn.PortID()
	c.orphan = info.Persist && info.Owner == 0
	intact := info.Stamp == c.lay.whole().Stamp()
	for try := 0; intact; try++ {
		r := newReader(c, newWorld(c.lay))
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
			nft.Sleep(ctx, time.Duration(try+1)*time.Millisecond)
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
	doors map[Key]uint32 // lane numbers of those that have targets; zero for those led elsewhere
	near  map[Key][]netip.AddrPort
	sides map[Key]map[side]uint32 // lane numbers of those that tell near clients apart
	// shut are forwards that have such a number but none for the others.
	shut map[Key]bool
	// shares are weights that are not the number of slots.
	shares map[share]int
	bad    bool // an element is not one that a Client writes
}

func newReader(c *Client, w *world) *reader {
	return &reader{
		c: c, w: w,
		slots: map[Key][]netip.AddrPort{}, near: map[Key][]netip.AddrPort{}, doors: map[Key]uint32{},
		sides: map[Key]map[side]uint32{}, shut: map[Key]bool{}, shares: map[share]int{},
	}
}

// all reads everything and says whether it is exactly what this version
// would have written.
func (r *reader) all(ctx context.Context) (bool, error) {
	if err := r.lanes(ctx); err != nil {
		return false, err
	}
	if err := r.captures(ctx); err != nil {
		return false, err
	}
	chains := r.c.lay.interception.capture(r.w.captureState().Except.Marks)
	for l := range r.w.lanes {
		chains = append(chains, l.chain(r.c.lay))
	}
	if ok, err := r.c.conn.Intact(ctx, r.c.lay.whole(), chains); !ok || err != nil {
		return false, err
	}
	shared := map[*nft.Set]map[netip.Addr]int32{}
	for _, f := range r.c.lay.families() {
		if err := r.ranges(ctx, f); err != nil {
			return false, err
		}
		if err := r.forwards(ctx, f); err != nil {
			return false, err
		}
		for _, s := range []*nft.Set{f.addresses, f.hairpin} {
			m := map[netip.Addr]int32{}
			shared[s] = m
			err := r.elements(ctx, s, func() { clear(m) }, func(e *nft.Element) {
				if a, ok := netip.AddrFromSlice(e.Key[:len(e.Key)/(len(s.Key))]); ok {
					m[a] = counted(e)
				}
			})
			if err != nil {
				return false, err
			}
		}
	}
	r.entries()
	for _, f := range r.c.lay.families() {
		if !sameUses(shared[f.addresses], r.w.addresses, f) || !sameUses(shared[f.hairpin], r.w.hairpin, f) {
			r.bad = true
		}
	}
	return !r.bad, nil
}

// sameUses compares what one family's set holds with what is in use.
func sameUses(have map[netip.Addr]int32, want *uses, f *family) bool {
	n := 0
	for a, u := range want.m {
		if a.Is4() != f.is4() {
			continue
		}
		n++
		if have[a] != u.n {
			return false
		}
	}
	return n == len(have)
}

func (r *reader) elements(ctx context.Context, s *nft.Set, reset func(), each func(*nft.Element)) error {
	// Who knows only a part compares generations by himself.
	return r.c.conn.Elements(ctx, r.c.lay.table, s, r.c.owned || r.w.partial, reset, each)
}

func (r *reader) lanes(ctx context.Context) error {
	lay := r.c.lay
	for _, s := range []*nft.Set{lay.lanes, lay.draws, lay.learn} {
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

// entries completes the forwards with their targets and counts what they
// share.
func (r *reader) entries() {
	for k, en := range r.w.forwards {
		en.slots, en.near = r.slots[k], r.near[k]
		delete(r.slots, k)
		delete(r.near, k)
		en.To, en.Near = r.targets(en, en.slots), r.targets(en, en.near)
		if !k.node() {
			r.w.addresses.count(k.Addr)
		}
		for _, t := range en.To {
			r.w.hairpin.count(t.Addr)
		}
		for _, t := range en.Near {
			r.w.hairpin.count(t.Addr)
		}
		r.bad = r.bad || !r.doorsFit(k, en)
		delete(r.sides, k)
		delete(r.shut, k)
	}
	if len(r.slots)+len(r.near)+len(r.sides)+len(r.shut) > 0 {
		r.bad = true // parts of nothing
	}
}

// targets returns the targets of an entry's slots.
func (r *reader) targets(en *entry, slots []netip.AddrPort) []Target {
	if len(slots) == 0 {
		return nil
	}
	list := make([]Target, 0, len(slots))
	for _, t := range slots {
		if !t.IsValid() {
			r.bad = true
			continue
		}
		list = append(list, Target{Addr: t.Addr(), Port: t.Port()})
	}
	list = canonicalTargets(list)
	if en.Algorithm == Maglev {
		for i, t := range list {
			list[i].Weight = max(1, r.shares[share{en.Key(), netip.AddrPortFrom(t.Addr, t.Port)}])
		}
		r.bad = r.bad || !slices.Equal(slots, maglev(list))
	}
	if en.Algorithm == RoundRobin {
		r.bad = r.bad || !slices.Equal(slots, turns(list))
	}
	return list
}

// doorsFit compares the elements that were read with those that the entry has,
// and counts the lanes.
func (r *reader) doorsFit(k Key, en *entry) bool {
	f := r.w.lay.of(k.Addr)
	for i, d := range f.doors(en) {
		number := uint32(0)
		switch d.set {
		case f.near:
			number = r.sides[k][inside]
		case f.far:
			number = r.sides[k][outside]
		case f.rejected, f.dropped:
			if i == 0 {
				if _, served := r.doors[k]; served {
					return false
				}
			} else if !r.shut[k] {
				return false
			}
		default:
			number = r.doors[k]
		}
		if d.lane == (lane{}) {
			continue
		}
		u := r.w.lanes[d.lane]
		if u == nil || number == 0 || u.number != number {
			return false
		}
		u.count++
	}
	sides := 0
	if len(en.near) > 0 {
		sides++
		if len(en.slots) > 0 {
			sides++
		}
	}
	return len(r.sides[k]) == sides && (!r.shut[k] || len(en.near) > 0 && len(en.slots) == 0)
}
