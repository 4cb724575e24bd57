package vxlan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/plan"
	"github.com/podplumb/podplumb/internal/rtnl"
)

// maxFailures bounds how many objects may fail before the rest is not tried any more.
const maxFailures = 16

// writer carries out the changes of one plan.
type writer struct {
	*Client
	links   []rtnl.Link    // every link as it was read
	index   map[string]int // of every link by name
	changes []plan.Change[key, entry]
	want    []entry         // all wanted entries, for devices that are made again
	again   map[string]bool // devices that are made anew, so that everything on them is, too
	staged  map[string]bool // of those, devices whose FDB was filled before they took over
	flushed map[string]bool // devices whose MAC changes, on which the kernel drops all neighbours, the permanent ones too
	moved   map[string]bool // devices whose source changes: each FDB entry remembers the old one with its cached route until it is made again
	old     []int           // devices that were replaced and are still to be deleted
	unseen  bool            // the changes come from memory: what is new must not overwrite what stands there now
}

// run carries the changes out so that traffic never meets half a peer: devices, addresses, FDB and neighbours, then routes; what goes, goes in the
// opposite order afterwards.
func (w *writer) run(ctx context.Context) error {
	w.again, w.staged, w.flushed, w.moved = map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	if err := w.devices(ctx); err != nil {
		return err
	}
	var f failures
	puts := w.batch(w.queue, w.put)
	for _, c := range w.changes {
		if c.Key.kind != kindDevice && c.Want != nil && !w.filled(c.Want) {
			puts.add(c.Have, c.Want)
		}
	}
	for _, e := range w.lost() {
		if w.again[e.dev] || !w.moved[e.dev] || e.kind == kindNeigh || e.kind == kindRoute {
			puts.add(nil, e)
		} else {
			puts.add(e, e)
		}
	}
	removals := w.batch(w.queueRemoval, func(ctx context.Context, have, _ *entry) error { return missingIsFine(w.remove(ctx, have)) })
	for _, c := range slices.Backward(w.changes) {
		if c.Want == nil && !w.again[c.Key.dev] {
			removals.add(c.Have, nil)
		}
	}
	addrs, err := w.expectAddrs(puts.tasks)
	if err != nil {
		return &OpError{Op: "apply", Err: err}
	}
	defer addrs.close()
	if puts.run(ctx, &f) && removals.run(ctx, &f) {
		for _, index := range w.old {
			f.note(fmt.Sprintf("link %d", index), missingIsFine(w.conn.DelLink(ctx, index)))
		}
	}
	if len(f) == 0 {
		addrs.wait(ctx)
	}
	return errors.Join(f...)
}

// failures are the errors of the objects that could not be brought to what is wanted.
type failures []error

// note adds err, if any, and reports whether it is worth going on.
func (f *failures) note(object string, err error) bool {
	if err != nil {
		*f = append(*f, &OpError{Op: "apply", Object: object, Err: err})
	}
	return len(*f) < maxFailures
}

// filled reports whether the entry was written before its device took over.
func (w *writer) filled(e *entry) bool {
	return w.staged[e.dev] && (e.kind == kindFDB || e.kind == kindFlood)
}

// lost lists the entries that do not differ but have to be written again, because their device was made again or got another MAC or source.
func (w *writer) lost() []*entry {
	if len(w.again)+len(w.flushed)+len(w.moved) == 0 {
		return nil
	}
	done := map[key]bool{}
	for _, c := range w.changes {
		done[c.Key] = true
	}
	var out []*entry
	for i := range w.want {
		e := &w.want[i]
		again := w.again[e.dev] || w.again[e.link] || e.kind == kindNeigh && w.flushed[e.dev] || (e.kind == kindFDB || e.kind == kindFlood) && w.moved[e.dev]
		if again && e.kind != kindDevice && !done[e.key] && !w.filled(e) {
			out = append(out, e)
		}
	}
	return out
}

func missingIsFine(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// put makes one entry, or changes the kernel's into it.
func (w *writer) put(ctx context.Context, have, want *entry) error {
	switch want.kind {
	case kindAddr:
		return w.putAddr(ctx, have, want)
	case kindFDB, kindFlood, kindNeigh:
		if have != nil && (want.kind == kindFlood || want.kind == kindFDB && w.moved[want.dev]) {
			if err := missingIsFine(w.conn.DelNeigh(ctx, w.neigh(have, w.index[want.dev]))); err != nil {
				return err
			}
		}
		switch n := w.neigh(want, w.index[want.dev]); {
		case want.kind == kindFlood:
			return w.conn.AppendNeigh(ctx, n)
		case have == nil && w.unseen:
			return taken(w.conn.AddNeigh(ctx, n))
		default:
			return w.conn.ReplaceNeigh(ctx, n)
		}
	}
	index, ok := w.index[want.link]
	if !ok {
		return fmt.Errorf("link %s: %w", want.link, fs.ErrNotExist)
	}
	write := w.conn.ReplaceRoute
	if have == nil {
		write = w.conn.AddRoute
	}
	err := write(ctx, w.route(want, index))
	if errors.Is(err, unix.EINVAL) && want.onlink && want.to.Is6() {
		err = w.viaHostRoute(ctx, want.to, index, func() error { return write(ctx, w.route(want, index)) })
	}
	return taken(err)
}

// viaHostRoute calls write while a route leads to the next hop by the link. IPv6 takes an onlink next hop only if no route says that it lies
// elsewhere (ip6_route_check_nh_onlink), which is just what the direct route to be replaced says, or one to the whole cluster.
func (w *writer) viaHostRoute(ctx context.Context, hop netip.Addr, index int, write func() error) error {
	r := rtnl.Route{Dst: host(hop), Index: index, Proto: w.cfg.Protocol}
	if err := w.conn.AddRoute(ctx, r); err != nil {
		return err
	}
	return errors.Join(write(), missingIsFine(w.conn.DelRoute(ctx, r)))
}

// taken turns "exists", where the last reading had nothing, into ErrStale: the next reading tells what it is.
func taken(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %w", ErrStale, err)
	}
	return err
}

func (w *writer) putAddr(ctx context.Context, have, want *entry) error {
	a := w.addr(want)
	if have != nil {
		// IPv6 refuses an address that the link has with another prefix length, so the old one goes first.
		if err := missingIsFine(w.conn.DelAddr(ctx, w.addr(have))); err != nil {
			return err
		}
	}
	err := taken(w.conn.AddAddr(ctx, a))
	if errors.Is(err, unix.EACCES) && a.Prefix.Addr().Is6() {
		return fmt.Errorf("IPv6 is turned off (sysctl net.ipv6.conf.%s.disable_ipv6): %w", want.dev, err)
	}
	return err
}

func (w *writer) remove(ctx context.Context, have *entry) error {
	switch have.kind {
	case kindDevice:
		index, ok := w.index[have.dev]
		if !ok {
			return nil // it was in the way of another and is gone
		}
		return w.conn.DelLink(ctx, index)
	case kindAddr:
		return w.conn.DelAddr(ctx, w.addr(have))
	case kindRoute:
		return w.conn.DelRoute(ctx, w.staleRoute(have))
	}
	return w.conn.DelNeigh(ctx, w.neigh(have, w.index[have.dev]))
}

// The three functions below put entries into the kernel's words.

func (w *writer) addr(e *entry) rtnl.Addr {
	a := rtnl.Addr{Index: w.index[e.dev], Prefix: prefixOf(e), Proto: w.cfg.Protocol}
	if e.prefix.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // nobody else can have it, and waiting for that costs a second
	}
	return a
}

func (c *Client) neigh(e *entry, index int) rtnl.Neigh {
	n := rtnl.Neigh{Index: index, State: unix.NUD_PERMANENT}
	switch e.kind {
	case kindNeigh:
		n.IP, n.MAC, n.Proto = e.prefix.Addr(), rtnl.MAC(e.mac), c.cfg.Protocol
	case kindFDB:
		n.Family, n.Flags, n.IP, n.MAC = unix.AF_BRIDGE, unix.NTF_SELF, e.to, rtnl.MAC(e.key.mac)
	case kindFlood:
		n.Family, n.Flags, n.IP = unix.AF_BRIDGE, unix.NTF_SELF, e.to
	}
	return n
}

func (c *Client) route(e *entry, index int) rtnl.Route {
	return rtnl.Route{Dst: e.prefix, Gateway: e.to, Index: index, OnLink: e.onlink, Proto: c.cfg.Protocol}
}

// staleRoute names a route to delete; the protocol keeps it from matching another's.
func (w *writer) staleRoute(e *entry) rtnl.Route {
	return rtnl.Route{Dst: e.prefix, Gateway: e.to, Metric: e.metric, Proto: w.cfg.Protocol, Index: w.index[e.link]}
}
