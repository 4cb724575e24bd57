package ipvs

import (
	"context"
	"net/netip"
	"time"
)

// New opens a Client. It changes nothing. On a kernel without IPVS the error Is ErrNoIPVS; the kernel loads the module ip_vs by itself
// when it can, a library must not.
func New(c Config) (*Client, error) {
	if err := c.Validate(); err != nil {
		return nil, &OpError{Op: "new", Err: err}
	}
	return newClient(c)
}

// Read returns the services that the client owns, canonical, with all their destinations. Unless a listing is what the client knows already it lists
// them again, because the kernel's lists are not consistent while others write, and asks one by one for services that are not in all listings or
// differ. What others change meanwhile is as it was at some moment of the call.
func (c *Client) Read(ctx context.Context) (State, error) { return c.read(ctx) }

// Plan returns what Sync would do.
func (c *Client) Plan(ctx context.Context, want State) (Plan, error) { return c.plan(ctx, want) }

// Apply does p, if it is valid. It changes nothing and returns ErrStale when a service that p touches is no longer what it was when p was made.
// IPVS has no transactions: the check comes just before the change, and a writer who comes between them makes operations fail.
// Those are named, one OpError each, and the others are done.
func (c *Client) Apply(ctx context.Context, p Plan) error { return c.apply(ctx, p) }

// Sync makes the services that the client owns exactly want, and returns what it changed. Sync(State{}) removes them all. Services that others
// change meanwhile, so that the kernel contradicts, it reads and writes again, a few times. An operation that the kernel refuses for another reason, an unknown scheduler say,
// is named in the error; the others are done nevertheless.
//
// New destinations are added before old ones go. Changing the scheduler of a service in place makes the kernel refuse the few
// connections that come at that moment.
func (c *Client) Sync(ctx context.Context, want State) (Plan, error) { return c.sync(ctx, want) }

// Update changes the named services only and returns what it changed. Its cost does not depend on how many others there are: it starts
// from what the client last read or wrote, so that one changed destination is one request, and reads a service only when it does not
// know it, does not know of one to drop, or the kernel contradicts. What others changed behind the client's back without contradiction is found
// by the next Sync.
func (c *Client) Update(ctx context.Context, change Change) (Plan, error) {
	return c.update(ctx, change)
}

// Stats returns the counters of the named services, or without keys of all that the client owns, sorted by key. A service that is not there
// is left out.
func (c *Client) Stats(ctx context.Context, keys ...Key) ([]ServiceStats, error) {
	return c.stats(ctx, keys)
}

// Owns returns Config.Owns.
func (c *Client) Owns() Owns { return c.owned() }

// Zero sets the counters of the named services and their destinations to zero; without keys, of all that the client owns.
func (c *Client) Zero(ctx context.Context, keys ...Key) error { return c.zero(ctx, keys) }

// Flush removes every service of the namespace in one request, for a client that owns everything; the error of any other Is ErrNotOwned. It is for the end:
// to flush and program anew takes the kernel minutes, because it looks through the destinations that it still remembers. Sync(State{})
// removes what the client owns.
func (c *Client) Flush(ctx context.Context) error { return c.flush(ctx) }

// Foreign returns the services of the namespace that the client does not own, sorted. It never changes them.
func (c *Client) Foreign(ctx context.Context) ([]Key, error) { return c.foreign(ctx) }

// Info tells the version of the kernel's IPVS and the size of its connection table.
func (c *Client) Info(ctx context.Context) (Info, error) { return c.info(ctx) }

// Drain takes a destination out of a service without cutting connections: it sets the weight to zero, waits until none is left, established
// or closing, and removes the destination. When within has passed it removes it nevertheless and returns how many were left; with
// Sysctls.ExpireNodest those are reset, else they hang. Clients of a persistent service come back until their entry expires unless
// Sysctls.ExpireQuiescent is set. When ctx ends the destination stays with weight zero. When its weight is raised meanwhile the drain is
// given up with ErrStale. Other calls go on meanwhile; a Sync that no longer wants the destination removes it at once, which is no error.
func (c *Client) Drain(ctx context.Context, k Key, destination netip.AddrPort, within time.Duration) (left uint32, err error) {
	return c.drain(ctx, k, destination, within)
}

// Timeouts returns those of the namespace.
func (c *Client) Timeouts(ctx context.Context) (Timeouts, error) { return c.timeouts(ctx) }

// SetTimeouts changes those of the namespace; zero leaves one as it is.
func (c *Client) SetTimeouts(ctx context.Context, t Timeouts) error { return c.setTimeouts(ctx, t) }

// Sysctls returns the switches of the namespace.
func (c *Client) Sysctls() (Sysctls, error) { return c.sysctls() }

// SetSysctls sets the switches of the namespace, those that differ. See Recommended.
func (c *Client) SetSysctls(s Sysctls) error { return c.setSysctls(s) }

// Daemons returns the synchronization daemons of the namespace, the master first.
func (c *Client) Daemons(ctx context.Context) ([]Daemon, error) { return c.daemons(ctx) }

// StartDaemon starts one. When one of its role runs the error Is fs.ErrExist.
func (c *Client) StartDaemon(ctx context.Context, d Daemon) error { return c.startDaemon(ctx, d) }

// StopDaemon stops the one of a role. When none runs the error Is fs.ErrNotExist.
func (c *Client) StopDaemon(ctx context.Context, r Role) error { return c.stopDaemon(ctx, r) }

// Connections returns the connection table of the namespace, other owners' too, as /proc/net/ip_vs_conn shows it: read while it
// changes, so an entry may be missing or come twice.
func (c *Client) Connections(ctx context.Context) ([]Connection, error) { return c.connections(ctx) }

// SyncRanges makes the ranges of virtual addresses exactly these: a local route for each, and the nftables table inet podplumb-ipvs that
// refuses the ports which no service takes. Ranges must lie within Config.Owns. Without ranges all of it is removed; other ranges of
// other clients in the namespace too, so one client looks after them. The guard needs nf_tables with CONFIG_NFT_REJECT_INET.
func (c *Client) SyncRanges(ctx context.Context, want []Range) error {
	return c.syncRanges(ctx, want)
}

// Ranges returns the ranges that SyncRanges made, sorted.
func (c *Client) Ranges(ctx context.Context) ([]Range, error) { return c.ranges(ctx) }

// Close closes the client's socket. The services stay. Calls under way end with an error that Is os.ErrClosed.
func (c *Client) Close() error { return c.close() }

// Info is what the kernel says of its IPVS.
type Info struct {
	Version   string // "1.2.1" in every kernel since 2.6.28
	TableSize uint32 // buckets of the connection table (module parameter conn_tab_bits)
}
