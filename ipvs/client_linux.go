package ipvs

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/podplumb/podplumb/netns"
)

const (
	// syncTries bounds how often the services that others change at the same time are read and written again.
	syncTries = 16
	// checkSingly is how many services Apply and Stats read one by one; above, one listing of all costs less.
	checkSingly = 64
)

// Client keeps virtual servers in one network namespace. It is safe for concurrent use; calls take turns.
type Client struct {
	owns Owns
	ns   *netns.NS
	turn sync.Mutex // held while a call is under way
	conn *conn

	known memory
}

func newClient(c Config) (*Client, error) {
	var ns *netns.NS // a handle of our own: the caller may close his
	current := func() (err error) {
		ns, err = netns.Current()
		return err
	}
	err := error(nil)
	if c.NetNS == nil {
		err = current()
	} else {
		err = c.NetNS.Do(current)
	}
	if err != nil {
		return nil, opError("new", "", err)
	}
	conn, err := dial(ns)
	if err != nil {
		_ = ns.Close()
		return nil, opError("new", "", err)
	}
	return &Client{owns: c.Owns, ns: ns, conn: conn}, nil
}

// take waits for the caller's turn, which give ends. Others may be at a long listing: the wait ends with ctx.
func (c *Client) take(ctx context.Context) error {
	if c.turn.TryLock() {
		return nil
	}
	taken := make(chan struct{})
	go func() {
		c.turn.Lock()
		select {
		case taken <- struct{}{}:
		case <-ctx.Done():
			c.turn.Unlock()
		}
	}()
	select {
	case <-taken:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *Client) give() { c.turn.Unlock() }

func (c *Client) owned() Owns { return c.owns }

func (c *Client) close() error {
	return opError("close", "", errors.Join(c.conn.close(), c.ns.Close()))
}

func (c *Client) read(ctx context.Context) (State, error) {
	if err := c.take(ctx); err != nil {
		return State{}, opError("read", "", err)
	}
	defer c.give()
	s, err := c.settled(ctx)
	return s.Canonical(), opError("read", "", err) // a copy: the client keeps its own
}

func (c *Client) plan(ctx context.Context, want State) (Plan, error) {
	if err := c.owns.check(want); err != nil {
		return Plan{}, opError("plan", "", err)
	}
	if err := c.take(ctx); err != nil {
		return Plan{}, opError("plan", "", err)
	}
	defer c.give()
	have, err := c.settled(ctx)
	if err != nil {
		return Plan{}, opError("plan", "", err)
	}
	return diffCanonical(have, want.Canonical()), nil
}

func (c *Client) sync(ctx context.Context, want State) (Plan, error) {
	if err := c.owns.check(want); err != nil {
		return Plan{}, opError("sync", "", err)
	}
	if err := c.take(ctx); err != nil {
		return Plan{}, opError("sync", "", err)
	}
	defer c.give()
	callers := want.canonical() // then a copy is made only when there is something to do
	if !callers {
		want = want.Canonical()
	}
	have, err := c.once(ctx)
	if err != nil {
		return Plan{}, opError("sync", "", err)
	}
	if diffCanonical(have, want).Empty() {
		whole, err := c.whole(ctx, have)
		if whole || err != nil {
			return Plan{}, opError("sync", "", err)
		}
	}
	if callers {
		want = want.Canonical()
	}
	if have, err = c.confirm(ctx, have); err != nil {
		return Plan{}, opError("sync", "", err)
	}
	did, again, err := c.write(ctx, diffCanonical(have, want).changes)
	if err == nil && len(again) > 0 {
		var more Plan
		more, err = c.change(ctx, want.part(again))
		did = did.and(more)
	}
	if err == nil {
		c.known.learn(want)
	}
	return did, opError("sync", "", err)
}

// part is what s, canonical, says of what others' changes made fail.
func (s State) part(again []refusal) (c Change) {
	wanted := memory{base: s, complete: true}
	seen := make(map[Key]bool, len(again))
	for _, r := range again {
		if seen[r.key] {
			continue
		}
		seen[r.key] = true
		if v, _ := wanted.lookup(r.key); v != nil {
			c.Set = append(c.Set, *v)
		} else {
			c.Drop = append(c.Drop, r.key)
		}
	}
	return c
}

func (c *Client) apply(ctx context.Context, p Plan) error {
	if err := c.owns.checkPlan(p); err != nil {
		return opError("apply", "", err)
	}
	if err := c.take(ctx); err != nil {
		return opError("apply", "", err)
	}
	defer c.give()
	if err := c.checkFresh(ctx, p); err != nil {
		return opError("apply", "", err)
	}
	did, again, err := c.write(ctx, p.changes)
	for _, f := range again {
		err = errors.Join(err, f)
	}
	if err == nil {
		c.remember(did)
	}
	return opError("apply", "", err)
}

// checkFresh compares the services that p changes with the kernel's.
func (c *Client) checkFresh(ctx context.Context, p Plan) error {
	listed := memory{} // knows nothing
	if len(p.changes) > checkSingly {
		all, err := c.once(ctx)
		if err != nil {
			return err
		}
		listed.learn(all)
	}
	for i := range p.changes {
		k, expected := p.changes[i].key, p.changes[i].have
		if have, sure := listed.lookup(k); sure && sameOrNone(have, expected) {
			continue
		}
		have, err := c.conn.get(ctx, k) // what the listing says may be wrong
		if err != nil {
			return err
		}
		if !sameOrNone(have, expected) {
			return &OpError{Op: "apply", Object: k.String(), Err: ErrStale}
		}
	}
	return nil
}

// sameOrNone compares two canonical services, of which either may be missing.
func sameOrNone(a, b *Service) bool {
	return (a == nil) == (b == nil) && (a == nil || sameService(a, b))
}

// refusal is a failed operation with a name.
type refusal struct {
	key Key
	*OpError
}

func (r refusal) Unwrap() error { return r.OpError }

// remember notes what was done.
func (c *Client) remember(did Plan) {
	for i := range did.changes {
		c.known.note(did.changes[i].key, did.changes[i].want)
	}
}

// write does the changes. It returns what was done, those operations that others' changes made fail, and the other failures as an error.
// It remembers the outcome when something failed; when everything went well that is the caller's, who may know a shorter way.
func (c *Client) write(ctx context.Context, changes []change) (did Plan, again []refusal, err error) {
	if len(changes) == 0 {
		return Plan{}, nil, nil
	}
	failures, err := c.conn.write(ctx, changes)
	if err != nil {
		c.known.forgetAll() // nobody knows how far it came
		return Plan{}, nil, err
	}
	if len(failures) == 0 {
		return Plan{changes}, nil, nil
	}
	var faults []error
	failed := make(map[int]bool, len(failures))
	for _, f := range failures {
		ch := &changes[f.change]
		if failed[f.change] && f.destination >= 0 {
			continue // it follows from the service's failure, or is one more of the same service
		}
		r := refusal{ch.key, f.opError(ch)}
		if conflict(f.cmd, f.err) {
			again = append(again, r)
		} else {
			faults = append(faults, r.OpError)
		}
		failed[f.change] = f.destination < 0 || failed[f.change]
		c.known.forget(ch.key)
	}
	for i := range changes {
		if _, bad := failed[i]; !bad {
			did.changes = append(did.changes, changes[i])
		}
	}
	c.remember(did)
	return did, again, errors.Join(faults...)
}

// opError names the operation.
func (f failure) opError(c *change) *OpError {
	op, object := "add", c.key.String()
	switch f.cmd {
	case cmdSetService, cmdSetDest:
		op = "change"
	case cmdDelService, cmdDelDest:
		op = "remove"
	}
	if f.destination >= 0 {
		object += " -> " + c.destinations[f.destination].Key.String()
	}
	return &OpError{Op: op, Object: object, Err: explain(f.cmd, c.want, f.err)}
}

// and joins two plans that were done one after the other.
func (p Plan) and(next Plan) Plan {
	if len(p.changes) == 0 {
		return next
	}
	p.changes = append(p.changes, next.changes...)
	slices.SortStableFunc(p.changes, func(a, b change) int { return a.key.Compare(b.key) })
	return p
}
