package nat

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/plan"
	"github.com/podplumb/podplumb/netns"
)

// Client keeps one table in the state that it is given. Its methods may be
// called from several goroutines; they take turns.
type Client struct {
	config Config
	lay    *layout
	ns     int // the namespace, for the sockets of Watch; 0 when closed

	mu    sync.Mutex
	conn  *nft.Conn
	ct    *netlink.Conn // for conntrack; nil until needed
	world *world        // nil when it must be read first
	gen   uint32        // of the ruleset when world was last known to be right
	// exists says that the table is there, owned that it belongs to conn,
	// damaged that it is not what a Client of this version would have made.
	// orphan that it is owned by nobody but may be.
	exists, owned, damaged, orphan bool
	stamp                          uint64 // of the table
	// whole says that the table's fixed part was there at generation gen.
	whole bool
	// canOwn turns false on a kernel without owned, persistent tables.
	canOwn bool
	// drains tells Watch that there is something to drain.
	drains chan struct{}
	// goal is world as the last change left it, which Watch restores.
	goal *world
}

// tries bounds how often a change is planned again because others changed
// the ruleset meanwhile.
const tries = 10

func newClient(c Config) (*Client, error) {
	if err := c.complete(); err != nil {
		return nil, &OpError{Op: "new", Err: err}
	}
	ns, err := holdNS(c)
	if err != nil {
		return nil, &OpError{Op: "new", Err: err}
	}
	var conn *nft.Conn
	switch {
	case c.Socket != nil:
		conn, err = nft.Share(c.Socket)
	case c.NetNS == nil:
		conn, err = nft.Open(0)
	default:
		conn, err = nft.Open(ns)
	}
	if err != nil {
		unix.Close(ns)
		return nil, &OpError{Op: "new", Err: err}
	}
	return &Client{config: c, lay: newLayout(c), ns: ns, conn: conn, canOwn: !c.Shared, drains: make(chan struct{}, 1)}, nil
}

// holdNS returns a descriptor of the namespace that lives as long as the
// Client does.
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ns == 0 {
		return nil
	}
	err := errors.Join(c.conn.Close(), unix.Close(c.ns))
	if c.ct != nil {
		err = errors.Join(err, c.ct.Close())
	}
	c.ns = 0
	return err
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

func (c *Client) read(ctx context.Context) (State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.world = nil
	if err := c.know(ctx); err != nil {
		return State{}, c.fail("read", err)
	}
	return c.world.state(), nil
}

func (c *Client) plan(ctx context.Context, want State) (Plan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := want.Validate(); err != nil {
		return Plan{}, c.fail("plan", err)
	}
	if err := c.know(ctx); err != nil {
		return Plan{}, c.fail("plan", err)
	}
	return c.diff(want), nil
}

// diff is what the kernel's table needs to hold want.
func (c *Client) diff(want State) Plan {
	if c.damaged {
		// Nothing in the table is relied on: it is made anew.
		p := Diff(State{}, want)
		p.skeleton = plan.Modify
		if want.empty() {
			p.skeleton = plan.Remove
		}
		return p
	}
	p := Diff(c.world.state(), want)
	switch {
	case want.empty() && c.exists:
		p.skeleton = plan.Remove
	case !want.empty() && !c.exists:
		p.skeleton = plan.Add
	}
	return p
}

func (s State) empty() bool {
	return len(s.Networks) == 0 && len(s.Exclude) == 0 && len(s.Virtual) == 0 && len(s.Local) == 0 && len(s.Localhost) == 0 && len(s.Forwards) == 0 &&
		len(s.Redirects) == 0 && len(s.Capture.canonical().items()) == 0
}

func (c *Client) sync(ctx context.Context, want State) (Plan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := want.Validate(); err != nil {
		return Plan{}, c.fail("sync", err)
	}
	return c.again(ctx, "sync", func() (Plan, error) { return c.diff(want), nil })
}

// planChange is what a change takes, when world is known.
func (c *Client) planChange(change Change) (Plan, error) {
	if c.damaged || !c.exists && c.goal != nil && c.goal != c.world {
		// Others flushed or broke the table: what it held comes back together
		// with the change.
		if c.goal == nil {
			return Plan{}, ErrDamaged
		}
		p, err := c.goal.changes(change)
		if err != nil {
			return Plan{}, err
		}
		return c.diff(c.goal.state().with(p)), nil
	}
	p, err := c.world.changes(change)
	if err == nil && !c.exists && !p.Empty() {
		p.skeleton = plan.Add
	}
	return p, err
}

// again plans and does it, anew when others changed the ruleset in between.
func (c *Client) again(ctx context.Context, op string, plan func() (Plan, error)) (Plan, error) {
	for try := 0; ; try++ {
		if err := c.know(ctx); err != nil {
			return Plan{}, c.fail(op, err)
		}
		p, err := plan()
		if err != nil {
			return Plan{}, c.fail(op, err)
		}
		err = c.do(ctx, p)
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, nft.ErrStale) || try >= tries {
			return Plan{}, c.fail(op, err)
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
		if !c.stillFits(p) {
			return c.fail("apply", ErrStale)
		}
		p := p
		if p.skeleton == 0 && !c.exists && !p.Empty() {
			p.skeleton = plan.Add // made by Diff, which does not know of tables
		}
		err := c.do(ctx, p)
		// Someone changed another table: the plan still fits, go on.
		if !errors.Is(err, nft.ErrStale) || try >= tries {
			return c.fail("apply", err)
		}
	}
}

func (c *Client) stillFits(p Plan) bool {
	switch {
	case p.Empty():
		return true
	case p.skeleton == plan.Modify, p.skeleton == plan.Remove && c.damaged:
		return c.damaged
	case c.damaged, p.skeleton == plan.Add && c.exists, p.skeleton == plan.Remove && !c.exists:
		return false
	}
	return c.world.fits(p) && (p.skeleton != plan.Remove || len(p.forwards) == len(c.world.forwards))
}

// know makes world right, by reading the table unless nobody can have
// changed it.
func (c *Client) know(ctx context.Context) error {
	if c.ns == 0 {
		return fs.ErrClosed
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	err := c.conn.Know(ctx, &c.gen, c.world != nil, func() bool { return c.owned }, c.load)
	if err != nil {
		c.world = nil
	}
	return err
}

// do makes the plan's changes in the kernel and in world.
func (c *Client) do(ctx context.Context, p Plan) error {
	if p.Empty() {
		c.goal = c.world
		return nil
	}
	flows, err := c.commit(ctx, p)
	if err != nil {
		// Some of world may be ahead of the kernel.
		if c.goal == c.world {
			c.goal = nil
		}
		c.world = nil
		return err
	}
	c.goal = c.world
	return c.forget(ctx, flows)
}
