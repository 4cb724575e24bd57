//go:build !linux

package vxlan

import (
	"context"
	"errors"
	"iter"
	"net/netip"
)

// Client keeps VXLAN devices in the state that it is told. It needs Linux.
type Client struct{}

func unsupported(op string) error { return &OpError{Op: op, Err: errors.ErrUnsupported} }

// New fails with errors.ErrUnsupported on this system.
func New(Config) (*Client, error) { return nil, unsupported("new") }

// Read fails with errors.ErrUnsupported on this system.
func (*Client) Read(context.Context) (State, error) { return State{}, unsupported("read") }

// Resolve fails with errors.ErrUnsupported on this system.
func (*Client) Resolve(context.Context, State) (State, error) { return State{}, unsupported("resolve") }

// Plan fails with errors.ErrUnsupported on this system.
func (*Client) Plan(context.Context, State) (Plan, error) { return Plan{}, unsupported("plan") }

// Apply fails with errors.ErrUnsupported on this system.
func (*Client) Apply(context.Context, Plan) error { return unsupported("apply") }

// Sync fails with errors.ErrUnsupported on this system.
func (*Client) Sync(context.Context, State) (Plan, error) { return Plan{}, unsupported("sync") }

// SetPeers fails with errors.ErrUnsupported on this system.
func (*Client) SetPeers(context.Context, string, ...Peer) (Plan, error) {
	return Plan{}, unsupported("set peers")
}

// DropPeers fails with errors.ErrUnsupported on this system.
func (*Client) DropPeers(context.Context, string, ...netip.Addr) (Plan, error) {
	return Plan{}, unsupported("drop peers")
}

// Watch yields errors.ErrUnsupported on this system.
func (*Client) Watch(context.Context, State) iter.Seq2[Plan, error] {
	return func(yield func(Plan, error) bool) { yield(Plan{}, unsupported("watch")) }
}

// Close does nothing on this system.
func (*Client) Close() error { return nil }
