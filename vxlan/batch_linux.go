package vxlan

import (
	"context"
	"slices"

	"github.com/podplumb/podplumb/internal/rtnl"
)

// task changes one entry: have is nil for a new one, want for one that goes.
type task struct{ have, want *entry }

func (t task) key() key {
	if t.want == nil {
		return t.have.key
	}
	return t.want.key
}

// batch carries out tasks in their order, many to a system call. What the kernel refuses, and what takes more than one request, is done by itself.
type batch struct {
	*writer
	tasks []task
	queue func(b *rtnl.Batch, t task) int // adds the task's requests and tells how many; none when they cannot be given in advance
	alone func(ctx context.Context, have, want *entry) error
}

func (w *writer) batch(queue func(*rtnl.Batch, task) int, alone func(ctx context.Context, have, want *entry) error) *batch {
	return &batch{writer: w, queue: queue, alone: alone}
}

func (b *batch) add(have, want *entry) { b.tasks = append(b.tasks, task{have, want}) }

// run reports whether it is worth going on after it.
func (b *batch) run(ctx context.Context, f *failures) bool {
	var requests rtnl.Batch
	var queued, refused []task
	flush := func() bool {
		err := b.conn.Send(ctx, &requests, func(i int, _ error) { refused = append(refused, queued[i]) })
		if err != nil {
			f.note(object(queued[0].key()), err)
			return false
		}
		for _, t := range refused {
			if !f.note(object(t.key()), b.alone(ctx, t.have, t.want)) {
				return false
			}
		}
		requests, queued, refused = rtnl.Batch{}, queued[:0], nil
		return true
	}
	for _, t := range b.tasks {
		if n := b.queue(&requests, t); n > 0 {
			queued = append(queued, slices.Repeat([]task{t}, n)...)
			continue
		}
		if !flush() || !f.note(object(t.key()), b.alone(ctx, t.have, t.want)) || ctx.Err() != nil {
			return false
		}
	}
	return flush()
}

// queue adds the request that makes or changes an entry.
func (w *writer) queue(b *rtnl.Batch, t task) int {
	e := t.want
	switch e.kind {
	case kindFDB, kindFlood, kindNeigh:
		n := w.neigh(e, w.index[e.dev])
		switch {
		case t.have != nil && w.moved[e.dev] && e.kind != kindNeigh:
			b.DelNeigh(w.neigh(t.have, n.Index))
			b.AppendNeigh(n)
			return 2
		case e.kind == kindFlood && t.have != nil:
			return 0
		case e.kind == kindFlood:
			b.AppendNeigh(n)
		case t.have == nil && w.unseen:
			b.AddNeigh(n)
		default:
			b.ReplaceNeigh(n)
		}
	case kindRoute:
		index, ok := w.index[e.link]
		switch {
		case !ok:
			return 0
		case t.have == nil:
			b.AddRoute(w.route(e, index))
		default:
			b.ReplaceRoute(w.route(e, index))
		}
	default:
		return 0
	}
	return 1
}

// queueRemoval adds the request that removes an entry.
func (w *writer) queueRemoval(b *rtnl.Batch, t task) int {
	switch e := t.have; e.kind {
	case kindFDB, kindFlood, kindNeigh:
		b.DelNeigh(w.neigh(e, w.index[e.dev]))
	case kindRoute:
		b.DelRoute(w.staleRoute(e))
	default:
		return 0
	}
	return 1
}
