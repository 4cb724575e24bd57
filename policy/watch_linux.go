package policy

import (
	"context"
	"io/fs"
	"sync"

	"github.com/podplumb/podplumb/internal/nft"
)

func (c *Client) watch(ctx context.Context) error {
	if !c.config.AllowBridged {
		var done sync.WaitGroup
		defer done.Wait()
		inner, stop := context.WithCancel(ctx)
		defer stop()
		done.Go(func() { c.watchBridges(inner) })
	}
	return nft.Keep(ctx, c.listen, c.repair, func(err error) { c.report(Plan{}, err) })
}

// listen opens the socket that tells of others' changes.
func (c *Client) listen() (*nft.Watch, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ns == 0 {
		return nil, c.fail("watch", fs.ErrClosed)
	}
	w, err := nft.OpenWatch(c.ns, c.table, c.conn.PortID())
	return w, c.fail("watch", err)
}

// repair makes the table again what it was asked to be.
func (c *Client) repair(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	goal := c.goal
	if goal == nil {
		return nil
	}
	p, err := c.again(ctx, func() Plan {
		if c.have == goal {
			return Plan{} // not even read again: nobody touched it
		}
		if c.world != nil {
			return c.diff(c.world)
		}
		return Diff(*c.have, *goal)
	})
	if err != nil {
		return c.fail("watch", err)
	}
	c.have = goal
	if !p.Empty() {
		c.report(p, nil)
	}
	return nil
}

func (c *Client) report(p Plan, err error) {
	if c.config.Repaired != nil {
		c.config.Repaired(p, err)
	}
}
