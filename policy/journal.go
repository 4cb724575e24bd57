package policy

import "github.com/podplumb/podplumb/internal/nft"

// journal remembers how things were before they were first changed. The methods of a nil journal do nothing.
type journal struct {
	sets     map[string]*nft.Set // nil: was not there
	chains   map[string]*chain
	counters map[string]*string
	elements map[*set]map[string]*string
}

func newJournal() *journal {
	return &journal{
		sets: map[string]*nft.Set{}, chains: map[string]*chain{}, counters: map[string]*string{}, elements: map[*set]map[string]*string{},
	}
}

func (j *journal) chain(r *Ruleset, name string) {
	if j == nil {
		return
	}
	if _, ok := j.chains[name]; !ok {
		j.chains[name] = r.chains[name]
	}
}

func (j *journal) set(r *Ruleset, name string) {
	if j == nil {
		return
	}
	if _, ok := j.sets[name]; ok {
		return
	}
	j.sets[name] = nil
	if s, ok := r.sets[name]; ok {
		j.sets[name] = s.def
	}
}

func (j *journal) counter(r *Ruleset, name string) {
	if j == nil {
		return
	}
	if _, ok := j.counters[name]; ok {
		return
	}
	j.counters[name] = nil
	if comment, ok := r.counters[name]; ok {
		j.counters[name] = &comment
	}
}

func (j *journal) element(s *set, key string) {
	if j == nil {
		return
	}
	m := j.elements[s]
	if m == nil {
		m = map[string]*string{}
		j.elements[s] = m
	}
	if _, ok := m[key]; ok {
		return
	}
	m[key] = nil
	if value, ok := s.elements[key]; ok {
		m[key] = &value
	}
}
