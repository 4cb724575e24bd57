package nat

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/internal/nft"
)

func (r *reader) ranges(ctx context.Context, f *family) error {
	err := r.prefixes(ctx, f.networks, func(p netip.Prefix, e *nft.Element) {
		r.w.networks[p] = Network{Prefix: p, Name: e.Comment}
	})
	if err != nil {
		return err
	}
	if err := r.pools(ctx, f); err != nil {
		return err
	}
	if err := r.prefixes(ctx, f.excluded, func(p netip.Prefix, _ *nft.Element) { r.w.exclude[p] = p }); err != nil {
		return err
	}
	if err := r.localRanges(ctx, f); err != nil {
		return err
	}
	if f == &r.w.lay.v4 { // once
		if err := r.localhosts(ctx); err != nil {
			return err
		}
	}
	return r.prefixes(ctx, f.virtual, func(p netip.Prefix, e *nft.Element) {
		v := Virtual{Prefix: p}
		if e.Verdict != nil && *e.Verdict == silence(p.Addr()) {
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
			starts = append(starts, start{a, nft.Element{Comment: e.Comment, Verdict: e.Verdict, Data: slices.Clone(e.Data)}})
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

func (c *Client) names(ctx context.Context) (Names, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := Names{Forwards: map[Key]string{}, Networks: map[netip.Prefix]string{}}
	if c.ns == 0 {
		return list, c.fail("read", fs.ErrClosed)
	}
	info, err := c.conn.Table(ctx, c.lay.table.Family, c.lay.table.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return list, nil
	case err == nil && info.Stamp == 0:
		err = ErrForeign
	case err == nil && info.Stamp != c.lay.whole().Stamp():
		err = ErrDamaged
	}
	if err != nil {
		return list, c.fail("read", err)
	}
	owned := info.Owner == c.conn.PortID()
	for _, f := range c.lay.families() {
		for i, s := range []*nft.Set{f.rejected, f.dropped, f.elsewhere, f.forwards} {
			var seen []Key
			again := func() {
				for _, k := range seen {
					delete(list.Forwards, k)
				}
				seen = nil
			}
			err := c.conn.Elements(ctx, c.lay.table, s, owned, again, func(e *nft.Element) {
				// Of a forward that is in two sets, the last has the name.
				if k, ok := parseForwardKey(f, e.Key); ok && (i == 3 || list.Forwards[k] == "") {
					list.Forwards[k] = e.Comment
					seen = append(seen, k)
				}
			})
			if err != nil {
				return list, c.fail("read", err)
			}
		}
		again := func() {
			maps.DeleteFunc(list.Networks, func(p netip.Prefix, _ string) bool { return p.Addr().Is4() == f.is4() })
		}
		err := c.conn.Elements(ctx, c.lay.table, f.networks, owned, again, func(e *nft.Element) {
			if p, ok := prefixOf(e); ok {
				list.Networks[p] = e.Comment
			}
		})
		if err != nil {
			return list, c.fail("read", err)
		}
	}
	return list, nil
}

// localhosts reads which addresses stand for loopback addresses.
func (r *reader) localhosts(ctx context.Context) error {
	for _, f := range r.w.lay.families() {
		key := unspecified(f.loopbackSource())
		err := r.elements(ctx, f.localhost.source, func() { delete(r.w.localhost, key) }, func(e *nft.Element) {
			a, ok := netip.AddrFromSlice(e.Data)
			if _, twice := r.w.localhost[key]; !ok || twice {
				r.bad = true
				return
			}
			r.w.localhost[key] = a
		})
		if err != nil {
			return err
		}
		want := map[netip.Addr]bool{}
		if a, ok := r.w.localhost[key]; ok {
			want[a], want[f.loopbackSource()] = true, true
		}
		have := map[netip.Addr]bool{}
		err = r.elements(ctx, f.localhost.ends, func() { clear(have) }, func(e *nft.Element) {
			a, _ := netip.AddrFromSlice(e.Key)
			have[a] = true
		})
		if err != nil {
			return err
		}
		r.bad = r.bad || !maps.Equal(want, have)
	}
	return nil
}
