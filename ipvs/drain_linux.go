package ipvs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"
)

// The waits between two looks at a draining destination. Counting needs a listing of the service's destinations only.
const (
	drainFirst = 20 * time.Millisecond
	drainMost  = time.Second
)

func (c *Client) drain(ctx context.Context, k Key, address netip.AddrPort, within time.Duration) (uint32, error) {
	object := k.String() + " -> " + address.String()
	if err := checkKeys(k); err != nil {
		return 0, opError("drain", object, err)
	}
	if !c.owns.Contains(k) {
		return 0, opError("drain", object, ErrNotOwned)
	}
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	if err := c.quiesce(ctx, k, address); err != nil {
		return 0, opError("drain", object, err)
	}
	for wait := drainFirst; ; wait = min(wait*2, drainMost) {
		left, err := c.open(ctx, k, address)
		if err != nil {
			return left, opError("drain", object, err)
		}
		if left == 0 {
			return 0, opError("drain", object, c.removeDestination(ctx, k, address))
		}
		next := time.NewTimer(wait)
		select {
		case <-next.C:
		case <-timeout.C:
			next.Stop()
			return left, opError("drain", object, c.removeDestination(ctx, k, address))
		case <-ctx.Done():
			next.Stop()
			return left, opError("drain", object, context.Cause(ctx))
		}
	}
}

// quiesce sets the destination's weight to zero.
func (c *Client) quiesce(ctx context.Context, k Key, address netip.AddrPort) error {
	return c.edit(ctx, k, func(s *Service) error {
		i := slices.IndexFunc(s.Destinations, func(d Destination) bool { return d.Address == address })
		if i < 0 {
			return fmt.Errorf("no such destination: %w", fs.ErrNotExist)
		}
		s.Destinations[i].Weight = 0
		return nil
	})
}

// removeDestination takes it out, unless its weight was raised since. Somebody may have removed it, or the whole service.
func (c *Client) removeDestination(ctx context.Context, k Key, address netip.AddrPort) error {
	err := c.edit(ctx, k, func(s *Service) error {
		i := slices.IndexFunc(s.Destinations, func(d Destination) bool { return d.Address == address })
		if i < 0 {
			return nil
		}
		if s.Destinations[i].Weight != 0 {
			return ErrStale
		}
		s.Destinations = slices.Delete(s.Destinations, i, i+1)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// edit reads one service from the kernel, changes it and writes what differs.
func (c *Client) edit(ctx context.Context, k Key, alter func(*Service) error) error {
	if err := c.take(ctx); err != nil {
		return err
	}
	defer c.give()
	for range syncTries {
		have, err := c.conn.get(ctx, k)
		if err != nil {
			return err
		}
		if have == nil {
			c.known.forget(k)
			return fmt.Errorf("no such service: %w", fs.ErrNotExist)
		}
		want := *have
		want.Destinations = slices.Clone(have.Destinations)
		if err := alter(&want); err != nil {
			return err
		}
		want.settle(nil)
		if sameService(have, &want) {
			c.known.note(k, have)
			return nil
		}
		did, again, err := c.write(ctx, []change{diffService(k, have, &want, nil)})
		if err != nil {
			return err
		}
		if len(again) == 0 {
			c.remember(did)
			return nil
		}
	}
	return ErrUnstable
}

// open counts the connections of a draining destination. ErrStale says that its weight was raised.
func (c *Client) open(ctx context.Context, k Key, address netip.AddrPort) (uint32, error) {
	if err := c.take(ctx); err != nil {
		return 0, err
	}
	defer c.give()
	stop, err := c.conn.bound(ctx)
	if err != nil {
		return 0, err
	}
	defer stop()
	r := &reader{conn: c.conn, withStats: true, services: []Service{{Key: k}}, stats: []ServiceStats{{Key: k}}}
	if err := r.readDestinations(0); err != nil {
		return 0, c.conn.cause(ctx, err)
	}
	for i, d := range r.services[0].Destinations {
		if d.Address == address {
			if d.Weight != 0 {
				return 0, ErrStale
			}
			counts := r.stats[0].Destinations[i]
			return counts.Active + counts.Inactive, nil
		}
	}
	return 0, nil // somebody removed it
}
