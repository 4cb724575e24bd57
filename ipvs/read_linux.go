package ipvs

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// reader collects one listing of services and their destinations.
type reader struct {
	*conn
	withStats bool
	services  []Service
	stats     []ServiceStats
	scratch   []Destination
	counts    []DestinationStats
	room      []Destination // those of all services, in one piece
}

// list reads all services for which keep is true, once. IPVS dumps are not consistent under concurrent writes: the same service
// may come twice or not at all. Here doubles are dropped; callers compare listings.
func (c *conn) list(ctx context.Context, keep func(Key) bool, withStats bool) (*reader, error) {
	stop, err := c.bound(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	r := &reader{conn: c, withStats: withStats}
	if err := r.readServices(keep); err != nil {
		return nil, c.cause(ctx, err)
	}
	for i := range r.services {
		if err := r.readDestinations(i); err != nil {
			return nil, c.cause(ctx, err)
		}
	}
	return r, nil
}

// get reads one service; nil when there is none.
func (c *conn) get(ctx context.Context, k Key) (*Service, error) {
	stop, err := c.bound(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	r := &reader{conn: c}
	r.request(cmdGetService, flagAck, k)
	err = r.collect(2, func(payload []byte) error { return r.addService(payload, func(Key) bool { return true }) })
	var refused *kernelError
	if errors.As(err, &refused) && refused.errno == unix.ESRCH {
		return nil, nil
	}
	if err != nil {
		return nil, c.cause(ctx, err)
	}
	if len(r.services) != 1 {
		return nil, errMalformed
	}
	if err := r.readDestinations(0); err != nil {
		return nil, c.cause(ctx, err)
	}
	return &r.services[0], nil
}

// request encodes a datagram of one message; the zero Key is none.
func (c *conn) request(cmd uint8, flags uint16, k Key) {
	c.seq++
	c.enc.reset()
	c.enc.begin(cmd, flags, c.seq)
	if k != (Key{}) {
		c.enc.serviceKey(k)
	}
	c.enc.end()
}

// collect sends the request and hands over the messages of the answer, up to the acknowledgement or the end of the dump.
func (c *conn) collect(expect int, each func(payload []byte) error) error {
	if err := c.send(); err != nil {
		return err
	}
	var failed error
	err := c.receive(c.seq, expect, func(r reply) (bool, error) {
		switch r.kind {
		case unix.NLMSG_ERROR, unix.NLMSG_DONE:
			if e := r.status(); e != nil {
				failed = e
			}
			return true, nil
		case c.enc.family:
			if len(r.payload) < sizeGeneric {
				return false, errMalformed
			}
			return false, each(r.payload[sizeGeneric:])
		}
		return false, nil
	})
	return errors.Join(err, failed)
}

func (r *reader) readServices(keep func(Key) bool) error {
	r.request(cmdGetService, flagDump, Key{})
	if err := r.collect(slots, func(payload []byte) error { return r.addService(payload, keep) }); err != nil {
		return err
	}
	r.services = sortedUnique(r.services, func(s *Service) Key { return s.Key }, Key.Compare)
	r.stats = sortedUnique(r.stats, func(s *ServiceStats) Key { return s.Key }, Key.Compare)
	return nil
}

func (r *reader) addService(payload []byte, keep func(Key) bool) error {
	b, err := find(payload, attrService)
	if err != nil {
		return err
	}
	var stats *Stats
	if r.withStats {
		stats = &Stats{}
	}
	r.services = append(r.services, Service{})
	s := &r.services[len(r.services)-1]
	if err := decodeService(b, s, stats); err != nil {
		return err
	}
	if !keep(s.Key) {
		r.services = r.services[:len(r.services)-1]
		return nil
	}
	if r.withStats {
		r.stats = append(r.stats, ServiceStats{Key: s.Key, Stats: *stats})
	}
	return nil
}

// readDestinations fills in those of one service. When it is gone meanwhile the kernel lists none.
func (r *reader) readDestinations(i int) error {
	s := &r.services[i]
	family := s.family()
	r.scratch, r.counts = r.scratch[:0], r.counts[:0]
	r.request(cmdGetDest, flagDump, s.Key)
	err := r.collect(2, func(payload []byte) error { // the destinations, and that there are no more
		b, err := find(payload, attrDest)
		if err != nil {
			return err
		}
		r.scratch = append(r.scratch, Destination{})
		d := &r.scratch[len(r.scratch)-1]
		if !r.withStats {
			return decodeDestination(b, family, d, nil)
		}
		r.counts = append(r.counts, DestinationStats{})
		return decodeDestination(b, family, d, &r.counts[len(r.counts)-1])
	})
	var refused *kernelError
	if errors.As(err, &refused) && refused.errno == syscall.ESRCH {
		err = nil
	}
	if err != nil {
		return err
	}
	r.scratch = sortedUnique(r.scratch, func(d *Destination) netip.AddrPort { return d.Address }, netip.AddrPort.Compare)
	if start := len(r.room); len(r.scratch) > 0 {
		r.room = append(r.room, r.scratch...)
		s.Destinations = r.room[start:len(r.room):len(r.room)]
	}
	if r.withStats {
		r.counts = sortedUnique(r.counts, func(d *DestinationStats) netip.AddrPort { return d.Address }, netip.AddrPort.Compare)
		r.stats[i].Destinations = slices.Clone(r.counts)
	}
	return nil
}

// sortedUnique sorts and keeps the last of each key. The elements are large, so their numbers are sorted instead.
func sortedUnique[T any, K comparable](s []T, key func(*T) K, compare func(a, b K) int) []T {
	if len(s) < 2 {
		return s
	}
	order := make([]int32, len(s))
	for i := range order {
		order[i] = int32(i)
	}
	byKey := func(a, b int32) int {
		if c := compare(key(&s[a]), key(&s[b])); c != 0 {
			return c
		}
		return int(a - b)
	}
	if slices.IsSortedFunc(order, byKey) {
		return lastOfEach(s, key, s[:0])
	}
	slices.SortFunc(order, byKey)
	sorted := make([]T, len(s))
	for i, from := range order {
		sorted[i] = s[from]
	}
	return lastOfEach(sorted, key, sorted[:0])
}

func lastOfEach[T any, K comparable](s []T, key func(*T) K, out []T) []T {
	for i := range s {
		if i+1 == len(s) || key(&s[i]) != key(&s[i+1]) {
			out = append(out, s[i])
		}
	}
	return out
}
