package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/podplumb/podplumb/ipvs"
)

// steps are a Plan in the order in which it is done. What is new comes before nat lets packets through to it, what goes leaves after nat has stopped that.
type steps struct {
	b       *IPVSBackend
	before  ipvs.Change
	part    *natChange
	after   ipvs.Change
	ranges  []netip.Prefix // service ranges after it
	reroute bool

	frontends map[ipvs.Key]*Frontend                    // of before
	leaving   map[ipvs.Key]map[netip.AddrPort]time.Time // what before and after make of these keys
}

// prepare translates the Plan and marks in part what IPVS leads.
func (b *IPVSBackend) prepare(p Plan, part *natChange) *steps {
	s := &steps{b: b, part: part, ranges: b.routes.changed(p.Full, part, b.client.Owns()),
		frontends: make(map[ipvs.Key]*Frontend, len(p.Set)), leaving: map[ipvs.Key]map[netip.AddrPort]time.Time{}}
	set := make(map[ipvs.Key]bool, len(p.Set))
	for i := range p.Set {
		f := &p.Set[i]
		k, ok := ipvsKey(f.Key)
		if !ok {
			continue
		}
		set[k] = true
		if b.leads(f, k) {
			s.frontends[k] = f
			s.before.Set = append(s.before.Set, s.service(f, k))
		} else if have, ok := b.services[k]; ok {
			s.retire(k, have)
		}
	}
	gone := func(k ipvs.Key) {
		if _, ok := b.services[k]; ok && !set[k] {
			s.after.Drop = append(s.after.Drop, k)
			s.leaving[k] = nil
		}
	}
	for _, dropped := range p.Drop {
		if k, ok := ipvsKey(dropped); ok {
			gone(k)
		}
	}
	if p.Full {
		for k := range b.services {
			gone(k)
		}
	}
	for i := range part.set {
		f := &part.set[i]
		if s.frontends[ipvs.Key{Protocol: ipvs.Protocol(f.Proto), Address: netip.AddrPortFrom(f.Addr, f.Port)}] != nil {
			f.Elsewhere, f.Affinity = true, 0
		}
	}
	nodePorts(part, s.ranges)
	s.reroute = p.Full || !slices.Equal(s.ranges, b.routes.ranges)
	for _, v := range s.before.Set {
		_, served := b.services[v.Key]
		s.reroute = s.reroute || !served && !covered(s.ranges, v.Address.Addr())
	}
	for _, k := range s.after.Drop {
		s.reroute = s.reroute || !covered(s.ranges, k.Address.Addr())
	}
	return s
}

// ipvsKey is the virtual server of an address and port; ok is false for what is none.
func ipvsKey(k Key) (key ipvs.Key, ok bool) {
	switch k.Kind {
	case KindClusterIP, KindExternalIP, KindLoadBalancer:
		return ipvs.Key{Protocol: ipvs.Protocol(natProto(k.Protocol)), Address: netip.AddrPortFrom(k.Addr, k.Port)}, true
	}
	return ipvs.Key{}, false
}

// leads reports whether IPVS serves the Frontend, rather than nat.
func (b *IPVSBackend) leads(f *Frontend, k ipvs.Key) bool {
	return len(f.Endpoints) > 0 && len(f.Near) == 0 && f.Masquerade != MasqueradeNode && (f.Affinity == 0 || f.Affinity >= persistent) &&
		b.client.Owns().Contains(k)
}

// service is the virtual server of a Frontend, with what it had and shall not have any more on its way out.
func (s *steps) service(f *Frontend, k ipvs.Key) ipvs.Service {
	v := ipvs.Service{Key: k, Scheduler: ipvs.RoundRobin, Persistence: ipvs.Persistence{Timeout: f.Affinity.Truncate(time.Second)}}
	if s.b.Scheduler != nil {
		if choice := s.b.Scheduler(*f); choice != "" {
			v.Scheduler = choice
		}
	}
	v.Destinations = make([]ipvs.Destination, len(f.Endpoints), len(f.Endpoints)+len(s.b.services[k].Destinations))
	for i, e := range f.Endpoints {
		v.Destinations[i] = ipvs.Destination{Address: e.Addr, Weight: 1}
	}
	s.leaving[k] = nil
	return s.drained(v, s.b.services[k])
}

// drained adds to v the destinations of have that it lacks, with weight zero.
func (s *steps) drained(v, have ipvs.Service) ipvs.Service {
	within := s.b.Drain
	if within == 0 {
		within = drainDefault
	}
	if within < 0 || v.Protocol == ipvs.UDP {
		return v
	}
	wanted := v.Destinations
	for _, d := range have.Destinations {
		if slices.ContainsFunc(wanted, func(w ipvs.Destination) bool { return w.Address == d.Address }) {
			continue
		}
		until, draining := s.b.leaving[v.Key][d.Address]
		if !draining {
			until = time.Now().Add(within)
		}
		if s.leaving[v.Key] == nil {
			s.leaving[v.Key] = map[netip.AddrPort]time.Time{}
		}
		s.leaving[v.Key][d.Address] = until
		d.Weight = 0
		v.Destinations = append(v.Destinations, d)
	}
	return v
}

// retire takes a virtual server out of service that IPVS leads no longer: its connections may go on.
func (s *steps) retire(k ipvs.Key, have ipvs.Service) {
	s.leaving[k] = nil
	v := have
	v.Destinations = nil
	v = s.drained(v, have)
	if len(v.Destinations) == 0 {
		s.after.Drop = append(s.after.Drop, k)
		return
	}
	s.after.Set = append(s.after.Set, v)
}

// do makes the changes. When one before the last fails those before it are taken back.
func (s *steps) do(ctx context.Context, full bool) error {
	b := s.b
	if len(s.before.Set) > 0 {
		if err := b.switches(); err != nil {
			return err
		}
		if _, err := b.client.Update(ctx, s.before); err != nil {
			return errors.Join(s.unschedulable(err), s.undo(ctx, false, nil))
		}
	}
	made, routed := b.routes.made, s.routed()
	if s.reroute {
		both := slices.Concat(made, routed)
		slices.SortFunc(both, comparePrefix)
		if err := b.routes.make(ctx, b.client, apart(both)); err != nil {
			return errors.Join(err, s.undo(ctx, s.reroute, made))
		}
	}
	if err := b.nat.apply(ctx, full, *s.part); err != nil {
		return errors.Join(err, s.undo(ctx, s.reroute, made))
	}
	b.routes.ranges = s.ranges
	b.note(s.before, s.leaving)
	if s.reroute && !slices.Equal(b.routes.made, routed) {
		if err := b.routes.make(ctx, b.client, routed); err != nil {
			b.known = false
			return err
		}
	}
	if len(s.after.Set) > 0 || len(s.after.Drop) > 0 {
		if _, err := b.client.Update(ctx, s.after); err != nil {
			b.known = false
			return err
		}
	}
	b.note(s.after, s.leaving)
	return nil
}

// routed are the routes after all.
func (s *steps) routed() []netip.Prefix {
	if !s.reroute {
		return nil
	}
	return routesFor(s.ranges, s.then())
}

// then are the virtual servers after all.
func (s *steps) then() map[ipvs.Key]ipvs.Service {
	services := maps.Clone(s.b.services)
	for _, v := range slices.Concat(s.before.Set, s.after.Set) {
		services[v.Key] = v
	}
	for _, k := range s.after.Drop {
		delete(services, k)
	}
	return services
}

// note remembers what was done.
func (b *IPVSBackend) note(c ipvs.Change, leaving map[ipvs.Key]map[netip.AddrPort]time.Time) {
	keep := func(k ipvs.Key) {
		if len(leaving[k]) == 0 {
			delete(b.leaving, k)
			return
		}
		b.leaving[k] = leaving[k]
	}
	for _, v := range c.Set {
		b.services[v.Key] = v
		keep(v.Key)
	}
	for _, k := range c.Drop {
		delete(b.services, k)
		keep(k)
	}
}

// undoTime bounds taking back: the caller's own time may be over.
const undoTime = 10 * time.Second

// undo takes back the first steps.
func (s *steps) undo(ctx context.Context, rerouted bool, made []netip.Prefix) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	s.b.known = false
	var back ipvs.Change
	for _, v := range s.before.Set {
		if have, ok := s.b.services[v.Key]; ok {
			back.Set = append(back.Set, have)
		} else {
			back.Drop = append(back.Drop, v.Key)
		}
	}
	_, err := s.b.client.Update(ctx, back)
	if rerouted {
		err = errors.Join(err, s.b.routes.make(ctx, s.b.client, made))
	}
	return err
}

// unschedulable names the Frontends whose scheduler the kernel does not have, when that is all that is wrong.
func (s *steps) unschedulable(err error) error {
	named := make(map[string]*Frontend, len(s.frontends))
	for k, f := range s.frontends {
		named[k.String()] = f
	}
	var found []error
	var walk func(error) bool
	walk = func(err error) bool {
		switch e := err.(type) { //nolint:errorlint // it walks the tree itself
		case interface{ Unwrap() []error }:
			return !slices.ContainsFunc(e.Unwrap(), func(part error) bool { return !walk(part) })
		case *ipvs.OpError:
			f := named[e.Object]
			if f == nil {
				return e.Err != nil && e.Object == "" && walk(e.Err)
			}
			if !errors.Is(e, ipvs.ErrNoScheduler) {
				return false
			}
			found = append(found, &UnservedError{Key: f.Key, Service: f.Service, Err: fmt.Errorf("%w: %w", e, errors.ErrUnsupported)})
			return true
		case interface{ Unwrap() error }:
			return walk(e.Unwrap())
		}
		return false
	}
	if !walk(err) || len(found) == 0 {
		return err
	}
	return errors.Join(found...)
}

// switches sets the sysctls without which IPVS does not keep the promises.
func (b *IPVSBackend) switches() error {
	have, err := b.client.Sysctls()
	if err != nil {
		return err
	}
	want := have
	want.Conntrack, want.ExpireNodest, want.ExpireQuiescent = true, true, true
	want.ConnReuseMode = max(have.ConnReuseMode, 1)
	if want == have {
		return nil
	}
	return b.client.SetSysctls(want)
}
