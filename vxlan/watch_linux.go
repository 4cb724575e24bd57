package vxlan

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/rtnl"
)

const mainTable = unix.RT_TABLE_MAIN

// A repair that failed is not tried again at every event, but after growing pauses.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// Watch syncs want and then repairs whatever drifts from it as soon as the kernel tells, until ctx ends or the caller leaves the loop:
//
//	for plan, err := range client.Watch(ctx, want) {
//		// log what was repaired, or why it could not be
//	}
//
// It yields the outcome of the first Sync, of each repair that changed something, and of each that failed. A failed one is tried again soon, unless
// something is missing or in the way: then when the kernel tells of a change that may help, such as an underlay that came back. Watch follows netlink events and does not poll; when events are lost it
// reads everything again. The peers that SetPeers and DropPeers change, and the State of a later Sync, count as wanted from then on. A failure of
// the event socket itself ends the loop after it was yielded; the end of ctx, or Close, ends it silently.
func (c *Client) Watch(ctx context.Context, want State) iter.Seq2[Plan, error] {
	return func(yield func(Plan, error) bool) {
		if err := want.Validate(); err != nil {
			yield(Plan{}, &OpError{Op: "watch", Object: "state", Err: err})
			return
		}
		monitor, err := rtnl.Watch(c.cfg.NetNS, rtnl.LinkEvents|rtnl.AddrEvents|rtnl.RouteEvents|rtnl.NeighEvents)
		if err != nil {
			yield(Plan{}, &OpError{Op: "watch", Err: err})
			return
		}
		defer func() { _ = monitor.Close() }()
		p, err := c.Sync(ctx, want)
		if ctx.Err() != nil || !yield(p, err) {
			return
		}
		// A context without the deadline of its own: the socket's might strike first and look like a failure.
		open, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		defer cancel(nil)
		defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()
		defer context.AfterFunc(c.open, func() { cancel(context.Cause(c.open)) })()
		w := watcher{Client: c, monitor: monitor}
		w.rest(err)
		w.loop(open, yield)
	}
}

// A repair begins when no event came for a lull, or when events were gathered for so long.
const (
	lull   = time.Millisecond
	gather = 20 * time.Millisecond
)

// watcher is one Watch under way.
type watcher struct {
	*Client
	monitor *rtnl.Monitor
	pause   time.Duration // before the next repair
	until   time.Time     // no repair before this
	again   bool          // the last repair failed in a way that another try may mend
}

// rest decides how long the next repair has to wait after one that ended with err.
func (w *watcher) rest(err error) {
	switch {
	case err == nil:
		w.pause = 0
	case w.pause == 0:
		w.pause = firstPause
	default:
		w.pause = min(2*w.pause, lastPause)
	}
	w.until = time.Now().Add(w.pause)
	w.again = err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist)
}

func (w *watcher) loop(ctx context.Context, yield func(Plan, error) bool) {
	for {
		if err := w.drift(ctx); err != nil {
			if ctx.Err() == nil {
				yield(Plan{}, &OpError{Op: "watch", Err: err})
			}
			return
		}
		p, err := w.repair(ctx)
		if ctx.Err() != nil {
			return
		}
		w.rest(err)
		if (err != nil || !p.Empty()) && !yield(p, err) {
			return
		}
	}
}

// drift returns nil when a repair is due: an event disagrees with what should be, and no pause holds it back. The events that follow closely are
// taken along for a moment, so that a storm of them costs few repairs.
func (w *watcher) drift(ctx context.Context) error {
	due, last := w.again, time.Now().Add(gather)
	for {
		wait, cancel := ctx, context.CancelFunc(func() {})
		if due {
			wait, cancel = context.WithDeadline(ctx, later(w.until, sooner(last, time.Now().Add(lull))))
		}
		e, err := w.monitor.Next(wait)
		cancel()
		before := due
		switch {
		case err == nil:
			due = due || w.disagrees(&e)
		case errors.Is(err, rtnl.ErrOverflow):
			due = true
		case due && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
			return nil
		default:
			return err
		}
		if due && !before {
			last = time.Now().Add(gather)
		}
	}
}

func sooner(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (w *watcher) disagrees(e *rtnl.Event) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.drifted(e)
}

// repair syncs what is wanted by now.
func (w *watcher) repair(ctx context.Context) (Plan, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mirror != nil {
		w.wanted = w.mirror.state()
	}
	return w.sync(ctx, w.wanted)
}
