//go:build !linux

package policy

import (
	"context"
	"errors"
)

// Client needs Linux; elsewhere New fails.
type Client struct{}

func newClient(Config) (*Client, error) {
	return nil, &OpError{Op: "new", Err: errors.ErrUnsupported}
}

func (*Client) read(context.Context) (Ruleset, error)           { return Ruleset{}, errors.ErrUnsupported }
func (*Client) plan(context.Context, State) (Plan, error)       { return Plan{}, errors.ErrUnsupported }
func (*Client) apply(context.Context, Plan) error               { return errors.ErrUnsupported }
func (*Client) sync(context.Context, State) (Plan, error)       { return Plan{}, errors.ErrUnsupported }
func (*Client) watch(context.Context) error                     { return errors.ErrUnsupported }
func (*Client) denials(context.Context, func(Denial)) error     { return errors.ErrUnsupported }
func (*Client) listCounters(context.Context) ([]Counter, error) { return nil, errors.ErrUnsupported }
func (*Client) close() error                                    { return nil }

func (*Client) update(context.Context, string, Change) (Plan, error) {
	return Plan{}, errors.ErrUnsupported
}
