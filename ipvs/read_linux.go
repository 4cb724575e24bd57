package ipvs

import (
	"context"
	"encoding/binary"
	"errors"
	"math/bits"
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
	family    Family        // of the service whose destinations are read
	each      func(payload []byte) error
}

// list reads all services for which keep is true, once. IPVS dumps are not consistent under concurrent writes: the same service
// may come twice or not at all. Here doubles are dropped; callers compare listings.
func (c *conn) list(ctx context.Context, keep func(Key) bool, withStats bool) (*reader, error) {
	stop, err := c.bound(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	r := &reader{conn: c, withStats: withStats, services: c.listed[:0], room: make([]Destination, 0, c.all)}
	if err := r.readServices(keep); err != nil {
		return nil, c.cause(ctx, err)
	}
	for i := range r.services {
		if err := r.readDestinations(i); err != nil {
			return nil, c.cause(ctx, err)
		}
	}
	c.all = len(r.room)
	return r, nil
}

// get reads one service; nil when there is none.
func (c *conn) get(ctx context.Context, k Key) (*Service, error) {
	r, err := c.some(ctx, []Key{k}, false)
	if err != nil || len(r.services) == 0 {
		return nil, err
	}
	return &r.services[0], nil
}

// some reads the services of the keys one by one. Those that are not there are left out.
func (c *conn) some(ctx context.Context, keys []Key, withStats bool) (*reader, error) {
	stop, err := c.bound(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	r := &reader{conn: c, withStats: withStats}
	each := func(payload []byte) error { return r.addService(payload, func(Key) bool { return true }) }
	for _, k := range keys {
		n := len(r.services)
		r.request(cmdGetService, flagAck, k)
		err := r.collect(2, each)
		var refused *kernelError
		if errors.As(err, &refused) && refused.errno == unix.ESRCH {
			continue
		}
		if err == nil && len(r.services) != n+1 {
			err = errMalformed
		}
		if err == nil {
			err = r.readDestinations(n)
		}
		if err != nil {
			return nil, c.cause(ctx, err)
		}
	}
	return r, nil
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

// collect sends the request and hands over the messages of the answer, up to the acknowledgement or the end of the dump. expect is how many
// datagrams those are as a rule.
func (c *conn) collect(expect int, each func(payload []byte) error) error {
	if err := c.send(); err != nil {
		return err
	}
	c.in.expect = expect
	for {
		r, err := c.next(c.seq)
		if err != nil {
			return err
		}
		switch r.kind {
		case unix.NLMSG_ERROR, unix.NLMSG_DONE:
			c.dirty = false
			if e := r.status(); e != nil {
				return e
			}
			return nil
		case c.enc.family:
			if len(r.payload) < sizeGeneric {
				return errMalformed
			}
			if err := each(r.payload[sizeGeneric:]); err != nil {
				return err
			}
		}
	}
}

func (r *reader) readServices(keep func(Key) bool) error {
	r.request(cmdGetService, flagDump, Key{})
	r.print = 0
	if err := r.collect(slots, func(payload []byte) error { return r.addService(payload, keep) }); err != nil {
		return err
	}
	order := arrange(r.services, r.order, func(s *Service) Key { return s.Key }, Key.Compare)
	r.listed = r.services
	r.services, r.order = pick(r.services, order), order
	if r.withStats {
		r.stats = pick(r.stats, order)
	}
	return nil
}

// print adds a key to the hash of a list.
func (k Key) print(h uint64) uint64 {
	a := k.Address.Addr().As16()
	for _, part := range [...]uint64{binary.NativeEndian.Uint64(a[:8]), binary.NativeEndian.Uint64(a[8:]),
		uint64(k.Mark)<<32 | uint64(k.Address.Port())<<16 | uint64(k.Protocol)<<8 | uint64(k.Family)} {
		h = bits.RotateLeft64(h^part, 29) * 0x9e3779b97f4a7c15
	}
	return h
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
	r.print = s.Key.print(r.print)
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
	if r.each == nil {
		r.each = r.addDestination
	}
	r.family, r.scratch, r.counts = s.family(), r.scratch[:0], r.counts[:0]
	r.request(cmdGetDest, flagDump, s.Key)
	err := r.collect(2, r.each) // the destinations, and that there are no more
	var refused *kernelError
	if err != nil && errors.As(err, &refused) && refused.errno == syscall.ESRCH {
		err = nil
	}
	if err != nil {
		return err
	}
	address := func(d *Destination) netip.AddrPort { return d.Address }
	if r.withStats {
		order := arrange(r.scratch, nil, address, netip.AddrPort.Compare)
		r.scratch, r.stats[i].Destinations = pick(r.scratch, order), pick(r.counts, order)
	} else if !ascending(r.scratch, address, netip.AddrPort.Compare) {
		slices.Reverse(r.scratch) // the kernel lists the latest first
		if !ascending(r.scratch, address, netip.AddrPort.Compare) {
			slices.Reverse(r.scratch)
			r.scratch = pick(r.scratch, arrange(r.scratch, nil, address, netip.AddrPort.Compare))
		}
	}
	if start := len(r.room); len(r.scratch) > 0 {
		r.room = append(r.room, r.scratch...)
		s.Destinations = r.room[start:len(r.room):len(r.room)]
	}
	return nil
}

func (r *reader) addDestination(payload []byte) error {
	b, err := find(payload, attrDest)
	if err != nil {
		return err
	}
	r.scratch = append(r.scratch, Destination{})
	d := &r.scratch[len(r.scratch)-1]
	if !r.withStats {
		return decodeDestination(b, r.family, d, nil)
	}
	r.counts = append(r.counts, DestinationStats{})
	return decodeDestination(b, r.family, d, &r.counts[len(r.counts)-1])
}

// arrange returns the numbers of the elements in the order of their keys; of several with one key only the last. hint is what it returned for
// an earlier listing: when nobody wrote since, the kernel lists the same in the same order, and it fits again.
func arrange[T, K any](s []T, hint []int32, key func(*T) K, compare func(a, b K) int) []int32 {
	at := func(i *int32) K { return key(&s[*i]) }
	// It may be that of a longer list with doubles.
	if len(s) > 0 && len(hint) == len(s) && int(slices.Max(hint)) < len(s) && ascending(hint, at, compare) {
		return hint
	}
	order := make([]int32, len(s))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		if c := compare(at(&a), at(&b)); c != 0 {
			return c
		}
		return int(a - b)
	})
	out := order[:0]
	for i := range order {
		if i+1 == len(order) || compare(at(&order[i]), at(&order[i+1])) != 0 {
			out = append(out, order[i])
		}
	}
	return out
}

// pick returns copies of the numbered elements.
func pick[T any](s []T, numbers []int32) []T {
	out := make([]T, len(numbers))
	for i, from := range numbers {
		out[i] = s[from]
	}
	return out
}
