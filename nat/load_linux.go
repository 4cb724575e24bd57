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
	doors map[Key]uint32 // lane numbers of those that have targets; zero for those led elsewhere
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
		if !en.Elsewhere {
			l, ok := r.w.lanes[laneFor(en)]
			if !ok || l.number != number {
				r.bad = true
				continue
			}
			l.count++
		}
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
