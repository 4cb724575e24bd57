package policy

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/internal/nft"
)

// blocksUse is entries that chains refer to.
type blocksUse struct {
	*blocks
	refs int
}

// numbered is what a set has that is no set of the table, but elements of the one set of all members: its number, which stands before
// addresses there, and is what entries have as their value.
type numbered struct {
	number uint32 // zero until it has one
	mark   string // the number as a value
	inside map[netip.Addr]struct{}
}

func (w *world) useBlocks(b *blocks) {
	use := w.blocks[b.id.Addr]
	if use == nil {
		use = &blocksUse{blocks: b}
		w.blocks[b.id.Addr] = use
		w.counting[b.counts.Addr] = use
		for i := range b.entries {
			if e := &b.entries[i]; e.peers != nil {
				w.usePeers(e.peers)
			}
		}
		if b.members != nil {
			w.unwritten = append(w.unwritten, use)
		} else {
			w.write(use)
		}
	}
	use.refs++
}

// write puts entries into their set or map, where they are told by the id before them.
func (w *world) write(use *blocksUse) {
	s, id := w.sets[use.set.def.Name].set, use.id.As16()
	text := w.making.keys[:0]
	for i := range use.entries {
		text = append(append(text, id[:]...), use.entries[i].key...)
	}
	w.making.keys = text
	all := string(text)
	for i := range use.entries {
		e := &use.entries[i]
		value := ""
		if e.peers != nil {
			value = w.groups[e.peers.family][e.peers.def.Name].mark
		}
		n := len(id) + len(e.key)
		w.keep(s, all[n*i:n*(i+1)], value, true)
	}
}

func (w *world) unuseBlocks(b *blocks) {
	use := w.blocks[b.id.Addr]
	if use.refs--; use.refs > 0 {
		return
	}
	delete(w.blocks, b.id.Addr)
	if w.counting[b.counts.Addr] == use {
		delete(w.counting, b.counts.Addr)
	}
	w.spent = append(w.spent, b)
	for i := range use.entries {
		e := &use.entries[i]
		w.keep(w.sets[b.set.def.Name].set, string(b.id.AsSlice())+e.key, "", false)
		if e.peers != nil {
			w.unusePeers(e.peers)
		}
	}
}

// usePeers counts one more user of peers, and numbers and fills them for the first.
func (w *world) usePeers(want *wantSet) {
	f, name := want.family, want.def.Name
	g := w.groups[f][name]
	if g == nil {
		g = &setUse{wantSet: *want, numbered: &numbered{inside: map[netip.Addr]struct{}{}}}
		w.groups[f][name] = g
		if !w.numbers[f].add(name) {
			w.err = fmt.Errorf("%w: the mark 0x%08x tells %d selectors of peers apart", ErrTooMany, w.cfg.Mark, w.numbers[f].size)
		}
		w.fill(g)
	}
	g.refs++
}

func (w *world) unusePeers(want *wantSet) {
	g := w.groups[want.family][want.def.Name]
	if g.refs--; g.refs == 0 {
		w.idle.groups = append(w.idle.groups, g)
	}
}

// dropPeers removes peers without users.
func (w *world) dropPeers(g *setUse) {
	f, name := g.family, g.def.Name
	if g.refs > 0 || w.groups[f][name] != g {
		return
	}
	delete(w.groups[f], name)
	w.numbers[f].drop(name)
	w.number(g, false)
	w.unfill(g)
}

// number puts the members under their number or takes them away from there.
func (w *world) number(g *setUse, there bool) {
	if g.number == 0 {
		return
	}
	for a := range g.inside {
		w.member(g, a, there)
	}
}

func (w *world) member(g *setUse, a netip.Addr, there bool) {
	if g.number != 0 {
		key := nft.AppendAddr(nft.AppendUint32(nil, g.number<<w.cfg.shift()), a)
		w.keep(w.sets[memberNames[g.family]].set, string(key), "", there)
	}
}

var memberNames = [families]string{memberSet(four).def.Name, memberSet(six).def.Name}

// numberPeers writes the numbers of peers that are new or have another.
func (w *world) numberPeers() {
	for f := range families {
		var moved []*setUse
		for name := range w.numbers[f].moved {
			if g := w.groups[f][name]; g != nil && g.number != w.numbers[f].of[name] {
				moved = append(moved, g)
			}
		}
		w.numbers[f].settled()
		for _, g := range moved {
			if w.number(g, false); g.number != 0 {
				w.rewrite(g)
			}
		}
		for _, g := range moved {
			g.number = w.numbers[f].of[g.def.Name]
			g.mark = markElement(g.number)
			w.number(g, true)
		}
	}
	for _, use := range w.unwritten {
		if use.refs > 0 && w.blocks[use.id.Addr] == use {
			w.write(use)
		}
	}
	w.unwritten = nil
}

// rewrite has the entries written that have the number of peers, which is another: two names that want one number are rare.
func (w *world) rewrite(g *setUse) {
	for _, use := range w.blocks {
		if slices.ContainsFunc(use.entries, func(e blockEntry) bool { return e.peers != nil && e.peers.def.Name == g.def.Name }) {
			w.unwritten = append(w.unwritten, use)
		}
	}
}

// spentCounts returns the keys of counters that nothing counts in any more, by the set.
func (w *world) spentCounts() map[*nft.Set][]nft.Element {
	var list map[*nft.Set][]nft.Element
	for _, b := range w.spent {
		s := w.sets[b.counted.def.Name]
		if s == nil {
			continue // went with the set
		}
		live := map[string]struct{}{}
		if use := w.counting[b.counts.Addr]; use != nil {
			for i := range use.entries {
				live[use.entries[i].key] = struct{}{}
			}
		}
		for i := range b.entries {
			key := b.entries[i].key
			if _, ok := live[key]; ok {
				continue
			}
			if list == nil {
				list = map[*nft.Set][]nft.Element{}
			}
			list[s.def] = append(list[s.def], nft.Element{Key: append(b.counts.AsSlice(), key...)})
		}
	}
	w.spent = nil
	return list
}
