package nat

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/internal/nft"
)

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

// turns spreads each target's slots evenly over the round.
func turns(targets []Target) []netip.AddrPort {
	type turn struct {
		target, nth int
	}
	var list []turn
	for i, t := range targets {
		for n := range t.Weight {
			list = append(list, turn{i, n})
		}
	}
	// The nth of w turns is due at n/w of the round, and later targets a part of
	// that later, so that not all of those with few turns come up together.
	due := func(t turn) (num, den int) {
		return t.nth*len(targets) + t.target, targets[t.target].Weight
	}
	slices.SortStableFunc(list, func(a, b turn) int {
		an, ad := due(a)
		bn, bd := due(b)
		return cmp.Compare(an*bd, bn*ad)
	})
	slots := make([]netip.AddrPort, len(list))
	for i, t := range list {
		slots[i] = netip.AddrPortFrom(targets[t.target].Addr, targets[t.target].Port)
	}
	return slots
}

// nearSlot is the number of the first slot for clients that are near.
const nearSlot = maxSlots

// slots edits the elements that lead from slots to targets.
func (w *world) slots(f *family, key []byte, have, next *entry, e *edits) {
	none := &entry{}
	if have == nil {
		have = none
	}
	if next == nil {
		next = none
	}
	c := w.lay.counters
	f.slotRange(key, 0, have.slots, next.slots, have.shares(have.To), next.shares(next.To), c, e)
	f.slotRange(key, nearSlot, have.near, next.near, have.shares(have.Near), next.shares(next.Near), c, e)
}

func (f *family) slotRange(key []byte, first uint32, old, now []netip.AddrPort, before, after map[netip.AddrPort]int, counters bool, e *edits) {
	for i := range max(len(old), len(now)) {
		if i < len(old) && i < len(now) && old[i] == now[i] && before[old[i]] == after[now[i]] {
			continue
		}
		k := nft.AppendUint32(append(e.bytes(len(key)+4), key...), first+uint32(i))
		if i < len(old) {
			e.del(f.targets, nft.Element{Key: k})
		}
		if i < len(now) {
			e.add(f.targets, targetElement(e, k, now[i], after[now[i]], counters))
		}
	}
}

// shares returns the weights above one that the number of slots does not
// tell, to be noted in the elements.
func (en *entry) shares(targets []Target) map[netip.AddrPort]int {
	if en.Algorithm != Maglev {
		return nil
	}
	var m map[netip.AddrPort]int
	for _, t := range targets {
		if t.Weight > 1 {
			if m == nil {
				m = map[netip.AddrPort]int{}
			}
			m[netip.AddrPortFrom(t.Addr, t.Port)] = t.Weight
		}
	}
	return m
}

func targetElement(e *edits, key []byte, t netip.AddrPort, share int, counter bool) nft.Element {
	el := nft.Element{Counter: counter, Key: key, Data: nft.AppendPort(nft.AppendAddr(e.bytes(20), t.Addr()), t.Port())}
	if share > 1 {
		el.Extra = binary.AppendUvarint(nil, uint64(share))
	}
	return el
}

// hairpins counts the addresses of targets.
func (w *world) hairpins(have, next *entry) {
	none := &entry{}
	if have == nil {
		have = none
	}
	if next == nil {
		next = none
	}
	for _, list := range [][2][]Target{{have.To, next.To}, {have.Near, next.Near}} {
		if slices.Equal(list[0], list[1]) {
			continue
		}
		for _, t := range list[1] {
			w.hairpin.add(t.Addr, 1)
		}
		for _, t := range list[0] {
			w.hairpin.add(t.Addr, -1)
		}
	}
}
