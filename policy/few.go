package policy

// few is a set of which most have one member.
type few[T comparable] struct {
	one   T
	there bool           // one is a member
	all   map[T]struct{} // instead of one, once there were two
}

func (s *few[T]) add(v T) {
	switch {
	case s.all != nil:
		s.all[v] = struct{}{}
	case !s.there:
		s.one, s.there = v, true
	case s.one != v:
		*s = few[T]{all: map[T]struct{}{s.one: {}, v: {}}}
	}
}

func (s *few[T]) drop(v T) {
	if s.all != nil {
		delete(s.all, v)
	} else if s.there && s.one == v {
		*s = few[T]{}
	}
}

func (s few[T]) len() int {
	if s.there {
		return 1
	}
	return len(s.all)
}

func (s few[T]) each(f func(T)) {
	if s.there {
		f(s.one)
		return
	}
	for v := range s.all {
		f(v)
	}
}

// link and unlink keep a set for each key that has members.
func link[K, V comparable](m map[K]few[V], k K, v V) {
	s := m[k]
	s.add(v)
	m[k] = s
}

func unlink[K, V comparable](m map[K]few[V], k K, v V) {
	s := m[k]
	if s.drop(v); s.len() == 0 {
		delete(m, k)
		return
	}
	m[k] = s
}
