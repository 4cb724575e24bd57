package policy

import (
	"context"
	"fmt"
)

// New returns a Client for the table that c names. It opens one socket and changes nothing; what the table holds is read by the first
// method that needs it.
func New(c Config) (*Client, error) { return newClient(c) }

// Read returns what the kernel's table holds; the zero Ruleset means that there is no table. Rules are not read back but for a stamp of
// each, which is enough for Diff.
func (c *Client) Read(ctx context.Context) (Ruleset, error) { return c.read(ctx) }

// Plan returns what Sync would do.
func (c *Client) Plan(ctx context.Context, want State) (Plan, error) { return c.plan(ctx, want) }

// Apply does p in one transaction. It changes nothing and returns ErrStale when what p changes is no longer what it was when p was made.
func (c *Client) Apply(ctx context.Context, p Plan) error { return c.apply(ctx, p) }

// Sync enforces want and returns what it changed: one transaction, in which the counters of rules that stay go on counting. A new table
// that is large takes several, of which the last one puts it before the packets. Connections that want denies are cut, unless
// Config.KeepLive is set. Sync(State{}) removes the table.
//
// With ErrBridged the Plan was done; see Config.AllowBridged.
//
// The Client keeps references into want for Update; its maps and slices must not be changed afterwards.
func (c *Client) Sync(ctx context.Context, want State) (Plan, error) { return c.sync(ctx, want) }

// Update makes a change to what the last Sync of this Client asked for. It costs work in proportion to what depends on the objects
// named, however many others there are. New connections are judged anew when it returns; connections that the change denies are cut
// within the next moments.
func (c *Client) Update(ctx context.Context, change Change) (Plan, error) {
	return c.update(ctx, "update", change)
}

// Admit makes a pod known, as an Update of it does: when it returns, the policies for the pod are in force, and its packets may begin.
func (c *Client) Admit(ctx context.Context, pod Pod) error {
	_, err := c.update(ctx, "admit", Change{Set: State{Pods: []Pod{pod}}})
	return err
}

// Watch keeps the table as the last Sync, Apply or Update left it until ctx is done: what others change or flush is put back. It returns
// ctx.Err().
func (c *Client) Watch(ctx context.Context) error { return c.watch(ctx) }

// Counters returns what the rules have counted since they came to be: the first packets of connections, each rule's those that it
// decided. A rule that allows at one end may have been overruled at the other.
func (c *Client) Counters(ctx context.Context) ([]Counter, error) { return c.listCounters(ctx) }

// Denials calls each for denied packets, as many as Config.Log lets through, until ctx is done; then it returns ctx.Err(). One caller at
// a time can listen to a group.
func (c *Client) Denials(ctx context.Context, each func(Denial)) error { return c.denials(ctx, each) }

// Close closes the Client's sockets, after connections that Updates denied are cut. The table stays, and what it denies stays denied.
func (c *Client) Close() error { return c.close() }

// Counter is what was decided by one rule, or by the isolation of pods without a rule that allows.
type Counter struct {
	By      Decision // without Pod and Nearest, which differ from packet to packet
	Packets uint64
	Bytes   uint64
}

// String prints "3 packets, 180 bytes: NetworkPolicy db/allow-web ingress[0]".
func (c Counter) String() string {
	return fmt.Sprintf("%d packets, %d bytes: %s", c.Packets, c.Bytes, c.By.label())
}

// String prints "TCP 10.244.1.5 -> 10.244.2.3:5432 denied: " and what decided.
func (d Denial) String() string { return d.Packet.String() + " denied: " + d.By.String() }

// Denial is a packet that was denied.
type Denial struct {
	Packet Packet
	By     Decision // Pod is the one that the packet was to or from, if it is known
}
