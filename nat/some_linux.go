package nat

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/plan"
)

// someTries bounds how often a change is planned again because others, such as
// the processes of other pods, changed the ruleset meanwhile. Of those that
// collide one always gets through.
const someTries = 500

// update changes the named forwards. A Client that does not know the table, or
// no longer, looks only at what the change is about.
func (c *Client) update(ctx context.Context, change Change) (Plan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := change.Validate(); err != nil {
		return Plan{}, c.fail("update", err)
	}
	for try := range someTries {
		if known, err := c.current(ctx); err != nil {
			return Plan{}, c.fail("update", err)
		} else if known {
			break
		}
		p, err := c.updateSome(ctx, change)
		switch {
		case err == nil:
			return p, nil
		case errors.Is(err, nft.ErrStale):
			nft.Sleep(ctx, rand.N(time.Duration(min(try, 20)+1)*200*time.Microsecond))
			continue
		case !errors.Is(err, errPartial):
			return Plan{}, c.fail("update", err)
		}
		break
	}
	return c.again(ctx, "update", func() (Plan, error) { return c.planChange(change) })
}

// planUpdate returns what update would do.
func (c *Client) planUpdate(ctx context.Context, change Change) (Plan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := change.Validate(); err != nil {
		return Plan{}, c.fail("plan", err)
	}
	known, err := c.current(ctx)
	if err == nil && !known {
		var p Plan
		p, err = c.planSome(ctx, change, false)
		c.world = nil
		if err == nil {
			return p, nil
		}
	}
	if err == nil || errors.Is(err, errPartial) {
		err = c.know(ctx)
	}
	var p Plan
	if err == nil {
		p, err = c.planChange(change)
	}
	return p, c.fail("plan", err)
}

// lookup returns the named forwards that there are.
func (c *Client) lookup(ctx context.Context, keys []Key) ([]Forward, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, err := c.current(ctx)
	if err == nil && !known {
		if err = c.glimpse(ctx, Change{Drop: keys}, true); err != nil {
			c.world = nil
		}
	}
	if errors.Is(err, errPartial) {
		err = c.know(ctx)
	}
	if err != nil {
		return nil, c.fail("read", err)
	}
	var list []Forward
	for _, k := range keys {
		if en := c.world.forwards[k]; en != nil {
			list = append(list, en.Forward)
		}
	}
	if c.world.partial {
		c.world = nil
	}
	return list, nil
}

// current says that world is right as it is.
func (c *Client) current(ctx context.Context) (bool, error) {
	if c.ns == 0 {
		return false, fs.ErrClosed
	}
	if err := context.Cause(ctx); err != nil || c.world == nil || c.owned {
		return c.world != nil, err
	}
	gen, err := c.conn.Generation(ctx)
	return gen == c.gen, err
}

// updateSome does a change, knowing only what it is about.
func (c *Client) updateSome(ctx context.Context, change Change) (Plan, error) {
	defer func() {
		if c.world != nil && c.world.partial {
			c.world = nil
		}
	}()
	p, err := c.planSome(ctx, change, true)
	if err != nil || p.Empty() {
		return p, err
	}
	flows, err := c.commit(ctx, p)
	if err != nil {
		c.world, c.whole = nil, false
		if len(p.networks)+len(p.exclude) > 0 && (errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY)) {
			err = errPartial // ranges that are there lie inside
		}
		return p, err
	}
	if c.goal != nil {
		if err := c.goal.follow(p); err != nil {
			return p, err
		}
	}
	return p, c.forget(ctx, flows)
}

// follow makes a plan's changes in a world whose kernel has them already.
func (w *world) follow(p Plan) error {
	e := &edits{}
	w.ranges(p, e)
	for _, ch := range p.forwards {
		if err := w.forward(ch.Key, ch.Want, e); err != nil {
			return err
		}
	}
	w.settle(e)
	return nil
}

// planSome plans a change, knowing only what it is about. That nobody changed
// the ruleset meanwhile is left to the commit, if there will be one.
func (c *Client) planSome(ctx context.Context, change Change, committed bool) (Plan, error) {
	if err := c.glimpse(ctx, change, !committed); err != nil {
		return Plan{}, err
	}
	p, err := c.world.changes(change)
	if committed && (err != nil || p.Empty()) {
		if err := c.unmoved(ctx); err != nil {
			return Plan{}, err
		}
	}
	if err == nil && !c.exists && !p.Empty() {
		p.skeleton = plan.Add
	}
	return p, err
}

// glimpse makes world hold what a change is about, and gen the generation that
// it is of. Unless the caller does, it makes sure that all was of one
// generation.
func (c *Client) glimpse(ctx context.Context, change Change, sure bool) error {
	gen, err := c.conn.Generation(ctx)
	if err != nil {
		return err
	}
	c.gen, c.whole = gen, false
	c.world = newWorld(c.lay)
	c.world.partial = true
	info, err := c.conn.Table(ctx, c.lay.table.Family, c.lay.table.Name)
	if errors.Is(err, fs.ErrNotExist) {
		c.exists, c.owned, c.damaged, c.orphan = false, false, false, false
		if c.goal != nil && !c.goal.state().empty() {
			return errPartial // flushed by others: all of it comes back
		}
		c.whole = true // what is made now is
		return nil
	}
	if err != nil {
		return err
	}
	if info.Stamp == 0 {
		return ErrForeign
	}
	c.exists, c.damaged, c.stamp = true, false, info.Stamp
	c.owned = info.Owner == c.conn.PortID()
	c.orphan = info.Persist && info.Owner == 0
	r := newReader(c, c.world)
	trusted := gen == c.config.Whole
	fits := trusted || info.Stamp == c.lay.whole().Stamp()
	if fits {
		fits, err = r.some(ctx, change, trusted)
	}
	if err != nil {
		if errors.Is(err, nft.ErrInterrupted) {
			err = nft.ErrStale
		}
		return err
	}
	if sure || !fits {
		if err := c.unmoved(ctx); err != nil {
			return err
		}
	}
	if !fits {
		return errPartial // damaged, as it seems: the whole will tell
	}
	c.whole = true
	return nil
}

// unmoved fails with ErrStale if others changed the ruleset since generation
// gen.
func (c *Client) unmoved(ctx context.Context) error {
	if c.owned {
		return nil
	}
	gen, err := c.conn.Generation(ctx)
	if err == nil && gen != c.gen {
		err = nft.ErrStale
	}
	return err
}

// generation is that of the ruleset, if the table is known to be whole at it.
func (c *Client) generation() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.whole {
		return 0
	}
	return c.gen
}
