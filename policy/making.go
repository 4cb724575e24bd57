package policy

// making is what the clauses of many policies are made with: memory that each uses after the other, and sets that several name.
type making struct {
	cfg    *Config
	peers  [families]map[string]*wantSet // by identity, of one change
	fixed  map[fixedSet]*wantSet         // those whose names do not depend on the State
	rules  []blockRule
	depth  map[portRange]int
	seen   map[string]struct{}
	text   []byte
	keys   []byte
	sealed []byte
}

// fixedSet finds a set by what makes it, for its family and number.
type fixedSet struct {
	kind string
	f, n int
}

func newMaking(c *Config) *making {
	m := &making{cfg: c, fixed: map[fixedSet]*wantSet{}, depth: map[portRange]int{}, seen: map[string]struct{}{}}
	m.forget()
	return m
}

// forget lets go of what depends on the State.
func (m *making) forget() {
	for f := range m.peers {
		m.peers[f] = map[string]*wantSet{}
	}
}

// set returns the set that a function makes, the same each time.
func (m *making) set(kind string, f, n int, build func() *wantSet) *wantSet {
	key := fixedSet{kind, f, n}
	s := m.fixed[key]
	if s == nil {
		s = build()
		m.fixed[key] = s
	}
	return s
}

// seal gives rules their digests.
func (m *making) seal(list []clause) {
	for i := range list {
		rules := list[i].rules
		for j := range rules {
			rules[j], m.sealed = rules[j].Sealed(m.sealed)
		}
	}
}
