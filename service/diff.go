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

	ops []plan.Op // of Set, as Diff found them; nil: all of Set is new
}

// Empty reports whether the Plan changes nothing.
func (p Plan) Empty() bool { return !p.Full && len(p.Set) == 0 && len(p.Drop) == 0 }

// String prints one change a line, sorted by Key: + added, ~ changed, - removed. A Plan that Diff did not make shows all of Set as added.
func (p Plan) String() string {
	type change struct {
		key  Key
		line plan.Line
	}
	changes := make([]change, 0, len(p.Set)+len(p.Drop))
	for i, f := range p.Set {
		op := plan.Add
		if p.ops != nil {
			op = p.ops[i]
		}
		changes = append(changes, change{f.Key, plan.Line{Op: op, Object: f.String()}})
	}
	for _, k := range p.Drop {
		changes = append(changes, change{k, plan.Line{Op: plan.Remove, Object: k.String()}})
	}
	slices.SortStableFunc(changes, func(a, b change) int { return a.key.compare(b.key) })
	lines := make([]plan.Line, len(changes))
	for i, c := range changes {
		lines[i] = c.line
	}
	return plan.Format(lines)
}

// Diff returns the change from have to want, sorted by Key. Each list has every Key at most once.
func Diff(have, want []Frontend) Plan {
	key := func(f *Frontend) Key { return f.Key }
	equal := func(a, b *Frontend) bool { return a.Equal(*b) }
	changes := plan.Diff(have, want, key, Key.compare, equal)
	p := Plan{Set: make([]Frontend, 0, len(changes)), ops: make([]plan.Op, 0, len(changes))}
	for _, c := range changes {
		if c.Want == nil {
			p.Drop = append(p.Drop, c.Key)
			continue
		}
		p.Set = append(p.Set, *c.Want)
		p.ops = append(p.ops, c.Op())
	}
	return p
}

// merge adds to p the Frontends and keys of an earlier change that the backend did not take.
func (p *Plan) merge(set []Frontend, drop []Key) {
	for _, f := range set {
		p.Set = append(p.Set, f)
		p.ops = append(p.ops, plan.Modify)
	}
	p.Drop = append(p.Drop, drop...)
}

// covers reports whether p sets or drops the key.
func (p *Plan) covers(k Key) bool {
	return slices.Contains(p.Drop, k) || slices.ContainsFunc(p.Set, func(f Frontend) bool { return f.Key == k })
}
