package nat

import (
	"net/netip"
	"slices"
	"time"

	"github.com/podplumb/podplumb/internal/plan"
)

// world is what the table holds, as this process knows it: the State, where
// each target sits, and how often shared elements are used. A change to it
// yields the edits that make the same change in the kernel.
type world struct {
	lay      *layout
	networks map[netip.Prefix]Network
	exclude  map[netip.Prefix]netip.Prefix
	virtual  map[netip.Prefix]Virtual
	local    map[netip.Prefix]netip.Prefix
	// localhost is by family, named by its unspecified address.
	localhost map[netip.Addr]netip.Addr
	forwards  map[Key]*entry

	addresses *uses // forwards by address
	hairpin   *uses // forwards' targets by address
	lanes     map[lane]*laneUse
	numbers   []bool // lane numbers in use, from 1
	// partial says that forwards, addresses, hairpin and the prefixes hold
	// only what was asked for, and that lanes are not counted.
	partial bool

	redirects map[listen]Redirect
	capture   map[item]item

	// draining is until when connections to targets that went may go on, now
	// when a change is made.
	draining map[flow]time.Time
	now      time.Time
}

type entry struct {
	Forward
	slots []netip.AddrPort // which target each slot leads to
	near  []netip.AddrPort // the same for clients that are near
}

type laneUse struct {
	number uint32
	count  int
}

func newWorld(lay *layout) *world {
	return &world{
		lay:      lay,
		networks: map[netip.Prefix]Network{}, exclude: map[netip.Prefix]netip.Prefix{}, virtual: map[netip.Prefix]Virtual{},
		local: map[netip.Prefix]netip.Prefix{}, localhost: map[netip.Addr]netip.Addr{},
		forwards: map[Key]*entry{}, addresses: newUses(), hairpin: newUses(),
		redirects: map[listen]Redirect{}, capture: map[item]item{}, draining: map[flow]time.Time{},
		lanes: map[lane]*laneUse{}, numbers: make([]bool, 1),
	}
}

// state returns the State that the world holds, canonical.
func (w *world) state() State {
	s := State{
		Networks: sorted(w.networks, func(a, b Network) int { return comparePrefix(a.Prefix, b.Prefix) }),
		Exclude:  sorted(w.exclude, comparePrefix),
		Virtual:  sorted(w.virtual, func(a, b Virtual) int { return comparePrefix(a.Prefix, b.Prefix) }),
		Local:    sorted(w.local, comparePrefix),
	}
	for _, r := range w.redirects {
		s.Redirects = append(s.Redirects, r)
	}
	s.Redirects, s.Capture = sortedRedirects(s.Redirects), w.captureState()
	for _, a := range w.localhost {
		s.Localhost = append(s.Localhost, a)
	}
	slices.SortFunc(s.Localhost, netip.Addr.Compare)
	if len(w.forwards) > 0 {
		s.Forwards = make([]Forward, 0, len(w.forwards))
		for _, e := range w.forwards {
			s.Forwards = append(s.Forwards, e.Forward)
		}
		slices.SortFunc(s.Forwards, func(a, b Forward) int { return a.Key().compare(b.Key()) })
	}
	return s
}

func sorted[T any](m map[netip.Prefix]T, compare func(a, b T) int) []T {
	if len(m) == 0 {
		return nil
	}
	out := make([]T, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	slices.SortFunc(out, compare)
	return out
}

// fits says that what the plan changes is still as the plan saw it.
func (w *world) fits(p Plan) bool {
	for _, c := range p.networks {
		if !same(w.networks, c) {
			return false
		}
	}
	for _, c := range p.exclude {
		if !same(w.exclude, c) {
			return false
		}
	}
	for _, c := range p.virtual {
		if !same(w.virtual, c) {
			return false
		}
	}
	for _, c := range p.local {
		if !same(w.local, c) {
			return false
		}
	}
	for _, c := range p.localhost {
		if !same(w.localhost, c) {
			return false
		}
	}
	for _, c := range p.redirects {
		if !same(w.redirects, c) {
			return false
		}
	}
	for _, c := range p.capture {
		if !same(w.capture, c) {
			return false
		}
	}
	for _, c := range p.forwards {
		have, ok := w.forwards[c.Key]
		if ok != (c.Have != nil) || ok && !have.Forward.equal(c.Have) {
			return false
		}
	}
	return true
}

func same[K, T comparable](m map[K]T, c plan.Change[K, T]) bool {
	have, ok := m[c.Key]
	return ok == (c.Have != nil) && (!ok || have == *c.Have)
}

// expect makes room for what a plan adds to an empty world.
func (w *world) expect(p Plan) {
	const many = 1000
	if len(p.forwards) < many {
		return
	}
	targets := 0
	for _, c := range p.forwards {
		targets += len(c.Want.To) + len(c.Want.Near)
	}
	w.forwards = make(map[Key]*entry, len(p.forwards))
	w.addresses.m = make(map[netip.Addr]use, len(p.forwards))
	w.hairpin.m = make(map[netip.Addr]use, targets)
}
