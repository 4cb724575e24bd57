package ipvs

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/plan"
)

// batch is how many requests go into one datagram, with an acknowledgement of the last only.
const batch = 256

// operation is one request: what is done to the service of a change, or to one of its destinations.
type operation struct {
	cmd         uint8
	change      int
	destination int // -1: the service itself
}

// failure is an operation that the kernel refused.
type failure struct {
	operation
	err *kernelError
}

// writer sends the operations of changes in as few datagrams as possible.
type writer struct {
	*conn
	changes []change
	pending []operation // in the datagram under construction
	first   uint32      // sequence number of the first of them
	failed  []failure
}

// write does the changes. The kernel goes on after an operation that it refuses; those are returned. An error means that it is not
// known what was done.
func (c *conn) write(ctx context.Context, changes []change) ([]failure, error) {
	stop, err := c.bound(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	w := writer{conn: c, changes: changes, pending: c.pending[:0]}
	defer func() { c.pending = w.pending[:0] }()
	w.enc.reset()
	for i := range changes {
		if err := w.change(i); err != nil {
			return w.failed, c.cause(ctx, err)
		}
	}
	return w.failed, c.cause(ctx, w.flush())
}

// change queues the operations of one change: the service, then the destinations that come or change, and last those that go.
func (w *writer) change(i int) error {
	c := &w.changes[i]
	var err error
	switch {
	case c.have == nil:
		err = w.operation(cmdNewService, i, -1)
	case c.want == nil:
		return w.operation(cmdDelService, i, -1)
	case c.settingsChange():
		err = w.operation(cmdSetService, i, -1)
	}
	for j := 0; j < len(c.destinations) && err == nil; j++ {
		switch c.destinations[j].Op() {
		case plan.Add:
			err = w.operation(cmdNewDest, i, j)
		case plan.Modify:
			err = w.operation(cmdSetDest, i, j)
		}
	}
	for j := 0; j < len(c.destinations) && err == nil; j++ {
		if c.destinations[j].Op() == plan.Remove {
			err = w.operation(cmdDelDest, i, j)
		}
	}
	return err
}

func (w *writer) operation(cmd uint8, i, j int) error {
	w.seq++
	if len(w.pending) == 0 {
		w.first = w.seq
	}
	c := &w.changes[i]
	w.enc.begin(cmd, 0, w.seq)
	switch cmd {
	case cmdNewService, cmdSetService:
		w.enc.service(c.want)
	default:
		w.enc.serviceKey(c.key)
	}
	switch cmd {
	case cmdNewDest, cmdSetDest:
		w.enc.destination(c.destinations[j].Want)
	case cmdDelDest:
		w.enc.destinationKey(c.destinations[j].Have)
	}
	w.enc.end()
	w.pending = append(w.pending, operation{cmd, i, j})
	if len(w.pending) < batch {
		return nil
	}
	return w.flush()
}

// flush sends the datagram and waits until its last message is answered.
func (w *writer) flush() error {
	if len(w.pending) == 0 {
		return nil
	}
	w.enc.acknowledge()
	if err := w.send(); err != nil {
		return err
	}
	w.in.expect = 1
	for {
		r, err := w.next(w.first)
		if err != nil {
			return err
		}
		if r.kind != unix.NLMSG_ERROR || int(r.seq-w.first) >= len(w.pending) {
			continue
		}
		if e := r.status(); e != nil {
			w.failed = append(w.failed, failure{w.pending[r.seq-w.first], e})
		}
		if r.seq == w.seq {
			break
		}
	}
	w.dirty = false
	w.pending = w.pending[:0]
	w.enc.reset()
	return nil
}
