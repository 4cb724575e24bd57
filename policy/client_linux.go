package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/plan"
	"github.com/podplumb/podplumb/netns"
)

// Client enforces policies in one network namespace. Its methods may be called from several goroutines; they take turns, but for Denials.
type Client struct {
	config Config
	table  *nft.Table
	ns     int // the namespace, for more sockets; 0 when closed

	mu   sync.Mutex
	conn *nft.Conn
	have *Ruleset // what the table holds; nil when it must be read first
	gen  uint32   // of nftables' rulesets when have was last known to be right
	// exists says that the table is there, owned that it belongs to conn, orphan that it is owned by nobody but may be, outdated that
	// another version made it.
	exists, owned, orphan, outdated bool
	// canOwn turns false on a kernel without owned, persistent tables.
	canOwn bool
	goal   *Ruleset // as the last change left it, which Watch restores; nil before the first
	world  *world   // behind goal, for Update; nil when goal is not of a State
	cutter cutter
	// bridges tells whether all packets between pods are seen.
	bridges bridges
}

// layoutVersion is the table's comment. Another one is for a layout whose sets are others under the same names: a table that has not this
// one is made anew.
const layoutVersion = "podplumb policy, layout 2"

// tries bounds how often a change is planned again because others changed the ruleset meanwhile.
const tries = 10

// errNoSync is why Update cannot work.
var errNoSync = errors.New("there is no State to change: Sync first")

func newClient(c Config) (*Client, error) {
	if err := c.complete(); err != nil {
		return nil, &OpError{Op: "new", Err: err}
	}
	ns, err := holdNS(c)
	if err != nil {
		return nil, &OpError{Op: "new", Err: err}
	}
	conn, err := nft.Open(ns)
	if err != nil {
		unix.Close(ns)
		return nil, &OpError{Op: "new", Err: err}
	}
	table := &nft.Table{Family: nft.FamilyInet, Name: c.Table, Comment: layoutVersion}
	return &Client{config: c, table: table, ns: ns, conn: conn, canOwn: !c.Shared}, nil
}

// holdNS returns a descriptor of the namespace that lives as long as the Client does.
func holdNS(c Config) (fd int, err error) {
	open := func() (err error) {
		ns, err := netns.Current()
		if err != nil {
			return err
		}
		defer ns.Close()
		fd, err = unix.FcntlInt(uintptr(ns.Fd()), unix.F_DUPFD_CLOEXEC, 0)
		return err
	}
	if c.NetNS == nil {
		err = open()
	} else {
		err = c.NetNS.Do(open)
	}
	if err != nil {
		return 0, fmt.Errorf("holding the network namespace: %w", err)
	}
	return fd, nil
}

func (c *Client) close() error {
	c.finishCutting()
	c.mu.Lock()
	ns := c.ns
	c.ns = 0
	c.have, c.goal, c.world = nil, nil, nil // a Client that is kept after Close keeps no State alive
	c.bridges.close()
	c.mu.Unlock()
	if ns == 0 {
		return nil
	}
	return errors.Join(c.stopCutting(), c.conn.Close(), unix.Close(ns))
}

func (c *Client) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, nft.ErrStale) {
		err = ErrStale
	}
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w (needs CAP_NET_ADMIN, and that no other Client that is open owns the table)", err)
	}
	return &OpError{Op: op, Object: c.config.Table, Err: err}
}

func (c *Client) read(ctx context.Context) (Ruleset, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.have = nil
	if err := c.know(ctx); err != nil {
		return Ruleset{}, c.fail("read", err)
	}
	return *c.have, nil
}

// compile makes a world of a State.
func (c *Client) compile(want State) (*world, error) {
	if err := known(want.Validate()); err != nil {
		return nil, err
	}
	w := newWorld(&c.config)
	w.change(Change{Set: want})
	return w, w.err
}

func (c *Client) plan(ctx context.Context, want State) (Plan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, err := c.compile(want)
	if err == nil {
		err = c.know(ctx)
	}
	if err != nil {
		return Plan{}, c.fail("plan", err)
	}
	return c.diff(w), nil
}

// diff is what the table needs to hold what w compiles to.
func (c *Client) diff(w *world) Plan {
	p := Diff(*c.have, *w.rules)
	p.world = w
	if c.outdated {
		// Nothing in the table is relied on: it is made anew.
		p = Diff(Ruleset{}, *w.rules)
		p.world, p.anew = w, true
		if w.rules.Empty() {
			p.table, p.name = plan.Remove, c.config.Table
		}
	}
	return p
}

func (c *Client) sync(ctx context.Context, want State) (Plan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, err := c.compile(want)
	if err != nil {
		return Plan{}, c.fail("sync", err)
	}
	p, err := c.again(ctx, func() Plan { return c.diff(w) })
	if err != nil {
		return Plan{}, c.fail("sync", err)
	}
	c.hold(w)
	if !p.Empty() {
		if p.table == 0 {
			err = c.sweepCounts(ctx, w)
		}
		err = errors.Join(err, c.cut(ctx, w))
	}
	return p, c.fail("sync", errors.Join(err, c.seen(ctx, w, nil)))
}

// hold notes that the table is what w compiles to.
func (c *Client) hold(w *world) {
	c.world, c.goal, c.have = w, w.rules, w.rules
}

func (c *Client) update(ctx context.Context, op string, change Change) (Plan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := known(change.Validate())
	if err == nil && c.world == nil {
		err = errNoSync
	}
	if err == nil {
		err = c.know(ctx)
	}
	if err != nil {
		return Plan{}, c.fail(op, err)
	}
	w := c.world
	touched, p := w.journalled(change)
	if w.err != nil {
		err = w.err
		c.world, c.have = nil, nil // half changed
		return Plan{}, c.fail(op, err)
	}
	p, err = c.again(ctx, func() Plan {
		if c.have == w.rules {
			return p // nobody else changed the table
		}
		return c.diff(w)
	})
	if err != nil {
		return Plan{}, c.fail(op, err)
	}
	c.hold(w)
	return p, c.fail(op, errors.Join(c.forgetCounts(ctx, w), c.cutSoon(w, touched), c.seenOf(ctx, w, change.Set.Pods)))
}

// seenOf is seen for the addresses of pods that changed.
func (c *Client) seenOf(ctx context.Context, w *world, pods []Pod) error {
	var addrs []netip.Addr
	for i := range pods {
		if p := w.pods[pods[i].Meta.Key()]; p != nil && p.local {
			addrs = append(addrs, p.addrs...)
		}
	}
	if len(addrs) == 0 {
		return nil
	}
	return c.seen(ctx, w, addrs)
}

// again plans and does it, anew when others changed the ruleset in between.
func (c *Client) again(ctx context.Context, plan func() Plan) (Plan, error) {
	for try := 0; ; try++ {
		if err := c.know(ctx); err != nil {
			return Plan{}, err
		}
		p := plan()
		err := c.commit(ctx, p)
		if err == nil {
			return p, nil
		}
		c.have = nil
		if !errors.Is(err, nft.ErrStale) || try >= tries {
			return Plan{}, err
		}
	}
}

func (c *Client) apply(ctx context.Context, p Plan) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for try := 0; ; try++ {
		if err := c.know(ctx); err != nil {
			return c.fail("apply", err)
		}
		if p.anew != c.outdated || !c.outdated && !p.fits(c.have) {
			return c.fail("apply", ErrStale)
		}
		err := c.commit(ctx, p)
		if err == nil {
			break
		}
		c.have = nil
		// Someone changed another table: the plan still fits, go on.
		if !errors.Is(err, nft.ErrStale) || try >= tries {
			return c.fail("apply", err)
		}
	}
	if w := p.world; w != nil && (c.outdated || Diff(p.applied(c.have), *w.rules).Empty()) {
		c.outdated = false
		c.hold(w)
		return c.fail("apply", errors.Join(c.cut(ctx, w), c.seen(ctx, w, nil)))
	}
	now := p.applied(c.have)
	c.have, c.goal, c.world = &now, &now, nil
	return nil
}

// know makes have right, by reading the table unless nobody can have changed it.
func (c *Client) know(ctx context.Context) error {
	if c.ns == 0 {
		return fs.ErrClosed
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	err := c.conn.Know(ctx, &c.gen, c.have != nil, func() bool { return c.owned }, c.load)
	if err != nil {
		c.have = nil
	}
	return err
}
