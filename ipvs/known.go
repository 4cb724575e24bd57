package ipvs

import "slices"

// memory is what a client last read or wrote: a sorted list, and the services that changed since. It holds ten thousand services without
// a map of them, and one changed service costs a binary search.
type memory struct {
	base     State            // canonical
	complete bool             // base has all services that are owned
	since    map[Key]*Service // nil: gone
	unsure   map[Key]bool     // neither base nor since count
}

// learn replaces everything.
func (m *memory) learn(s State) {
	m.base, m.complete = s, true
	clear(m.since)
	clear(m.unsure)
}

func (m *memory) forgetAll() {
	*m = memory{}
}

// forget says that the kernel contradicted.
func (m *memory) forget(k Key) {
	if m.unsure == nil {
		m.unsure = map[Key]bool{}
	}
	m.unsure[k] = true
	delete(m.since, k)
}

// note remembers one service; nil means that there is none. s must not be changed later.
func (m *memory) note(k Key, s *Service) {
	if m.since == nil {
		m.since = map[Key]*Service{}
	}
	m.since[k] = s
	delete(m.unsure, k)
	if len(m.since) > 64+len(m.base.Services)/4 {
		m.base = m.merged()
		clear(m.since)
	}
}

// lookup returns the service, nil when there is none, and whether that is known at all.
func (m *memory) lookup(k Key) (*Service, bool) {
	if s, ok := m.since[k]; ok {
		return s, true
	}
	if m.unsure[k] {
		return nil, false
	}
	i, found := slices.BinarySearchFunc(m.base.Services, k, func(s Service, k Key) int { return s.Key.Compare(k) })
	if found {
		return &m.base.Services[i], true
	}
	return nil, m.complete
}

// merged is base with what changed since.
func (m *memory) merged() State {
	if len(m.since) == 0 {
		return m.base
	}
	out := make([]Service, 0, len(m.base.Services)+len(m.since))
	for i := range m.base.Services {
		if _, changed := m.since[m.base.Services[i].Key]; !changed {
			out = append(out, m.base.Services[i])
		}
	}
	for _, s := range m.since {
		if s != nil {
			out = append(out, *s)
		}
	}
	slices.SortFunc(out, func(a, b Service) int { return a.Key.Compare(b.Key) })
	if len(out) == 0 {
		return State{}
	}
	return State{Services: out}
}

// agrees reports whether s, canonical, is all that is known.
func (m *memory) agrees(s State) bool {
	return m.complete && len(m.unsure) == 0 && sameState(m.merged(), s)
}

func sameState(a, b State) bool {
	if len(a.Services) != len(b.Services) {
		return false
	}
	for i := range a.Services {
		if !sameService(&a.Services[i], &b.Services[i]) {
			return false
		}
	}
	return true
}
