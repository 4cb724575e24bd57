package policy

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
)

// addGathered adds to counters what the sets of counters have for the rules of entries, by the names that their counters would have.
func (c *Client) addGathered(ctx context.Context, have map[string]nft.CounterInfo) error {
	w := c.world
	found := map[string]map[string]nft.CounterInfo{} // by set and key
	for name, s := range w.sets {
		if !s.def.Counted {
			continue
		}
		err := c.conn.Elements(ctx, c.table, s.def, c.owned, func() { found[name] = map[string]nft.CounterInfo{} }, func(e *nft.Element) {
			found[name][string(e.Key)] = nft.CounterInfo{Packets: e.Packets, Bytes: e.Bytes}
		})
		if err != nil {
			return err
		}
	}
	for _, use := range w.blocks {
		counts := found[use.counted.def.Name]
		for i := range use.entries {
			e := &use.entries[i]
			by := use.rules.decision(use.d, e.rule)
			name, n := by.counter(), counts[string(use.counts.AsSlice())+e.key]
			sum := have[name]
			have[name] = nft.CounterInfo{Packets: sum.Packets + n.Packets, Bytes: sum.Bytes + n.Bytes}
		}
	}
	return nil
}

// forgetCounts deletes the counters of entries that changes took away. Packets have made some of them: adding all makes all deletable.
func (c *Client) forgetCounts(ctx context.Context, w *world) error {
	spent := w.spentCounts()
	if len(spent) == 0 {
		return nil
	}
	b := nft.NewBatch()
	for def, list := range spent {
		b.AddElements(c.table, def, list)
		b.DelElements(c.table, def, list)
	}
	return c.clean(ctx, b)
}

// sweepCounts deletes the counters of a table that was there before w, and that are of no entries of w.
func (c *Client) sweepCounts(ctx context.Context, w *world) error {
	b := nft.NewBatch()
	for _, s := range w.sets {
		if !s.def.Counted {
			continue
		}
		live := map[string]struct{}{}
		for _, use := range w.blocks {
			if use.counted.def.Name == s.def.Name {
				for i := range use.entries {
					live[string(use.counts.AsSlice())+use.entries[i].key] = struct{}{}
				}
			}
		}
		var list []nft.Element
		err := c.conn.Elements(ctx, c.table, s.def, c.owned, func() { list = nil }, func(e *nft.Element) {
			if _, ok := live[string(e.Key)]; !ok {
				list = append(list, nft.Element{Key: append([]byte(nil), e.Key...)})
			}
		})
		if err != nil {
			return err
		}
		b.AddElements(c.table, s.def, list) // as others may have deleted some meanwhile
		b.DelElements(c.table, s.def, list)
	}
	return c.clean(ctx, b)
}

// clean commits a batch that changes nothing that matters to others. In a set that is full nothing can be added, so that what is to go stays for
// the next Sync: policies are in force all the same.
func (c *Client) clean(ctx context.Context, b *nft.Batch) error {
	if b.Empty() {
		return nil
	}
	err := c.conn.Commit(ctx, b, 0)
	if errors.Is(err, unix.ENFILE) {
		return nil
	}
	if err == nil {
		c.committed()
	}
	return err
}
