package nat

import (
	"context"
	"errors"
	"io/fs"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/plan"
)

// commit writes the plan in one transaction; in several, each of whole
// forwards, when it is too big for the socket.
func (c *Client) commit(ctx context.Context, p Plan) ([]flow, error) {
	if p.skeleton == plan.Remove {
		return c.remove(ctx)
	}
	t := transaction{c: c, batch: nft.NewBatch(), edits: &edits{}, most: mostAtOnce}
	flows := t.begin(p)
	left := c.left(p)
	if len(left) > 0 && !t.create {
		found, err := c.kept(ctx, left)
		if err != nil {
			return nil, err
		}
		unlearn(t.batch, c.lay, found)
	}
	w := c.world
	if w.asksAnew(p) {
		flows = append(flows, questions)
	}
	w.now = time.Now()
	w.ranges(p, t.edits)
	for _, ch := range p.forwards {
		was := Forward{Addr: ch.Key.Addr, Port: ch.Key.Port, Proto: ch.Key.Proto}
		if have := w.forwards[ch.Key]; have != nil {
			was = have.Forward
		}
		flows = appendFlows(flows, was, ch.Want)
		if err := w.forward(ch.Key, ch.Want, t.edits); err != nil {
			return nil, err
		}
		if t.size() > c.conn.Limit() || t.edits.size > t.most {
			if err := t.flush(ctx); err != nil {
				return nil, err
			}
		}
	}
	if err := t.flush(ctx); err != nil {
		if len(left) > 0 && errors.Is(err, unix.EBUSY) {
			// A client learnt another target since: plan again.
			return nil, nft.ErrStale
		}
		return nil, err
	}
	if len(w.draining) > 0 {
		select {
		case c.drains <- struct{}{}: // for Watch
		default:
		}
	}
	return flows, c.forgetClients(ctx, left)
}

// left lists the targets that go from forwards with affinity. A forward that
// is to have affinity where the node port of its port has it starts anew.
func (c *Client) left(p Plan) []flow {
	var list []flow
	for _, ch := range p.forwards {
		have := c.world.forwards[ch.Key]
		if have != nil {
			list = appendLeft(list, have.Forward, ch.Want)
		}
		if ch.Want == nil || ch.Want.Affinity == 0 || have != nil && have.Affinity != 0 {
			continue
		}
		node := c.world.forwards[Key{unspecified(ch.Key.Addr), ch.Key.Port, ch.Key.Proto}]
		if node != nil && node.Affinity != 0 {
			list = append(list, flow{key: ch.Key})
		}
	}
	return list
}

// remove deletes the table.
func (c *Client) remove(ctx context.Context) ([]flow, error) {
	var flows []flow
	for _, e := range c.world.forwards {
		flows = appendFlows(flows, e.Forward, nil)
	}
	if c.world.captureState().DNS != 0 {
		flows = append(flows, questions)
	}
	b := nft.NewBatch()
	b.DelTable(c.lay.table)
	if err := c.conn.Commit(ctx, b, c.guard()); err != nil {
		return nil, err
	}
	c.committed()
	c.world, c.exists, c.owned, c.damaged = newWorld(c.lay), false, false, false
	return flows, nil
}

// own takes over a table that nobody owns.
func (c *Client) own(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ns == 0 {
		return c.fail("own", fs.ErrClosed)
	}
	info, err := c.conn.Table(ctx, c.lay.table.Family, c.lay.table.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && info.Owner == c.conn.PortID():
		return nil
	case err == nil && info.Stamp == 0:
		err = ErrForeign
	case err == nil && info.Owner != 0:
		err = unix.EPERM
	case err == nil && !info.Persist:
		err = errors.ErrUnsupported
	}
	if err != nil {
		return c.fail("own", err)
	}
	c.world = nil // as after any change by others
	b := nft.NewBatch()
	c.lay.table.Owned = true
	b.OwnTable(c.lay.table, info.Stamp)
	return c.fail("own", c.conn.Commit(ctx, b, 0))
}

// guard is the generation that a commit must meet: any when nobody else can
// change the table.
func (c *Client) guard() uint32 {
	if c.owned {
		return 0
	}
	return c.gen
}

// committed notes that the ruleset moved on by our own doing. Each
// transaction adds one to the generation; zero is left out.
func (c *Client) committed() {
	if c.gen++; c.gen == 0 {
		c.gen++
	}
}

// transaction gathers edits until they are flushed.
type transaction struct {
	c     *Client
	batch *nft.Batch
	edits *edits
	// create and takeOver say what the first batch does to the table.
	create, takeOver bool
	most             int // elements of a batch
}

// The kernel's time for a batch grows faster than the batch: above some
// hundred thousand elements it is many times that of several batches. A table
// that nobody else can change, and that nothing was served by before, is
// filled in small ones.
const (
	mostAtOnce  = 128 << 10
	mostAtFirst = 16 << 10
)

// begin starts with what the table itself needs and returns the flows that a
// replaced table's forwards leave behind.
func (t *transaction) begin(p Plan) []flow {
	c := t.c
	var flows []flow
	c.lay.table.Owned = c.canOwn
	switch {
	case p.skeleton == plan.Modify:
		for _, e := range c.world.forwards {
			flows = appendFlows(flows, e.Forward, findForward(p, e.Key()))
		}
		t.batch.DelTable(c.lay.table)
		t.most = math.MaxInt // what was served goes on being served
		fallthrough
	case p.skeleton == plan.Add:
		t.batch.AddTable(c.lay.whole())
		if p.skeleton == plan.Add && c.canOwn {
			t.most = mostAtFirst
		}
		t.create = true
		c.world = newWorld(c.lay)
		c.world.begin(t.edits)
		c.world.expect(p)
	case c.canOwn && !c.owned && c.orphan:
		t.batch.OwnTable(c.lay.table, c.stamp)
		t.takeOver = true
	}
	return flows
}

func findForward(p Plan, k Key) *Forward {
	for _, ch := range p.forwards {
		if ch.Key == k {
			return ch.Want
		}
	}
	return nil
}

// perElement bounds what one element takes in a batch: the largest is a
// target of IPv6 with a key of 28 bytes and a value of 20, or an entrance
// with a name.
const perElement = 144

func (t *transaction) size() int { return t.batch.Len() + t.edits.size*perElement }

func (t *transaction) flush(ctx context.Context) error {
	c := t.c
	t.write()
	if t.batch.Empty() {
		return nil
	}
	err := c.conn.Commit(ctx, t.batch, c.guard())
	if t.create && c.canOwn && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)) {
		// Before Linux 6.9 there are no owned, persistent tables. Nothing
		// was done: the caller plans again, without.
		c.canOwn = false
		return nft.ErrStale
	}
	if err != nil {
		return err
	}
	if t.create {
		c.exists, c.damaged, c.owned, c.orphan = true, false, c.canOwn, false
	}
	if t.takeOver {
		c.owned, c.orphan = true, false
	}
	c.committed()
	t.batch, t.edits, t.create, t.takeOver = nft.NewBatch(), &edits{}, false, false
	return nil
}

// write appends the edits to the batch. Deletions of a set come before its
// additions, so that an element can be replaced.
func (t *transaction) write() {
	if t.c.world != nil {
		t.c.world.settle(t.edits)
	}
	table, e := t.c.lay.table, t.edits
	for _, s := range e.order {
		t.batch.DelElements(table, s, e.sets[s].del)
	}
	for _, l := range e.shut {
		t.batch.DelChain(table, l.name())
	}
	for _, l := range e.open {
		t.batch.AddChain(table, l.chain(t.c.lay))
	}
	for _, s := range e.order {
		t.batch.AddElements(table, s, e.sets[s].add)
	}
	for _, ch := range e.rules {
		t.batch.SetRules(table, ch)
	}
	t.edits = &edits{}
}
