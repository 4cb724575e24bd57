package policy

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/podplumb/podplumb/internal/nft"
)

// settleFor is how long Watch lets others finish what they began before it looks, and pause how long it waits after a repair that failed.
const (
	settleFor = 20 * time.Millisecond
	pause     = 500 * time.Millisecond
)

func (c *Client) watch(ctx context.Context) error {
	if !c.config.AllowBridged {
		var done sync.WaitGroup
		defer done.Wait()
		inner, stop := context.WithCancel(ctx)
		defer stop()
		done.Go(func() { c.watchBridges(inner) })
	}
	for {
		err := c.watchOnce(ctx)
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if errors.Is(err, fs.ErrClosed) {
			return err
		}
		c.report(Plan{}, err)
		sleep(ctx, pause)
	}
}

// watchOnce listens until something fails.
func (c *Client) watchOnce(ctx context.Context) error {
	c.mu.Lock()
	if c.ns == 0 {
		c.mu.Unlock()
		return c.fail("watch", fs.ErrClosed)
	}
	w, err := nft.OpenWatch(c.ns, c.table, c.conn.PortID())
	c.mu.Unlock()
	if err != nil {
		return c.fail("watch", err)
	}
	defer w.Close()
	for {
		// What changed before the socket listened, or since, is repaired before waiting.
		if err := c.repair(ctx); err != nil {
			return err
		}
		if err := w.Next(ctx); err != nil {
			return c.fail("watch", err)
		}
		sleep(ctx, settleFor)
	}
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

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
