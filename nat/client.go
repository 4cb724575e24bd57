package nat

import (
	"context"
	"net/netip"
	"time"
)

// New returns a Client for the table that c names. It opens one socket and
// changes nothing; what the table holds is read by the first method that
// needs it.
func New(c Config) (*Client, error) { return newClient(c) }

// Own makes the table the Client's where nobody owns it, as the first change by
// Sync, Apply or Update does. Without a table it does nothing. It fails with
// fs.ErrPermission when the table has another owner, and with
// errors.ErrUnsupported when it was made without the flags for it.
func (c *Client) Own(ctx context.Context) error { return c.own(ctx) }

// Read returns what the kernel's table holds, in canonical order. The zero
// State means that there is no table.
func (c *Client) Read(ctx context.Context) (State, error) { return c.read(ctx) }

// Plan returns what Sync would do.
func (c *Client) Plan(ctx context.Context, want State) (Plan, error) { return c.plan(ctx, want) }

// Apply does p in one transaction, where it is not too big for one (see the
// package comment). It changes nothing and returns ErrStale
// when what p changes is no longer what it was when p was made.
func (c *Client) Apply(ctx context.Context, p Plan) error { return c.apply(ctx, p) }

// Sync makes the table hold want and returns what it changed. Sync(State{})
// removes the table.
func (c *Client) Sync(ctx context.Context, want State) (Plan, error) { return c.sync(ctx, want) }

// Update changes what the change names, and nothing else. Its cost does not
// depend on how many forwards there are, also in a new Client, which looks
// only at what the change is about: so short-lived processes can share a
// table, each with a Client of its own (Config.Shared). When others change the
// ruleset at the same time, it looks again. Only forwards with Affinity or
// source ranges that are replaced make a Client read the whole table that has
// not yet. It adds the table when there is none, but never removes it.
func (c *Client) Update(ctx context.Context, change Change) (Plan, error) {
	return c.update(ctx, change)
}

// Generation returns the generation of the ruleset after an Update that found
// the table whole, for Config.Whole of the next Client, and otherwise zero.
func (c *Client) Generation() uint32 { return c.generation() }

// PlanUpdate returns what Update would do. It costs as little.
func (c *Client) PlanUpdate(ctx context.Context, change Change) (Plan, error) {
	return c.planUpdate(ctx, change)
}

// Lookup returns those of the named forwards that the table has, in canonical
// form. Its cost does not depend on how many others there are.
func (c *Client) Lookup(ctx context.Context, keys ...Key) ([]Forward, error) {
	return c.lookup(ctx, keys)
}

// Drain ends the connections to removed targets whose time is up (DrainLater),
// and says when the next ones' will be; zero when there are none. Watch does so
// by itself. What others do does not matter: any Client of the table can.
func (c *Client) Drain(ctx context.Context) (next time.Time, err error) { return c.drain(ctx) }

// Counts says how many connections were led to each target since it came,
// for the named forwards or, without keys, for all; in the order of keys. It
// needs Config.Counters. Counts of a target whose share changes may begin anew.
// A connection that Affinity sends to its client's target is not counted, only
// the client's first.
func (c *Client) Counts(ctx context.Context, keys ...Key) ([]Count, error) {
	return c.counts(ctx, keys)
}

// Count is how many connections a target has got.
type Count struct {
	Key         Key // of the forward
	Target      netip.AddrPort
	Connections uint64
}

// Names lists all forwards and networks by their keys, with their names: what
// a sweep needs to find those whose owners are gone.
func (c *Client) Names(ctx context.Context) (Names, error) { return c.names(ctx) }

// Names are the names of all forwards and networks of a table.
type Names struct {
	Forwards map[Key]string
	Networks map[netip.Prefix]string
}

// Watch keeps the table as the last Sync, Apply or Update left it until ctx
// is done: what others change or flush is put back. It drains in time, too. It
// returns ctx.Err().
func (c *Client) Watch(ctx context.Context) error { return c.watch(ctx) }

// Close closes the Client's socket. The table stays.
func (c *Client) Close() error { return c.close() }
