package nat

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/internal/nft"
)

// some reads what a change is about, and unless it is trusted the fixed part
// of the table.
func (r *reader) some(ctx context.Context, change Change, trusted bool) (bool, error) {
	if !trusted || len(change.Set)+len(change.Drop) > 0 {
		if err := r.lanes(ctx); err != nil || r.bad {
			return false, err
		}
	}
	if !trusted || len(change.Capture)+len(change.Release) > 0 {
		if err := r.someCapture(ctx, change); err != nil {
			return false, err
		}
	}
	if !trusted {
		chains := r.c.lay.interception.capture(r.w.captureState().Except.Marks)
		for l := range r.w.lanes {
			chains = append(chains, l.chain(r.c.lay))
		}
		if ok, err := r.c.conn.Intact(ctx, r.c.lay.whole(), chains); !ok || err != nil {
			return false, err
		}
	}
	if len(change.SetLocalhost) > 0 {
		if err := r.localhosts(ctx); err != nil {
			return false, err
		}
	}
	keys := slices.Clone(change.Drop)
	for _, f := range change.Set {
		if f.Affinity != 0 {
			return false, errPartial // what clients have learnt matters
		}
		keys = append(keys, f.Key())
	}
	if err := r.someForwards(ctx, keys); err != nil {
		return false, err
	}
	if err := r.someShared(ctx, keys, change.Set); err != nil {
		return false, err
	}
	if err := r.someDraining(ctx, change.Set); err != nil {
		return false, err
	}
	networks := slices.Clone(change.DropNetworks)
	for _, n := range change.SetNetworks {
		networks = append(networks, n.Prefix)
	}
	err := r.somePrefixes(ctx, networks, func(f *family) *nft.Set { return f.networks }, func(p netip.Prefix, e *nft.Element) {
		r.w.networks[p] = Network{Prefix: p, Name: e.Comment}
	})
	if err != nil {
		return false, err
	}
	err = r.somePrefixes(ctx, slices.Concat(change.DropExclude, change.SetExclude), func(f *family) *nft.Set { return f.excluded },
		func(p netip.Prefix, _ *nft.Element) { r.w.exclude[p] = p })
	return !r.bad, err
}

// look asks for elements and calls found for those that there are.
func (r *reader) look(ctx context.Context, list []nft.Lookup, found func(i int, s *nft.Set, e *nft.Element)) error {
	if err := r.c.conn.Lookup(ctx, r.c.lay.table, list); err != nil {
		return err
	}
	for i := range list {
		if l := &list[i]; l.Found {
			found(i, l.Set, &l.Element)
		}
	}
	return nil
}

// someForwards reads the forwards of the keys.
func (r *reader) someForwards(ctx context.Context, keys []Key) error {
	var doors []nft.Lookup
	var of []Key
	for _, k := range keys {
		f := r.w.lay.of(k.Addr)
		for _, s := range []*nft.Set{f.forwards, f.elsewhere, f.rejected, f.dropped, f.near, f.far, f.masquerade, f.sticky} {
			doors, of = append(doors, nft.Lookup{Set: s, Key: forwardKey(k)}), append(of, k)
		}
	}
	more := false
	err := r.look(ctx, doors, func(i int, s *nft.Set, e *nft.Element) {
		k := of[i]
		more = !r.door(r.w.lay.of(k.Addr), k, s, e) || more
	})
	if err == nil && more {
		err = errPartial
	}
	if err != nil {
		return err
	}
	var slots []nft.Lookup
	var families []*family
	for _, k := range keys {
		f := r.w.lay.of(k.Addr)
		count := func(number, first uint32) {
			for i := range uint32(r.sizeOf(number)) {
				slots, families = append(slots, nft.Lookup{Set: f.targets, Key: nft.AppendUint32(forwardKey(k), first+i)}), append(families, f)
			}
		}
		switch {
		case r.w.forwards[k] == nil:
		case r.w.forwards[k].Elsewhere:
			return errPartial // nothing tells how many targets there are
		case r.sides[k] != nil:
			count(r.sides[k][inside], nearSlot)
			count(r.sides[k][outside], 0)
		default:
			count(r.doors[k], 0)
		}
	}
	if err := r.look(ctx, slots, func(i int, _ *nft.Set, e *nft.Element) { r.target(families[i], e) }); err != nil {
		return err
	}
	r.entries()
	return nil
}

// door takes in an element that has a forward's key, and says that the forward
// can be known by its own elements alone.
func (r *reader) door(f *family, k Key, s *nft.Set, e *nft.Element) bool {
	number := uint32(0)
	if len(e.Data) == 4 {
		number = binary.NativeEndian.Uint32(e.Data)
	}
	en := r.w.forwards[k]
	switch s {
	case f.near, f.far:
		if r.sides[k] == nil {
			r.sides[k] = map[side]uint32{}
		}
		r.sides[k][map[*nft.Set]side{f.near: inside, f.far: outside}[s]] = number
	case f.masquerade:
		r.bad = r.bad || en == nil || !en.noteMasquerade(number)
	case f.sticky:
		return false
	default:
		if en != nil {
			r.bad = r.bad || s != f.rejected && s != f.dropped
			r.shut[k] = true
			return true
		}
		en = &entry{Forward: Forward{Addr: k.Addr, Port: k.Port, Proto: k.Proto, Name: e.Comment}}
		r.w.forwards[k] = en
		if s == f.forwards || s == f.elsewhere {
			r.doors[k] = number
		}
		return !en.note(e.Extra)
	}
	return true
}

// sizeOf is how many slots a lane draws from.
func (r *reader) sizeOf(number uint32) int {
	for l, u := range r.w.lanes {
		if u.number == number {
			return l.size
		}
	}
	return 0
}

// someShared reads what the forwards, as they are and as they are to be, share
// with others.
func (r *reader) someShared(ctx context.Context, keys []Key, want []Forward) error {
	r.w.addresses, r.w.hairpin = newUses(), newUses()
	var list []nft.Lookup
	var of []netip.Addr
	seen := map[*nft.Set]map[netip.Addr]bool{}
	ask := func(s *nft.Set, a netip.Addr, el nft.Element) {
		if seen[s] == nil {
			seen[s] = map[netip.Addr]bool{}
		}
		if !seen[s][a] {
			seen[s][a] = true
			list, of = append(list, nft.Lookup{Set: s, Key: el.Key}), append(of, a)
		}
	}
	forwards := slices.Clone(want)
	for _, k := range keys {
		if !k.node() {
			ask(r.w.lay.of(k.Addr).addresses, k.Addr, addressElement(k.Addr))
		}
		if en := r.w.forwards[k]; en != nil {
			forwards = append(forwards, en.Forward)
		}
	}
	for _, f := range forwards {
		for _, t := range slices.Concat(f.To, f.Near) {
			ask(r.w.lay.of(t.Addr).hairpin, t.Addr, hairpinElement(t.Addr))
		}
	}
	return r.look(ctx, list, func(i int, s *nft.Set, e *nft.Element) {
		uses := r.w.hairpin
		if s == r.w.lay.v4.addresses || s == r.w.lay.v6.addresses {
			uses = r.w.addresses
		}
		uses.note(of[i], counted(e))
	})
}

// somePrefixes reads the ranges that prefixes are, or begin in.
func (r *reader) somePrefixes(ctx context.Context, prefixes []netip.Prefix, set func(*family) *nft.Set, each func(netip.Prefix, *nft.Element)) error {
	list := make([]nft.Lookup, len(prefixes))
	for i, p := range prefixes {
		list[i] = nft.Lookup{Set: set(r.w.lay.of(p.Addr())), Key: p.Masked().Addr().AsSlice()}
	}
	more := false
	err := r.look(ctx, list, func(i int, _ *nft.Set, e *nft.Element) {
		p, ok := prefixOf(e)
		if ok && p.Contains(prefixes[i].Masked().Addr()) {
			more = more || len(e.Extra) > 1
			each(p, e)
		}
	})
	if err == nil && more {
		err = errPartial
	}
	return err
}

// prefixOf is the inverse of prefixElements, from the beginning alone.
func prefixOf(e *nft.Element) (netip.Prefix, bool) {
	start, ok := netip.AddrFromSlice(e.Key)
	if !ok || e.End || len(e.Extra) == 0 {
		return netip.Prefix{}, false
	}
	p := netip.PrefixFrom(start, int(e.Extra[0]))
	return p, p.IsValid()
}

// someDraining reads which targets that are to be have been there before and
// are to be cut.
func (r *reader) someDraining(ctx context.Context, want []Forward) error {
	var list []nft.Lookup
	for _, f := range want {
		if f.Proto == UDP {
			continue
		}
		for at := range f.everyTarget() {
			list = append(list, nft.Lookup{Set: r.w.lay.of(f.Addr).draining, Key: drainingKey(flow{f.Key(), at})})
		}
	}
	return r.look(ctx, list, func(_ int, s *nft.Set, e *nft.Element) {
		f := &r.w.lay.v4
		if s == r.w.lay.v6.draining {
			f = &r.w.lay.v6
		}
		d, deadline, ok := parseDraining(f, e)
		r.bad = r.bad || !ok
		r.w.draining[d] = deadline
	})
}
