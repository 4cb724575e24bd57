package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/plan"
)

// Plan is what makes one Ruleset another.
type Plan struct {
	table    plan.Op // the table itself is added or removed; zero is neither
	name     string
	counters []plan.Change[string, string] // values are comments
	sets     []plan.Change[string, nft.Set]
	chains   []plan.Change[string, chain]
	elements []elementChanges

	world *world // that the outcome is what it compiles to; nil when made by Diff
	anew  bool   // the table is of another version, and is replaced
}

// elementChanges are of one set that is there before and after, or that is new.
type elementChanges struct {
	set     *set
	changes []plan.Change[string, string]
}

// Empty reports whether there is nothing to do.
func (p Plan) Empty() bool {
	return p.table == 0 && len(p.counters) == 0 && len(p.sets) == 0 && len(p.chains) == 0 && len(p.elements) == 0
}

// String prints one change a line.
func (p Plan) String() string {
	var lines []plan.Line
	if p.table != 0 {
		lines = append(lines, plan.Line{Op: p.table, Object: "table " + p.name})
	}
	for _, c := range p.counters {
		lines = append(lines, plan.Line{Op: c.Op(), Object: "counter " + c.Key})
	}
	for _, c := range p.sets {
		lines = append(lines, plan.Line{Op: c.Op(), Object: "set " + c.Key})
	}
	for _, c := range p.chains {
		lines = append(lines, plan.Line{Op: c.Op(), Object: "chain " + c.Key})
	}
	for _, s := range p.elements {
		for _, c := range slices.SortedFunc(slices.Values(s.changes), byKey) {
			value := c.Want
			if value == nil {
				value = c.Have
			}
			e := s.set.element(c.Key, *value)
			lines = append(lines, plan.Line{Op: c.Op(), Object: s.set.def.Name + " " + s.set.def.Format(&e, c.Want != nil)})
		}
	}
	return plan.Format(lines)
}

// Diff returns what makes have into want.
func Diff(have, want Ruleset) Plan {
	p := Plan{name: want.table}
	switch {
	case have.Empty() && !want.Empty():
		p.table = plan.Add
	case !have.Empty() && want.Empty():
		p.table, p.name = plan.Remove, have.table
	}
	p.counters = changes(have.counters, want.counters)
	slices.SortFunc(p.counters, byKey)
	p.chains = changed(have.chains, want.chains, (*chain).equal)
	p.sets = changed(definitions(have.sets), definitions(want.sets), func(a, b *nft.Set) bool { return a.String() == b.String() })
	for _, name := range slices.Sorted(maps.Keys(want.sets)) {
		before := map[string]string{}
		if h := have.sets[name]; h != nil && h.def.String() == want.sets[name].def.String() {
			before = h.elements
		}
		list := changes(before, want.sets[name].elements)
		if want.sets[name].def.Interval {
			slices.SortFunc(list, byKey) // an end belongs to the beginning before it
		}
		if len(list) > 0 {
			p.elements = append(p.elements, elementChanges{want.sets[name], list})
		}
	}
	return p
}

// plan returns what the journal of r saw changed.
func (r *Ruleset) plan(j *journal, wasEmpty bool) Plan {
	p := Plan{name: r.table}
	switch {
	case wasEmpty && !r.Empty():
		p.table = plan.Add
	case !wasEmpty && r.Empty():
		p.table = plan.Remove
	}
	for name, have := range j.counters {
		var want *string
		if text, ok := r.counters[name]; ok {
			want = &text
		}
		if have == nil != (want == nil) || have != nil && *have != *want {
			p.counters = append(p.counters, plan.Change[string, string]{Key: name, Have: have, Want: want})
		}
	}
	for name, have := range j.chains {
		want := r.chains[name]
		if have == nil != (want == nil) || have != nil && !have.equal(want) {
			p.chains = append(p.chains, plan.Change[string, chain]{Key: name, Have: have, Want: want})
		}
	}
	for name, have := range j.sets {
		var want *nft.Set
		if s := r.sets[name]; s != nil {
			want = s.def
		}
		if have == nil != (want == nil) {
			p.sets = append(p.sets, plan.Change[string, nft.Set]{Key: name, Have: have, Want: want})
		}
	}
	for s, touched := range j.elements {
		if r.sets[s.def.Name] != s {
			continue // goes with its elements
		}
		e := elementChanges{set: s}
		for key, have := range touched {
			var want *string
			if value, ok := s.elements[key]; ok {
				want = &value
			}
			if have == nil != (want == nil) || have != nil && *have != *want {
				e.changes = append(e.changes, plan.Change[string, string]{Key: key, Have: have, Want: want})
			}
		}
		if len(e.changes) > 0 {
			slices.SortFunc(e.changes, byKey)
			p.elements = append(p.elements, e)
		}
	}
	slices.SortFunc(p.counters, byKey[string])
	slices.SortFunc(p.chains, byKey[chain])
	slices.SortFunc(p.sets, byKey[nft.Set])
	slices.SortFunc(p.elements, func(a, b elementChanges) int { return strings.Compare(a.set.def.Name, b.set.def.Name) })
	return p
}

func byKey[T any](a, b plan.Change[string, T]) int { return strings.Compare(a.Key, b.Key) }

// changes is plan.Diff for maps, in any order.
func changes(have, want map[string]string) []plan.Change[string, string] {
	list := make([]plan.Change[string, string], 0, max(0, len(want)-len(have)))
	values := make([]string, 0, cap(list)) // one piece of memory for most
	for key, w := range want {
		h, ok := have[key]
		if ok && h == w {
			continue
		}
		values = append(values, w)
		c := plan.Change[string, string]{Key: key, Want: &values[len(values)-1]}
		if ok {
			c.Have = &h
		}
		list = append(list, c)
	}
	for key, h := range have {
		if _, ok := want[key]; !ok {
			list = append(list, plan.Change[string, string]{Key: key, Have: &h})
		}
	}
	return list
}

// changed does it for what is not copied.
func changed[T any](have, want map[string]*T, equal func(a, b *T) bool) []plan.Change[string, T] {
	var list []plan.Change[string, T]
	for key, w := range want {
		if h := have[key]; h == nil || !equal(h, w) {
			list = append(list, plan.Change[string, T]{Key: key, Have: h, Want: w})
		}
	}
	for key, h := range have {
		if want[key] == nil {
			list = append(list, plan.Change[string, T]{Key: key, Have: h})
		}
	}
	slices.SortFunc(list, byKey[T])
	return list
}

func definitions(m map[string]*set) map[string]*nft.Set {
	out := make(map[string]*nft.Set, len(m))
	for k, v := range m {
		out[k] = v.def
	}
	return out
}
