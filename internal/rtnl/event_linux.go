package rtnl

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nlsock"
	"github.com/podplumb/podplumb/netns"
)

// Topic is a set of kinds of events.
type Topic uint32

// Topics may be combined with |.
const (
	LinkEvents  Topic = 1 << (unix.RTNLGRP_LINK - 1)
	AddrEvents  Topic = 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1)
	RouteEvents Topic = 1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1)
	// NeighEvents tells neighbours and FDB entries.
	NeighEvents Topic = 1 << (unix.RTNLGRP_NEIGH - 1)
)

// eventBuffer holds the events of some thousand changes while the reader is busy.
const eventBuffer = 8 << 20

// Event is one change in the kernel; exactly one of the pointers is set.
type Event struct {
	Removed bool
	Link    *Link
	Addr    *Addr
	Route   *Route
	Neigh   *Neigh
}

// Monitor receives events. It is not safe for concurrent use, but Close may be called at any time.
type Monitor struct {
	sock    *nlsock.Socket
	pending []byte
}

// Watch begins to collect events inside ns; nil means the namespace of the calling thread. What happens after Watch returns is not
// missed: open it, then read the state, then follow the events.
func Watch(ns *netns.NS, topics Topic) (*Monitor, error) {
	s, err := openSocket(ns, uint32(topics))
	if err != nil {
		return nil, err
	}
	_ = s.SetReadBuffer(eventBuffer) // best effort: a smaller buffer overflows sooner, which is told
	return &Monitor{sock: s}, nil
}

// Close ends the monitor; a Next under way fails with os.ErrClosed.
func (m *Monitor) Close() error { return m.sock.Close() }

// Next waits for the next event. It fails with ErrOverflow when events were lost, after which it can be called again, and with the
// context's cause when ctx ends.
func (m *Monitor) Next(ctx context.Context) (Event, error) {
	for {
		for len(m.pending) >= unix.SizeofNlMsghdr {
			h := header(m.pending)
			if h.Len < unix.SizeofNlMsghdr || int(h.Len) > len(m.pending) {
				m.pending = nil
				return Event{}, fmt.Errorf("malformed netlink event of %d bytes", h.Len)
			}
			payload := m.pending[unix.SizeofNlMsghdr:h.Len]
			m.pending = m.pending[min(align(int(h.Len)), len(m.pending)):]
			if e, ok := parseEvent(h.Type, payload); ok {
				return e, nil
			}
		}
		if err := ctx.Err(); err != nil {
			return Event{}, context.Cause(ctx)
		}
		wait := m.sock.Wait(ctx, 0) // events may stay away for ever
		data, err := m.sock.Receive(wait)
		wait.End()
		switch {
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EMSGSIZE):
			if err := m.sock.Discard(); err != nil {
				return Event{}, wait.Cause(err)
			}
			return Event{}, ErrOverflow
		case err != nil:
			return Event{}, wait.Cause(err)
		}
		m.pending = data
	}
}

func parseEvent(kind uint16, b []byte) (e Event, ok bool) {
	switch kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		// A bridge port tells its bridge attributes as AF_BRIDGE; leaving the bridge is a DELLINK of that family, not the link's end.
		if len(b) == 0 || b[0] != unix.AF_UNSPEC {
			return e, false
		}
		l, ok := parseLink(b)
		return Event{Removed: kind == unix.RTM_DELLINK, Link: &l}, ok
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		a, ok := parseAddr(b)
		return Event{Removed: kind == unix.RTM_DELADDR, Addr: &a}, ok
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		r, ok := parseRoute(b)
		return Event{Removed: kind == unix.RTM_DELROUTE, Route: &r}, ok
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		n, ok := parseNeigh(b)
		return Event{Removed: kind == unix.RTM_DELNEIGH, Neigh: &n}, ok
	}
	return e, false
}

// WaitLink waits until the link of that name satisfies ok, which is asked at once and after every event of that link. m must watch
// LinkEvents. When ctx ends first, WaitLink fails with its cause and returns the link as it was last seen.
func (c *Conn) WaitLink(ctx context.Context, m *Monitor, name string, ok func(*Link) bool) (Link, error) {
	link, err := c.LinkByName(ctx, name)
	if err == nil && ok(&link) {
		return link, nil
	}
	for {
		e, err := m.Next(ctx)
		if errors.Is(err, ErrOverflow) {
			if link, err = c.LinkByName(ctx, name); err == nil && ok(&link) {
				return link, nil
			}
			continue
		}
		if err != nil {
			return link, err
		}
		if e.Link == nil || e.Link.Name != name {
			continue
		}
		if link = *e.Link; !e.Removed && ok(&link) {
			return link, nil
		}
	}
}
