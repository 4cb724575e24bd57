package ipvs

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func (c *Client) stats(ctx context.Context, keys []Key) ([]ServiceStats, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	keep := c.owns.Contains
	if len(keys) > 0 {
		wanted := make(map[Key]bool, len(keys))
		for _, k := range keys {
			wanted[k] = true
		}
		keep = func(k Key) bool { return wanted[k] }
	}
	r, err := c.conn.list(ctx, keep, true)
	if err != nil {
		return nil, opError("read", "", err)
	}
	return r.stats, nil
}

func (c *Client) zero(ctx context.Context, keys []Key) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(keys) == 0 {
		s, err := c.once(ctx)
		if err != nil {
			return opError("zero", "", err)
		}
		for i := range s.Services {
			keys = append(keys, s.Services[i].Key)
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
			faults = append(faults, &OpError{Op: "zero", Object: k.String(), Err: explain(cmdGetService, nil, refused)})
			continue
		}
		if err != nil {
			return opError("zero", k.String(), c.conn.cause(ctx, err))
		}
	}
	return errors.Join(faults...)
}

func (c *Client) foreign(ctx context.Context) ([]Key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stop, err := c.conn.bound(ctx)
	if err != nil {
		return nil, opError("read", "", err)
	}
	defer stop()
	r := &reader{conn: c.conn}
	if err := r.readServices(func(k Key) bool { return !c.owns.Contains(k) }); err != nil {
		return nil, opError("read", "", c.conn.cause(ctx, err))
	}
	keys := make([]Key, len(r.services))
	for i := range r.services {
		keys[i] = r.services[i].Key
	}
	return keys, nil
}

func (c *Client) info(ctx context.Context) (Info, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
