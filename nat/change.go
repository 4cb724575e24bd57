package nat

import (
	"slices"

	"github.com/podplumb/podplumb/internal/plan"
)

// changes turns a Change into a Plan. It looks only at the named forwards.
func (w *world) changes(c Change) Plan {
	var p Plan
	for _, f := range c.Set {
		f = f.canonical()
		ch := plan.Change[Key, Forward]{Key: f.Key(), Want: &f}
		if have, ok := w.forwards[f.Key()]; ok {
			if have.Forward.equal(&f) {
				continue
			}
			old := have.Forward
			ch.Have = &old
		}
		p.forwards = append(p.forwards, ch)
	}
	for _, k := range c.Drop {
		if have, ok := w.forwards[k]; ok {
			old := have.Forward
			p.forwards = append(p.forwards, plan.Change[Key, Forward]{Key: k, Have: &old})
		}
	}
	slices.SortFunc(p.forwards, func(a, b plan.Change[Key, Forward]) int { return a.Key.compare(b.Key) })
	return p
}

// with returns s after the change.
func (s State) with(c Change) State {
	gone := make(map[Key]bool, len(c.Set)+len(c.Drop))
	for _, k := range c.Drop {
		gone[k] = true
	}
	for _, f := range c.Set {
		gone[f.Key()] = true
	}
	s.Forwards = slices.DeleteFunc(slices.Clone(s.Forwards), func(f Forward) bool { return gone[f.Key()] })
	s.Forwards = append(s.Forwards, c.Set...)
	return s
}
