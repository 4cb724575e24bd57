package service

import (
	"slices"

	"github.com/podplumb/podplumb/internal/plan"
)

// Plan is a change of Frontends, for a Backend to apply and for people to read.
type Plan struct {
	Full bool       // Set is everything that shall be: the backend removes what else it has, and Drop is empty
	Set  []Frontend // to add, or to put in the place of the one with the same Key
	Drop []Key      // to remove

	lines []plan.Line
}

// Empty reports whether the Plan changes nothing.
func (p Plan) Empty() bool { return !p.Full && len(p.Set) == 0 && len(p.Drop) == 0 }

// String prints one change a line: + added, ~ changed, - removed. A Plan that Diff did not make shows all of Set as added.
func (p Plan) String() string {
	lines := p.lines
	if lines == nil {
		for _, f := range p.Set {
			lines = append(lines, plan.Line{Op: plan.Add, Object: f.String()})
		}
		for _, k := range p.Drop {
			lines = append(lines, plan.Line{Op: plan.Remove, Object: k.String()})
		}
	}
	return plan.Format(lines)
}

// Diff returns the change from have to want, sorted by Key. Each list has every Key at most once.
func Diff(have, want []Frontend) Plan {
	key := func(f *Frontend) Key { return f.Key }
	equal := func(a, b *Frontend) bool { return a.Equal(*b) }
	p := Plan{lines: []plan.Line{}}
	for _, c := range plan.Diff(have, want, key, Key.compare, equal) {
		line := plan.Line{Op: c.Op(), Object: c.Key.String()}
		if c.Want == nil {
			p.Drop = append(p.Drop, c.Key)
		} else {
			p.Set = append(p.Set, *c.Want)
			line.Object = c.Want.String()
		}
		p.lines = append(p.lines, line)
	}
	return p
}

// merge adds to p the Frontends and keys of a later retry, without those that p already speaks of.
func (p *Plan) merge(set []Frontend, drop []Key) {
	for _, f := range set {
		p.Set = append(p.Set, f)
		p.lines = append(p.lines, plan.Line{Op: plan.Modify, Object: f.String()})
	}
	for _, k := range drop {
		p.Drop = append(p.Drop, k)
		p.lines = append(p.lines, plan.Line{Op: plan.Remove, Object: k.String()})
	}
}

// covers reports whether p sets or drops the key.
func (p *Plan) covers(k Key) bool {
	return slices.Contains(p.Drop, k) || slices.ContainsFunc(p.Set, func(f Frontend) bool { return f.Key == k })
}
