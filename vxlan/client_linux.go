package vxlan

import (
	"context"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/rtnl"
	"github.com/podplumb/podplumb/netns"
)

// syncTries bounds how often Sync starts again because the kernel moved on under it.
const syncTries = 5

// Client keeps VXLAN devices in the state that it is told, in one network namespace. It is safe for concurrent use; operations take turns.
type Client struct {
	cfg   Config
	ownNS bool // cfg.NetNS was opened by New
	conn  *rtnl.Conn
	open  context.Context // ends with Close
	close context.CancelCauseFunc

	mu     sync.Mutex
	mirror *mirror // what the last successful operation left in the kernel; nil when that is not known
	wanted State   // what was last asked for; the mirror knows better while there is one
	asked  bool    // whether anything was asked for yet
}

// New opens a Client. It changes nothing in the kernel.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, &OpError{Op: "new", Object: "config", Err: err}
	}
	c := &Client{cfg: cfg}
	if cfg.NetNS == nil {
		// Watch opens its socket later, maybe on another thread.
		if c.cfg.NetNS, err = netns.Current(); err != nil {
			return nil, &OpError{Op: "new", Err: err}
		}
		c.ownNS = true
	}
	if c.conn, err = rtnl.Open(c.cfg.NetNS); err != nil {
		if c.ownNS {
			_ = c.cfg.NetNS.Close()
		}
		return nil, &OpError{Op: "new", Err: err}
	}
	c.open, c.close = context.WithCancelCause(context.Background())
	return c, nil
}

// Close closes the client's socket. It changes nothing in the kernel; operations under way fail with os.ErrClosed, and a Watch ends.
func (c *Client) Close() error {
	c.close(os.ErrClosed)
	err := c.conn.Close()
	if c.ownNS {
		err = errors.Join(err, c.cfg.NetNS.Close())
	}
	if err != nil {
		return &OpError{Op: "close", Err: err}
	}
	return nil
}

// Read returns what the kernel holds of what the client owns, in canonical order. After a Sync it equals what Resolve makes of the wanted State.
func (c *Client) Read(ctx context.Context) (State, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, err := c.read(ctx)
	if err != nil {
		return State{}, err
	}
	return group(o.entries), nil
}

// Resolve returns want in canonical order with everything filled in that the kernel decides: ports, sources, MTUs, MAC addresses, and the direct
// next hops that DirectRouting finds. It fails with fs.ErrNotExist when an underlay is missing.
func (c *Client) Resolve(ctx context.Context, want State) (State, error) {
	if err := want.Validate(); err != nil {
		return State{}, &OpError{Op: "resolve", Object: "state", Err: err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o, err := c.read(ctx)
	if err != nil {
		return State{}, err
	}
	return resolve(want, o.lowers)
}

// Plan returns what Sync would do now. It fails with a *ConflictError for each wanted object in whose place something foreign stands.
func (c *Client) Plan(ctx context.Context, want State) (Plan, error) {
	if err := want.Validate(); err != nil {
		return Plan{}, &OpError{Op: "plan", Object: "state", Err: err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, _, err := c.plan(ctx, canonical(want))
	return p, err
}

// plan reads the kernel and compares. want is in canonical order.
func (c *Client) plan(ctx context.Context, want State) (Plan, *observed, error) {
	o, err := c.read(ctx)
	if err != nil {
		return Plan{}, nil, err
	}
	resolved, err := resolve(want, o.lowers)
	if err != nil {
		return Plan{}, o, err
	}
	wanted := expand(resolved)
	p := Plan{changes: compareTables(o.entries, wanted), have: o.entries, want: resolved, asked: want, entries: wanted, foreign: o.foreign}
	if faults := o.conflicts(p.changes); len(faults) > 0 {
		return Plan{foreign: o.foreign}, o, &OpError{Op: "plan", Object: "state", Err: errors.Join(faults...)}
	}
	return p, o, nil
}

// Apply carries out a plan of Client.Plan, or of Diff between what Read and Resolve returned. It fails with ErrStale, and nothing is changed, when
// the kernel no longer is in the state that the plan starts from.
func (c *Client) Apply(ctx context.Context, p Plan) error {
	if err := p.asked.Validate(); err != nil {
		return &OpError{Op: "apply", Object: "plan", Err: err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o, err := c.read(ctx)
	if err != nil {
		return err
	}
	if len(compareEntries(o.entries, p.have)) > 0 {
		return &OpError{Op: "apply", Err: ErrStale}
	}
	if faults := o.conflicts(p.changes); len(faults) > 0 {
		return &OpError{Op: "apply", Object: "plan", Err: errors.Join(faults...)}
	}
	return c.apply(ctx, p, o)
}

// Sync brings the kernel to want and returns what it changed: an empty Plan when nothing. Sync(State{}) removes all that the client owns. When
// the kernel moves on meanwhile it starts again, a few times, and then fails with ErrStale.
func (c *Client) Sync(ctx context.Context, want State) (Plan, error) {
	if err := want.Validate(); err != nil {
		return Plan{}, &OpError{Op: "sync", Object: "state", Err: err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sync(ctx, canonical(want))
}

// sync is Sync of a valid State in canonical order.
func (c *Client) sync(ctx context.Context, want State) (Plan, error) {
	c.wanted, c.asked = want, true
	for try := 1; ; try++ {
		c.mirror = nil
		p, o, err := c.plan(ctx, want)
		if err == nil {
			err = c.apply(ctx, p, o)
		}
		// ENODEV: a link that was there when the plan was made went meanwhile.
		again := errors.Is(err, ErrStale) || errors.Is(err, unix.ENODEV)
		if !again || try == syncTries || ctx.Err() != nil {
			return p, err
		}
	}
}

// apply carries out the plan on the kernel as o saw it, and remembers the outcome.
func (c *Client) apply(ctx context.Context, p Plan, o *observed) error {
	c.mirror, c.wanted, c.asked = nil, p.asked, true
	for i := range p.want.Devices {
		if d := &p.want.Devices[i]; d.Name != "" && (d.MTU == 0 || !d.Source.IsValid() || d.MAC.IsZero()) {
			return &OpError{Op: "apply", Object: object(key{kind: kindDevice, dev: d.Name}), Err: ErrUnresolved}
		}
	}
	if p.entries == nil {
		p.entries = expand(p.want)
	}
	w := writer{Client: c, changes: p.changes, want: p.entries, links: o.links, index: make(map[string]int, len(o.names))}
	for index, name := range o.names {
		w.index[name] = index
	}
	if err := w.run(ctx); err != nil {
		return err
	}
	c.mirror = newMirror(p.asked, p.want, w.want, w.index, o)
	return nil
}

// deviceObject names a device in the errors of the incremental calls.
func deviceObject(name string) string { return object(key{kind: kindDevice, dev: name}) }
