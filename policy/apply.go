package policy

import (
	"maps"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/plan"
)

// fits says that what the plan changes is in have as the plan saw it.
func (p *Plan) fits(have *Ruleset) bool {
	if p.table == plan.Add && !have.Empty() || p.table == plan.Remove && have.Empty() {
		return false
	}
	for _, c := range p.counters {
		text, ok := have.counters[c.Key]
		if ok != (c.Have != nil) || ok && text != *c.Have {
			return false
		}
	}
	for _, c := range p.sets {
		s := have.sets[c.Key]
		if (s == nil) != (c.Have == nil) || s != nil && s.def.String() != c.Have.String() {
			return false
		}
	}
	for _, c := range p.chains {
		h := have.chains[c.Key]
		if (h == nil) != (c.Have == nil) || h != nil && !h.equal(c.Have) {
			return false
		}
	}
	if p.table == plan.Remove {
		return len(p.chains) == len(have.chains) && len(p.sets) == len(have.sets)
	}
	fresh := p.newSets()
	for _, e := range p.elements {
		name := e.set.def.Name
		s := have.sets[name]
		if fresh[name] {
			continue
		}
		if s == nil {
			return false
		}
		for _, c := range e.changes {
			value, ok := s.elements[c.Key]
			if ok != (c.Have != nil) || ok && value != *c.Have {
				return false
			}
		}
	}
	return true
}

// newSets names the sets that the plan makes.
func (p *Plan) newSets() map[string]bool {
	fresh := map[string]bool{}
	for _, c := range p.sets {
		if c.Want != nil {
			fresh[c.Key] = true
		}
	}
	return fresh
}

// applied returns have after the plan. Sets that stay as they are are shared with have.
func (p *Plan) applied(have *Ruleset) Ruleset {
	r := Ruleset{table: have.table, sets: maps.Clone(have.sets), chains: maps.Clone(have.chains), counters: maps.Clone(have.counters)}
	if p.anew {
		r = *newRuleset(have.table)
	}
	put(r.counters, p.counters)
	for _, c := range p.chains {
		if c.Want == nil {
			delete(r.chains, c.Key)
		} else {
			r.chains[c.Key] = c.Want
		}
	}
	for _, c := range p.sets {
		if c.Want == nil {
			delete(r.sets, c.Key)
		} else {
			r.sets[c.Key] = &set{def: c.Want, elements: map[string]string{}}
		}
	}
	for _, e := range p.elements {
		name := e.set.def.Name
		elements := maps.Clone(r.sets[name].elements)
		put(elements, e.changes)
		r.sets[name] = &set{def: e.set.def, elements: elements}
	}
	return r
}

func put(m map[string]string, list []plan.Change[string, string]) {
	for _, c := range list {
		if c.Want == nil {
			delete(m, c.Key)
		} else {
			m[c.Key] = *c.Want
		}
	}
}

// nftChain is the chain as the kernel is told.
func nftChain(name string, c *chain) *nft.Chain {
	return &nft.Chain{Name: name, Hook: c.hook, Rules: c.rules}
}
