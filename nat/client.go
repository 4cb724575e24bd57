package nat

import "context"

// New returns a Client for the table that c names. It opens one socket and
// changes nothing; what the table holds is read by the first method that
// needs it.
func New(c Config) (*Client, error) { return newClient(c) }

// Read returns what the kernel's table holds, in canonical order. The zero
// State means that there is no table.
func (c *Client) Read(ctx context.Context) (State, error) { return c.read(ctx) }

// Plan returns what Sync would do.
func (c *Client) Plan(ctx context.Context, want State) (Plan, error) { return c.plan(ctx, want) }

// Apply does p in one transaction. It changes nothing and returns ErrStale
// when what p changes is no longer what it was when p was made.
func (c *Client) Apply(ctx context.Context, p Plan) error { return c.apply(ctx, p) }

// Sync makes the table hold want and returns what it changed. Sync(State{})
// removes the table.
func (c *Client) Sync(ctx context.Context, want State) (Plan, error) { return c.sync(ctx, want) }

// Update changes the named forwards only. Its cost does not depend on how
// many others there are.
func (c *Client) Update(ctx context.Context, change Change) (Plan, error) {
	return c.update(ctx, change)
}

// Watch keeps the table as the last Sync, Apply or Update left it until ctx
// is done: what others change or flush is put back. It returns ctx.Err().
func (c *Client) Watch(ctx context.Context) error { return c.watch(ctx) }

// Close closes the Client's socket. The table stays.
func (c *Client) Close() error { return c.close() }
