//go:build !linux

package nat

import (
	"context"
	"errors"
	"time"
)

// Client needs Linux; elsewhere New fails.
type Client struct{}

func newClient(Config) (*Client, error) {
	return nil, &OpError{Op: "new", Err: errors.ErrUnsupported}
}

func (*Client) read(context.Context) (State, error)          { return State{}, errors.ErrUnsupported }
func (*Client) plan(context.Context, State) (Plan, error)    { return Plan{}, errors.ErrUnsupported }
func (*Client) apply(context.Context, Plan) error            { return errors.ErrUnsupported }
func (*Client) sync(context.Context, State) (Plan, error)    { return Plan{}, errors.ErrUnsupported }
func (*Client) update(context.Context, Change) (Plan, error) { return Plan{}, errors.ErrUnsupported }
func (*Client) planUpdate(context.Context, Change) (Plan, error) {
	return Plan{}, errors.ErrUnsupported
}
func (*Client) generation() uint32                               { return 0 }
func (*Client) lookup(context.Context, []Key) ([]Forward, error) { return nil, errors.ErrUnsupported }
func (*Client) counts(context.Context, []Key) ([]Count, error)   { return nil, errors.ErrUnsupported }
func (*Client) drain(context.Context) (time.Time, error)         { return time.Time{}, errors.ErrUnsupported }
func (*Client) names(context.Context) (Names, error)             { return Names{}, errors.ErrUnsupported }
func (*Client) watch(context.Context) error                      { return errors.ErrUnsupported }
func (*Client) close() error                                     { return nil }

func (c *Client) own(context.Context) error { return errors.ErrUnsupported }
