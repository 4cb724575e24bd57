package policy

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/plan"
)

// commit does a plan: in one transaction, or when that is larger than the socket takes, in several, whose order is such that none refers
// to what is not there yet: what is new is made first, then led to, and what is left over goes last.
func (c *Client) commit(ctx context.Context, p Plan) error {
	if p.Empty() {
		return nil
	}
	if p.table == plan.Remove {
		return c.remove(ctx)
	}
	t := &transaction{c: c, ctx: ctx, batch: nft.NewBatch(), most: c.conn.Limit() / part}
	if p.table == plan.Add && !p.anew {
		t.most = min(t.most, firstPart)
	}
	t.begin(p)
	t.grow(p)
	t.lead(p)
	t.shrink(p)
	t.flush()
	return t.err
}

// remove deletes the table.
func (c *Client) remove(ctx context.Context) error {
	b := nft.NewBatch()
	b.DelTable(c.table)
	if err := c.conn.Commit(ctx, b, c.guard()); err != nil {
		return err
	}
	c.committed()
	c.exists, c.owned, c.outdated, c.orphan = false, false, false, false
	return nil
}

// guard is the generation that a commit must meet: any when nobody else can change the table.
func (c *Client) guard() uint32 {
	if c.owned {
		return 0
	}
	return c.gen
}

// committed notes that the ruleset moved on by our own doing. Each transaction adds one to the generation; zero is left out.
func (c *Client) committed() {
	if c.gen++; c.gen == 0 {
		c.gen++
	}
}

// transaction is a batch being written.
type transaction struct {
	c     *Client
	ctx   context.Context
	batch *nft.Batch
	most  int // bytes
	// pending are elements of one set that are not written yet.
	pending []nft.Element
	bytes   []byte // of pending
	err     error
	// create and takeOver say what the first batch does to the table.
	create, takeOver bool
}

// part is how far a batch may grow before it is committed: what is added next is smaller than the rest.
const part = 3

// firstPart is how far a batch of a new table grows. Nothing leads to what is new, and until all is there no packet meets it: nothing is
// gained by memory for all of it at once, here and in the kernel.
const firstPart = 128 << 10

// more makes room for more.
func (t *transaction) more() {
	if t.batch.Len() > t.most {
		t.flush()
	}
}

func (t *transaction) flush() {
	if t.err != nil || t.batch.Empty() {
		return
	}
	c := t.c
	err := c.conn.Commit(t.ctx, t.batch, c.guard())
	if t.create && c.canOwn && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)) {
		// Before Linux 6.9 there are no owned, persistent tables. Nothing was done: the caller plans again, without.
		c.canOwn = false
		err = nft.ErrStale
	}
	if t.err = err; err != nil {
		return
	}
	if t.create {
		c.exists, c.outdated, c.owned, c.orphan = true, false, c.canOwn, false
	}
	if t.takeOver {
		c.owned, c.orphan = true, false
	}
	c.committed()
	t.batch.Reset()
	t.create, t.takeOver = false, false
}

// begin makes the table, or takes it over.
func (t *transaction) begin(p Plan) {
	c := t.c
	c.table.Owned = c.canOwn
	if p.anew {
		t.batch.DelTable(c.table)
	}
	switch {
	case p.anew || !c.exists:
		t.batch.AddTable(c.table)
		t.create = true
	case c.canOwn && !c.owned && c.orphan:
		t.batch.OwnTable(c.table, c.table.Stamp())
		t.takeOver = true
	}
}

// grow adds what nothing leads to yet.
func (t *transaction) grow(p Plan) {
	table := t.c.table
	for _, ch := range p.counters {
		if ch.Have == nil {
			t.more()
			t.batch.AddCounter(table, nft.Counter{Name: ch.Key, Comment: *ch.Want})
		}
	}
	for _, ch := range p.sets {
		if ch.Have == nil {
			t.more()
			t.batch.AddSet(table, ch.Want)
		}
	}
	for _, ch := range p.chains {
		if ch.Have == nil && ch.Want.hook == nil {
			t.more()
			t.batch.NewChain(table, nftChain(ch.Key, ch.Want))
		}
	}
	for _, ch := range p.chains {
		if ch.Have == nil && ch.Want.hook == nil {
			t.more()
			t.batch.AddRules(table, nftChain(ch.Key, ch.Want))
		}
	}
	// After the rules: for each that asks a map the kernel looks at all that is in it by then.
	fresh := p.newSets()
	for _, e := range p.elements {
		if fresh[e.set.def.Name] && !e.set.def.Verdict {
			t.elements(e)
		}
	}
}

// lead changes what packets meet.
func (t *transaction) lead(p Plan) {
	table := t.c.table
	fresh := p.newSets()
	for _, verdict := range []bool{true, false} { // numbers lead to chains before addresses to numbers
		for _, e := range p.elements {
			if e.set.def.Verdict == verdict && (verdict || !fresh[e.set.def.Name]) {
				t.elements(e)
			}
		}
	}
	for _, ch := range p.chains {
		if ch.Want == nil || ch.Have == nil && ch.Want.hook == nil {
			continue
		}
		t.more()
		if ch.Have != nil {
			t.batch.FlushChain(table, ch.Key)
			if hooked(ch.Have) != hooked(ch.Want) {
				t.batch.RemoveChain(table, ch.Key)
				t.batch.NewChain(table, nftChain(ch.Key, ch.Want))
			}
		} else {
			t.batch.NewChain(table, nftChain(ch.Key, ch.Want))
		}
		t.batch.AddRules(table, nftChain(ch.Key, ch.Want))
	}
}

func hooked(c *chain) nft.Hook {
	if c.hook == nil {
		return nft.Hook{}
	}
	return *c.hook
}

// elements writes the changes to one set: deletions first, so that a value can be replaced.
func (t *transaction) elements(e elementChanges) {
	for _, ch := range e.changes {
		if ch.Have != nil {
			t.element(e.set, ch.Key, *ch.Have, t.batch.DelElements)
		}
	}
	t.elementsDone(e.set, t.batch.DelElements)
	for _, ch := range e.changes {
		if ch.Want != nil {
			t.element(e.set, ch.Key, *ch.Want, t.batch.AddElements)
		}
	}
	t.elementsDone(e.set, t.batch.AddElements)
}

// chunk is how many elements are handed on at a time.
const chunk = 512

func (t *transaction) element(s *set, key, value string, write func(*nft.Table, *nft.Set, []nft.Element)) {
	var e nft.Element
	e, t.bytes = s.elementIn(t.bytes, key, value)
	if t.pending = append(t.pending, e); len(t.pending) == chunk {
		t.elementsDone(s, write)
	}
}

func (t *transaction) elementsDone(s *set, write func(*nft.Table, *nft.Set, []nft.Element)) {
	if len(t.pending) > 0 {
		t.more()
		write(t.c.table, s.def, t.pending)
		t.pending, t.bytes = t.pending[:0], t.bytes[:0]
	}
}

// shrink deletes what nothing leads to any more.
func (t *transaction) shrink(p Plan) {
	table := t.c.table
	for _, ch := range p.chains {
		if ch.Want == nil {
			t.more()
			t.batch.FlushChain(table, ch.Key)
		}
	}
	for _, ch := range p.chains {
		if ch.Want == nil {
			t.more()
			t.batch.RemoveChain(table, ch.Key)
		}
	}
	for _, ch := range p.sets {
		if ch.Want == nil {
			t.more()
			t.batch.DelSet(table, ch.Key)
		}
	}
	for _, ch := range p.counters {
		if ch.Want == nil {
			t.more()
			t.batch.DelCounter(table, ch.Key)
		}
	}
}
