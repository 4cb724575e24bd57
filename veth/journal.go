package veth

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// undoTimeout bounds undoing, which goes on when the caller's context has ended: half a pair must not stay.
const undoTimeout = 30 * time.Second

// journal is what a call has made so far: how to take it back, and which addresses are new.
type journal struct {
	steps    []func(context.Context) error
	announce []announcement
}

// announcement is an address that neighbours should hear of.
type announcement struct {
	netns string // path of the pod's namespace; empty: the node's
	link  string
	addr  netip.Addr
}

func (j *journal) made(undo func(context.Context) error) { j.steps = append(j.steps, undo) }

// undo takes back the last step first.
func (j *journal) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	var failed []error
	for i := len(j.steps) - 1; i >= 0; i-- {
		if err := j.steps[i](ctx); err != nil {
			failed = append(failed, err)
		}
	}
	j.steps = nil
	if err := errors.Join(failed...); err != nil {
		return opError("undo", "", err)
	}
	return nil
}
