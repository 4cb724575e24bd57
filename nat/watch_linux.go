package nat

import (
	"context"
	"io/fs"
	"sync"

	"github.com/podplumb/podplumb/internal/nft"
)

func (c *Client) watch(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	var draining sync.WaitGroup
	defer draining.Wait()
	defer cancel()
	draining.Go(func() { c.drainInTime(inner) })
	return nft.Keep(ctx, c.listen, c.repair, func(err error) { c.report(Plan{}, err) })
}

// listen opens the socket that tells of others' changes.
func (c *Client) listen() (*nft.Watch, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ns == 0 {
		return nil, c.fail("watch", fs.ErrClosed)
	}
	w, err := nft.OpenWatch(c.ns, c.lay.table, c.conn.PortID())
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
	p, err := c.again(ctx, "watch", func() (Plan, error) {
		if c.world == goal {
			return Plan{}, nil // not even read again: nobody touched it
		}
		return c.diff(goal.state()), nil
	})
	if err == nil && !p.Empty() {
		c.report(p, nil)
	}
	return err
}

func (c *Client) report(p Plan, err error) {
	if c.config.Repaired != nil {
		c.config.Repaired(p, err)
	}
}
