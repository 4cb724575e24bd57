package nat

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/podplumb/podplumb/internal/nft"
)

// settle is how long Watch lets others finish what they began before it
// looks, and how long it waits after a repair that failed.
const (
	settle = 20 * time.Millisecond
	pause  = 500 * time.Millisecond
)

func (c *Client) watch(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	var draining sync.WaitGroup
	defer draining.Wait()
	defer cancel()
	draining.Go(func() { c.drainInTime(inner) })
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
	w, err := nft.OpenWatch(c.ns, c.lay.table, c.conn.PortID())
	c.mu.Unlock()
	if err != nil {
		return c.fail("watch", err)
	}
	defer w.Close()
	for {
		// What changed before the socket listened, or since, is repaired
		// before waiting.
		if err := c.repair(ctx); err != nil {
			return err
		}
		if err := w.Next(ctx); err != nil {
			return c.fail("watch", err)
		}
		sleep(ctx, settle)
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

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
