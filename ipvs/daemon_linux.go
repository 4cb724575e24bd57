package ipvs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

func (c *Client) daemons(ctx context.Context) ([]Daemon, error) {
	if err := c.take(ctx); err != nil {
		return nil, opError("read", "daemons", err)
	}
	defer c.give()
	stop, err := c.conn.bound(ctx)
	if err != nil {
		return nil, opError("read", "daemons", err)
	}
	defer stop()
	var out []Daemon
	c.conn.request(cmdGetDaemon, flagDump, Key{})
	err = c.conn.collect(1, func(payload []byte) error {
		b, err := find(payload, attrDaemon)
		if err != nil {
			return err
		}
		d, err := decodeDaemon(b)
		out = append(out, d)
		return err
	})
	if err != nil {
		return nil, opError("read", "daemons", c.conn.cause(ctx, err))
	}
	slices.SortFunc(out, func(a, b Daemon) int { return int(a.Role) - int(b.Role) })
	return out, nil
}

func (c *Client) startDaemon(ctx context.Context, d Daemon) error {
	if err := d.validate(); err != nil {
		return opError("add", "daemon", err)
	}
	d = d.canonical()
	if err := c.take(ctx); err != nil {
		return opError("add", "daemon", err)
	}
	defer c.give()
	err := c.conn.command(ctx, cmdNewDaemon, func(e *encoder) { e.daemon(&d) })
	var refused *kernelError
	if errors.As(err, &refused) {
		switch refused.errno {
		case unix.ENODEV:
			err = fmt.Errorf("no interface %s: %w", d.Interface, err)
		case unix.EINVAL:
			err = fmt.Errorf("the kernel has no daemon beside destinations of another family than their service: %w", err)
		}
	}
	return opError("add", d.Role.String()+" daemon", err)
}

func (c *Client) stopDaemon(ctx context.Context, r Role) error {
	if _, ok := roleNames[r]; !ok {
		return opError("remove", "daemon", fmt.Errorf("%d is neither master nor backup", uint8(r)))
	}
	if err := c.take(ctx); err != nil {
		return opError("remove", "daemon", err)
	}
	defer c.give()
	err := c.conn.command(ctx, cmdDelDaemon, func(e *encoder) {
		at := e.open(attrDaemon)
		e.u32(daemonState, uint32(r))
		e.close(at)
	})
	var refused *kernelError
	if errors.As(err, &refused) && refused.errno == unix.ESRCH {
		err = fmt.Errorf("no such daemon: %w", err)
	}
	return opError("remove", r.String()+" daemon", err)
}
