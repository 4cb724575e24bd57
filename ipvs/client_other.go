//go:build !linux

package ipvs

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Client needs Linux; elsewhere New fails with an error that Is errors.ErrUnsupported.
type Client struct{}

func newClient(Config) (*Client, error) {
	return nil, &OpError{Op: "new", Err: errors.ErrUnsupported}
}

func (*Client) read(context.Context) (State, error)          { return State{}, errors.ErrUnsupported }
func (*Client) plan(context.Context, State) (Plan, error)    { return Plan{}, errors.ErrUnsupported }
func (*Client) apply(context.Context, Plan) error            { return errors.ErrUnsupported }
func (*Client) sync(context.Context, State) (Plan, error)    { return Plan{}, errors.ErrUnsupported }
func (*Client) update(context.Context, Change) (Plan, error) { return Plan{}, errors.ErrUnsupported }
func (*Client) stats(context.Context, []Key) ([]ServiceStats, error) {
	return nil, errors.ErrUnsupported
}
func (*Client) zero(context.Context, []Key) error      { return errors.ErrUnsupported }
func (*Client) flush(context.Context) error            { return errors.ErrUnsupported }
func (*Client) foreign(context.Context) ([]Key, error) { return nil, errors.ErrUnsupported }
func (*Client) info(context.Context) (Info, error)     { return Info{}, errors.ErrUnsupported }
func (*Client) close() error                           { return nil }
func (*Client) owned() Owns                            { return Owns{} }

func (*Client) drain(context.Context, Key, netip.AddrPort, time.Duration) (uint32, error) {
	return 0, errors.ErrUnsupported
}
func (*Client) timeouts(context.Context) (Timeouts, error)        { return Timeouts{}, errors.ErrUnsupported }
func (*Client) setTimeouts(context.Context, Timeouts) error       { return errors.ErrUnsupported }
func (*Client) sysctls() (Sysctls, error)                         { return Sysctls{}, errors.ErrUnsupported }
func (*Client) setSysctls(Sysctls) error                          { return errors.ErrUnsupported }
func (*Client) daemons(context.Context) ([]Daemon, error)         { return nil, errors.ErrUnsupported }
func (*Client) startDaemon(context.Context, Daemon) error         { return errors.ErrUnsupported }
func (*Client) stopDaemon(context.Context, Role) error            { return errors.ErrUnsupported }
func (*Client) connections(context.Context) ([]Connection, error) { return nil, errors.ErrUnsupported }
func (*Client) syncRanges(context.Context, []Range) error         { return errors.ErrUnsupported }
func (*Client) ranges(context.Context) ([]Range, error)           { return nil, errors.ErrUnsupported }
