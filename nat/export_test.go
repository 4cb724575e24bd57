package nat

import (
	"slices"
	"time"

	"github.com/podplumb/podplumb/internal/nft"
)

// Ruleset prints the fixed part of the table and the lanes for the given
// numbers of slots.
func Ruleset(c Config, slots ...int) string {
	if err := c.complete(); err != nil {
		panic(err)
	}
	l := newLayout(c)
	t := *l.whole()
	for _, n := range slots {
		t.Chains = append(t.Chains, lane{size: laneSize(n)}.chain(l), lane{size: laneSize(n), node: true, sticky: true}.chain(l))
	}
	t.Chains = append(t.Chains, lane{learn: 3 * time.Hour}.chain(l))
	return t.String()
}

// Edits prints what a table that holds have is changed by to hold want, and
// what it holds then.
func Edits(have, want State) (string, State) {
	c := Config{}
	if err := c.complete(); err != nil {
		panic(err)
	}
	w := newWorld(newLayout(c))
	w.must(Diff(State{}, have))
	e := w.must(Diff(w.state(), want))
	return e.String(), w.state()
}

func (w *world) must(p Plan) *edits {
	e := &edits{}
	w.ranges(p, e)
	for _, ch := range p.forwards {
		if err := w.forward(ch.Key, ch.Want, e); err != nil {
			panic(err)
		}
	}
	w.settle(e)
	return e
}

// Contents follows the edits from state to state as a kernel would, and says
// what is wrong: an element deleted that is not there, or added that is.
func Contents(states ...State) (faults []string, elements map[string]string) {
	c := Config{}
	if err := c.complete(); err != nil {
		panic(err)
	}
	w := newWorld(newLayout(c))
	elements = map[string]string{}
	start := &edits{}
	w.begin(start)
	for _, set := range start.order {
		for _, el := range start.sets[set].add {
			elements[elementID(set, &el)] = set.Format(&el, true)
		}
	}
	for _, s := range states {
		e := w.must(Diff(w.state(), s))
		for _, set := range e.order {
			for _, el := range e.sets[set].del {
				id := elementID(set, &el)
				if _, ok := elements[id]; !ok {
					faults = append(faults, "deleted without being there: "+id)
				}
				delete(elements, id)
			}
			for _, el := range e.sets[set].add {
				id := elementID(set, &el)
				if _, ok := elements[id]; ok {
					faults = append(faults, "added though there: "+id)
				}
				elements[id] = set.Format(&el, true)
			}
		}
	}
	return faults, elements
}

func elementID(s *nft.Set, e *nft.Element) string { return s.Name + " " + s.Format(e, false) }

// Lane returns the name of the lane for a number of slots, how many it draws
// from and how many every forward in it has.
func Lane(slots int) (name string, size, sure int) {
	l := lane{size: laneSize(slots)}
	return l.name(), l.size, l.sure()
}

// ParseLane is the inverse of Lane's name.
func ParseLane(name string) (size int, ok bool) {
	l, ok := parseLane(name)
	return l.size, ok
}

// MaglevTable exposes the slots of Maglev.
var MaglevTable = maglev

// Place exposes the assignment of slots.
var Place = place

// Canonical exposes the canonical form.
func (s State) Canonical() State { return s.canonical() }

// Faults splits a validation error into sorted lines.
func Faults(err error) []string {
	if err == nil {
		return nil
	}
	var list []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		list = append(list, e.Error())
	}
	slices.Sort(list)
	return list
}
