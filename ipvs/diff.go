package ipvs

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/podplumb/podplumb/internal/plan"
)

// Plan is what leads from one State to another. Its order is that of the keys.
type Plan struct {
	changes []change
}

// change is what happens to one service. Have is nil when it is added, want when it is removed; both are canonical.
type change struct {
	key          Key
	have, want   *Service
	destinations []destinationChange
}

type destinationChange = plan.Change[netip.AddrPort, Destination]

// Diff returns the plan that makes want of have: empty when they mean the same.
func Diff(have, want State) Plan {
	return diffCanonical(have.Canonical(), want.Canonical())
}

// diffCanonical walks through both lists at once: they are sorted.
func diffCanonical(have, want State) Plan {
	var p Plan
	walk(have.Services, want.Services, func(a, b *Service) int { return a.Key.Compare(b.Key) }, func(h, w *Service) {
		switch {
		case h == nil:
			p.changes = append(p.changes, diffService(w.Key, nil, w, nil))
		case w == nil || !sameService(h, w):
			p.changes = append(p.changes, diffService(h.Key, h, w, nil))
		}
	})
	return p
}

// walk pairs the elements of two sorted lists; what only one has is paired with nil. A plan for ten thousand services is made
// without a map of them.
func walk[T any](have, want []T, compare func(a, b *T) int, pair func(have, want *T)) {
	for len(have) > 0 || len(want) > 0 {
		order := 0
		switch {
		case len(have) == 0:
			order = 1
		case len(want) == 0:
			order = -1
		default:
			order = compare(&have[0], &want[0])
		}
		switch {
		case order < 0:
			pair(&have[0], nil)
			have = have[1:]
		case order > 0:
			pair(nil, &want[0])
			want = want[1:]
		default:
			pair(&have[0], &want[0])
			have, want = have[1:], want[1:]
		}
	}
}

// diffService compares the destinations of what is the same service, before and after. A removed service takes its own with it. What differs is
// appended to room.
func diffService(k Key, have, want *Service, room []destinationChange) change {
	c := change{key: k, have: have, want: want, destinations: room}
	if want == nil {
		return c
	}
	var old []Destination
	if have != nil {
		old = have.Destinations
	} else if n := len(want.Destinations); n > 0 {
		c.destinations = make([]destinationChange, 0, n)
	}
	walk(old, want.Destinations, func(a, b *Destination) int { return a.Address.Compare(b.Address) }, func(h, w *Destination) {
		switch {
		case h == nil:
			c.destinations = append(c.destinations, destinationChange{Key: w.Address, Want: w})
		case w == nil || *h != *w:
			c.destinations = append(c.destinations, destinationChange{Key: h.Address, Have: h, Want: w})
		}
	})
	return c
}

// settingsChange reports whether a service stays but is set differently.
func (c *change) settingsChange() bool {
	return c.have != nil && c.want != nil && !sameSettings(c.have, c.want)
}

// Empty reports whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.changes) == 0 }

// Keys returns the services that the plan touches, sorted.
func (p Plan) Keys() []Key {
	keys := make([]Key, len(p.changes))
	for i := range p.changes {
		keys[i] = p.changes[i].key
	}
	return keys
}

// String prints one change a line.
func (p Plan) String() string {
	var lines []plan.Line
	for i := range p.changes {
		c := &p.changes[i]
		object := "service " + c.key.String()
		switch {
		case c.have == nil:
			lines = append(lines, plan.Line{Op: plan.Add, Object: object, Detail: strings.Join(c.want.settings(), " ")})
		case c.want == nil:
			line := plan.Line{Op: plan.Remove, Object: object}
			if n := len(c.have.Destinations); n > 0 {
				line.Detail = fmt.Sprintf("with its destinations, %d", n)
			}
			lines = append(lines, line)
		case c.settingsChange():
			lines = append(lines, plan.Line{Op: plan.Modify, Object: object,
				Detail: strings.Join(c.have.settings(), " ") + " -> " + strings.Join(c.want.settings(), " ")})
		}
		for _, d := range c.destinations {
			line := plan.Line{Op: d.Op(), Object: "destination " + c.key.String() + " " + d.Key.String()}
			detail := func(d *Destination) string { return strings.TrimPrefix(d.String(), d.Address.String()+" ") }
			switch d.Op() {
			case plan.Add:
				line.Detail = detail(d.Want)
			case plan.Modify:
				line.Detail = detail(d.Have) + " -> " + detail(d.Want)
			}
			lines = append(lines, line)
		}
	}
	return plan.Format(lines)
}

// settings are the words for all of a service but its destinations.
func (s *Service) settings() []string {
	words := []string{s.Scheduler.String()}
	for _, f := range []struct {
		set  bool
		word string
	}{{s.HashPort, "hash-port"}, {s.Fallback, "fallback"}, {s.OnePacket, "one-packet"}} {
		if f.set {
			words = append(words, f.word)
		}
	}
	if p := s.Persistence; p.Timeout != 0 {
		words = append(words, "persistent "+p.Timeout.String())
		switch {
		case p.Prefix < 0:
			words = append(words, "by a mask that is no prefix")
		case p.Prefix > 0:
			words = append(words, fmt.Sprintf("by /%d", p.Prefix))
		}
		if p.Engine != "" {
			words = append(words, "by "+p.Engine)
		}
	}
	return words
}

// Change is what Update takes: only what changed.
type Change struct {
	Set  []Service // these services become exactly so, with these destinations
	Drop []Key     // these services go
}

// Apply returns s as it is after the change, canonical.
func (s State) Apply(c Change) State {
	services := make(map[Key]Service, len(s.Services)+len(c.Set))
	for _, v := range s.Services {
		services[v.Key] = v
	}
	for _, k := range c.Drop {
		delete(services, k)
	}
	for _, v := range c.Set {
		services[v.Key] = v
	}
	out := State{Services: make([]Service, 0, len(services))}
	for _, v := range services {
		out.Services = append(out.Services, v)
	}
	return out.Canonical()
}
