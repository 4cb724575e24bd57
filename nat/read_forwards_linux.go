package nat

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/podplumb/podplumb/internal/nft"
)

func (r *reader) forwards(ctx context.Context, f *family) error {
	mine := func(k Key) bool { return k.Addr.Is4() == f.is4() }
	drop := func() {
		for _, m := range []map[Key][]netip.AddrPort{r.slots, r.near} {
			maps.DeleteFunc(m, func(k Key, _ []netip.AddrPort) bool { return mine(k) })
		}
	}
	if err := r.elements(ctx, f.targets, drop, func(e *nft.Element) { r.target(f, e) }); err != nil {
		return err
	}
	for _, s := range []*nft.Set{f.forwards, f.rejected, f.dropped, f.elsewhere} {
		var seen, shut []Key
		reset := func() {
			for _, k := range shut {
				delete(r.shut, k)
			}
			shut = nil
			for _, k := range seen {
				delete(r.w.forwards, k)
				delete(r.doors, k)
			}
			seen = nil
		}
		err := r.elements(ctx, s, reset, func(e *nft.Element) {
			k, ok := parseForwardKey(f, e.Key)
			if _, twice := r.w.forwards[k]; twice && ok && (s == f.rejected || s == f.dropped) && !r.shut[k] {
				// Of a forward that has targets for near clients alone.
				r.shut[k] = true
				shut = append(shut, k)
				return
			} else if !ok || twice {
				r.bad = true
				return
			}
			seen = append(seen, k)
			en := &entry{Forward: Forward{Addr: k.Addr, Port: k.Port, Proto: k.Proto, Name: e.Comment}}
			en.note(e.Extra)
			if (s == f.dropped && en.Empty != Drop) || (s == f.rejected && en.Empty != Reject) || s == f.forwards && en.Elsewhere || s == f.elsewhere && !en.Elsewhere {
				r.bad = true
			}
			r.w.forwards[k] = en
			switch {
			case s == f.forwards && len(e.Data) == 4:
				r.doors[k] = binary.NativeEndian.Uint32(e.Data)
			case s == f.elsewhere:
				r.doors[k] = 0 // no lane
			}
		})
		if err != nil {
			return err
		}
	}
	if err := r.nearAndFar(ctx, f); err != nil {
		return err
	}
	if err := r.masquerades(ctx, f); err != nil {
		return err
	}
	if err := r.affinities(ctx, f); err != nil {
		return err
	}
	if err := r.drainings(ctx, f); err != nil {
		return err
	}
	return r.sources(ctx, f)
}

// drainings reads what is to be cut later.
func (r *reader) drainings(ctx context.Context, f *family) error {
	reset := func() {
		maps.DeleteFunc(r.w.draining, func(d flow, _ time.Time) bool { return d.key.Addr.Is4() == f.is4() })
	}
	return r.elements(ctx, f.draining, reset, func(e *nft.Element) {
		d, deadline, ok := parseDraining(f, e)
		r.bad = r.bad || !ok
		r.w.draining[d] = deadline
	})
}

// nearAndFar reads the lanes of forwards that tell near clients apart.
func (r *reader) nearAndFar(ctx context.Context, f *family) error {
	for s, set := range map[side]*nft.Set{inside: f.near, outside: f.far} {
		reset := func() {
			for k, m := range r.sides {
				if k.Addr.Is4() == f.is4() {
					delete(m, s)
				}
			}
		}
		err := r.elements(ctx, set, reset, func(e *nft.Element) {
			k, ok := parseForwardKey(f, e.Key)
			if !ok || len(e.Data) != 4 {
				r.bad = true
				return
			}
			if r.sides[k] == nil {
				r.sides[k] = map[side]uint32{}
			}
			r.sides[k][s] = binary.NativeEndian.Uint32(e.Data)
		})
		if err != nil {
			return err
		}
	}
	return nil
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
	reset := func() {
		for k, en := range r.w.forwards {
			if k.Addr.Is4() == f.is4() {
				en.Masquerade = MasqueradeHairpin
			}
		}
	}
	return r.elements(ctx, f.masquerade, reset, func(e *nft.Element) {
		k, ok := parseForwardKey(f, e.Key)
		en := r.w.forwards[k]
		if !ok || en == nil || len(e.Data) != 4 || !en.noteMasquerade(binary.NativeEndian.Uint32(e.Data)) {
			r.bad = true
		}
	})
}

// noteMasquerade takes in a mode.
func (f *Forward) noteMasquerade(mode uint32) bool {
	for m, n := range modes {
		if n == mode {
			f.Masquerade = m
			return true
		}
	}
	return false
}

func (r *reader) target(f *family, e *nft.Element) {
	k, ok := parseForwardKey(f, e.Key)
	size := f.addrSize()
	if !ok || len(e.Key) != size+12 || len(e.Data) < size+2 {
		r.bad = true
		return
	}
	slot, slots := int(binary.NativeEndian.Uint32(e.Key[size+8:])), r.slots
	if slot >= nearSlot {
		slot, slots = slot-nearSlot, r.near
	}
	if slot >= maxSlots {
		r.bad = true
		return
	}
	list := slots[k]
	for len(list) <= slot {
		list = append(list, netip.AddrPort{})
	}
	a, _ := netip.AddrFromSlice(e.Data[:size])
	list[slot] = netip.AddrPortFrom(a, binary.BigEndian.Uint16(e.Data[size:]))
	slots[k] = list
	if n, length := binary.Uvarint(e.Extra); length > 0 {
		r.shares[share{k, list[slot]}] = int(n)
	}
}

type share struct {
	key    Key
	target netip.AddrPort
}
