package nat

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/podplumb/podplumb/internal/nft"
)

// drain ends the connections whose time is up.
func (c *Client) drain(ctx context.Context) (next time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ns == 0 {
		return next, c.fail("drain", fs.ErrClosed)
	}
	info, err := c.conn.Table(ctx, c.lay.table.Family, c.lay.table.Name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Stamp != c.lay.whole().Stamp() {
		return next, nil
	}
	if err != nil {
		return next, c.fail("drain", err)
	}
	var due []flow
	elements := map[*nft.Set][]nft.Element{}
	now := time.Now()
	for _, f := range c.lay.families() {
		var list []flow
		first := next
		again := func() { list, next, elements[f.draining] = nil, first, nil }
		err := c.conn.Elements(ctx, c.lay.table, f.draining, info.Owner == c.conn.PortID(), again, func(e *nft.Element) {
			d, deadline, ok := parseDraining(f, e)
			switch {
			case !ok:
			case !deadline.After(now):
				list = append(list, d)
				elements[f.draining] = append(elements[f.draining], nft.Element{Key: slices.Clone(e.Key), Extra: slices.Clone(e.Extra)})
			case next.IsZero() || deadline.Before(next):
				next = deadline
			}
		})
		if err != nil {
			return next, c.fail("drain", err)
		}
		due = append(due, list...)
	}
	if len(due) == 0 {
		return next, nil
	}
	if err := c.forget(ctx, due); err != nil {
		return now, c.fail("drain", err)
	}
	b := nft.NewBatch()
	for s, list := range elements {
		// Another process may have struck them out meanwhile: added again, they can be deleted.
		b.AddElements(c.lay.table, s, list)
		b.DelElements(c.lay.table, s, list)
	}
	if err := c.conn.Commit(ctx, b, 0); err != nil {
		return now, c.fail("drain", err)
	}
	c.committed()
	for _, w := range []*world{c.world, c.goal} {
		for _, d := range due {
			if w != nil {
				delete(w.draining, d)
			}
		}
	}
	return next, nil
}

// drainInTime drains until ctx is done.
func (c *Client) drainInTime(ctx context.Context) {
	for {
		next, err := c.drain(ctx)
		wait := nft.Pause
		switch {
		case err != nil:
			c.report(Plan{}, err)
		case next.IsZero():
			wait = time.Hour
		default:
			wait = time.Until(next)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-c.drains: // something more is to be drained
			timer.Stop()
		case <-timer.C:
		}
	}
}
