package service

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/podplumb/podplumb/ipvs"
)

// The waits between two looks at what drains.
const (
	drainFirst = 50 * time.Millisecond
	drainMost  = 2 * time.Second
	drainTime  = 30 * time.Second // for one look
)

// drain removes destinations when their connections or their time are over, until none is left.
func (b *IPVSBackend) drain(ctx context.Context) {
	for wait := drainFirst; ; wait = min(2*wait, drainMost) {
		next := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case <-next.C:
		}
		b.mu.Lock()
		removed := b.removeIdle(ctx)
		over := len(b.leaving) == 0 || ctx.Err() != nil
		if over {
			b.stop()
			b.stop = nil
		}
		b.mu.Unlock()
		if over {
			return
		}
		if removed {
			wait = drainFirst
		}
	}
}

// removeIdle removes the draining destinations whose connections or time are over. What fails is tried again at the next look.
func (b *IPVSBackend) removeIdle(ctx context.Context) (removed bool) {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	keys := make([]ipvs.Key, 0, len(b.leaving))
	for k := range b.leaving {
		keys = append(keys, k)
	}
	stats, err := b.client.Stats(ctx, keys...)
	if err != nil {
		return false
	}
	var change ipvs.Change
	leaving := map[ipvs.Key]map[netip.AddrPort]time.Time{}
	seen := map[ipvs.Key]bool{}
	now := time.Now()
	for _, s := range stats {
		seen[s.Key] = true
		idle := map[netip.AddrPort]bool{} // and those that somebody else removed
		for a := range b.leaving[s.Key] {
			idle[a] = true
		}
		for _, d := range s.Destinations {
			if until, ok := b.leaving[s.Key][d.Address]; ok && d.Active+d.Inactive > 0 && !now.After(until) {
				delete(idle, d.Address)
			}
		}
		if len(idle) > 0 {
			b.without(s.Key, idle, &change, leaving)
		}
	}
	for _, k := range keys {
		if !seen[k] { // somebody else removed it
			b.known = false
			delete(b.leaving, k)
		}
	}
	if len(change.Set)+len(change.Drop) == 0 {
		return false
	}
	if _, err := b.client.Update(ctx, change); err != nil {
		return false
	}
	b.note(change, leaving)
	for _, k := range change.Drop {
		if !covered(b.routes.ranges, k.Address.Addr()) {
			// Stays dirty when it fails: the next full Plan removes the route.
			err = errors.Join(err, b.routes.make(ctx, b.client, routesFor(b.routes.ranges, b.services)))
		}
	}
	return err == nil
}

// without adds to a change that a virtual server loses destinations; without any left it goes.
func (b *IPVSBackend) without(k ipvs.Key, idle map[netip.AddrPort]bool, change *ipvs.Change, leaving map[ipvs.Key]map[netip.AddrPort]time.Time) {
	v := b.services[k]
	have := v.Destinations
	v.Destinations = nil
	for _, d := range have {
		if !idle[d.Address] {
			v.Destinations = append(v.Destinations, d)
		}
	}
	for a, until := range b.leaving[k] {
		if !idle[a] {
			if leaving[k] == nil {
				leaving[k] = map[netip.AddrPort]time.Time{}
			}
			leaving[k][a] = until
		}
	}
	if len(v.Destinations) == 0 {
		change.Drop = append(change.Drop, k)
		return
	}
	change.Set = append(change.Set, v)
}
