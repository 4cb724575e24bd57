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
	destinations []plan.Change[netip.AddrPort, Destination]
}

// Diff returns the plan that makes want of have: empty when they mean the same.
func Diff(have, want State) Plan {
	return diffCanonical(have.Canonical(), want.Canonical())
}

func diffCanonical(have, want State) Plan {
	key := func(s *Service) Key { return s.Key }
	var p Plan
	for _, c := range plan.Diff(have.Services, want.Services, key, Key.Compare, sameService) {
		p.changes = append(p.changes, diffService(c.Key, c.Have, c.Want))
	}
	return p
}

// diffService compares the destinations of what is the same service, before and after. A removed service takes its own with it.
func diffService(k Key, have, want *Service) change {
	c := change{key: k, have: have, want: want}
	if want == nil {
		return c
	}
	var old []Destination
	if have != nil {
		old = have.Destinations
	}
	c.destinations = plan.Diff(old, want.Destinations, func(d *Destination) netip.AddrPort { return d.Address }, netip.AddrPort.Compare,
		func(a, b *Destination) bool { return *a == *b })
	return c
}

// settingsChange reports whether a service stays but is set differently.
func (c *change) settingsChange() bool {
	return c.have != nil && c.want != nil && !sameSettings(c.have, c.want)
}

// operations counts the requests that the change takes.
func (c *change) operations() int {
	if c.have == nil || c.want == nil || c.settingsChange() {
		return 1 + len(c.destinations)
	}
	return len(c.destinations)
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
		if p.Prefix != 0 {
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
