package ipvs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

func (c *Client) stats(ctx context.Context, keys []Key) ([]ServiceStats, error) {
	if err := checkKeys(keys...); err != nil {
		return nil, opError("read", "", err)
	}
	if err := c.take(ctx); err != nil {
		return nil, opError("read", "", err)
	}
	defer c.give()
	keys = slices.Clone(keys)
	slices.SortFunc(keys, Key.Compare)
	keys = slices.Compact(keys)
	var all []ServiceStats
	if len(keys) == 0 || len(keys) > checkSingly {
		keep := c.owns.Contains
		if len(keys) > 0 {
			keep = func(k Key) bool {
				_, found := slices.BinarySearchFunc(keys, k, Key.Compare)
				return found
			}
		}
		r, err := c.conn.list(ctx, keep, true)
		if err != nil {
			return nil, opError("read", "", err)
		}
		all = r.stats
		if keys, err = c.missing(ctx, keep, State{r.services}); err != nil {
			return nil, opError("read", "", err)
		}
	}
	if len(keys) == 0 {
		return all, nil
	}
	r, err := c.conn.some(ctx, keys, true)
	if err != nil {
		return nil, opError("read", "", err)
	}
	all = append(all, r.stats...)
	slices.SortFunc(all, func(a, b ServiceStats) int { return a.Key.Compare(b.Key) })
	return all, nil
}

func (c *Client) zero(ctx context.Context, keys []Key) error {
	if err := checkKeys(keys...); err != nil {
		return opError("zero", "", err)
	}
	if err := c.take(ctx); err != nil {
		return opError("zero", "", err)
	}
	defer c.give()
	if len(keys) == 0 && c.owns.everything() {
		return opError("zero", "", c.conn.command(ctx, cmdZero, func(*encoder) {}))
	}
	named := len(keys) > 0
	if !named {
		var err error
		if keys, err = c.allKeys(ctx, c.owns.Contains); err != nil {
			return opError("zero", "", err)
		}
	}
	var faults []error
	for _, k := range keys {
		if !c.owns.Contains(k) {
			faults = append(faults, opError("zero", k.String(), ErrNotOwned))
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	stop, err := c.conn.bound(ctx)
	if err != nil {
		return opError("zero", "", err)
	}
	defer stop()
	for _, k := range keys {
		c.conn.request(cmdZero, flagAck, k)
		err := c.conn.collect(1, func([]byte) error { return nil })
		var refused *kernelError
		if errors.As(err, &refused) && refused.errno == unix.ESRCH {
			if !named {
				continue // somebody removed it meanwhile
			}
			faults = append(faults, &OpError{Op: "zero", Object: k.String(), Err: explain(cmdGetService, nil, refused)})
			continue
		}
		if err != nil {
			return opError("zero", k.String(), c.conn.cause(ctx, err))
		}
	}
	return errors.Join(faults...)
}

func (c *Client) flush(ctx context.Context) error {
	if !c.owns.everything() {
		return opError("flush", "", ErrNotOwned)
	}
	if err := c.take(ctx); err != nil {
		return opError("flush", "", err)
	}
	defer c.give()
	c.known.forgetAll()
	return opError("flush", "", c.conn.command(ctx, cmdFlush, func(*encoder) {}))
}

func (c *Client) foreign(ctx context.Context) ([]Key, error) {
	if err := c.take(ctx); err != nil {
		return nil, opError("read", "", err)
	}
	defer c.give()
	keys, err := c.allKeys(ctx, func(k Key) bool { return !c.owns.Contains(k) })
	return keys, opError("read", "", err)
}

func (c *Client) info(ctx context.Context) (Info, error) {
	if err := c.take(ctx); err != nil {
		return Info{}, opError("read", "", err)
	}
	defer c.give()
	stop, err := c.conn.bound(ctx)
	if err != nil {
		return Info{}, opError("read", "", err)
	}
	defer stop()
	var info Info
	c.conn.request(cmdGetInfo, flagAck, Key{})
	err = c.conn.collect(1, func(payload []byte) error {
		a := attributes{b: payload}
		for a.next() {
			switch a.kind {
			case 1:
				v := a.u32()
				info.Version = fmt.Sprintf("%d.%d.%d", v>>16, v>>8&0xff, v&0xff)
			case 2:
				info.TableSize = a.u32()
			}
		}
		return a.err
	})
	return info, opError("read", "", c.conn.cause(ctx, err))
}
