package policy

import "hash/fnv"

// slots gives names numbers from 1 to size. Which number a name has depends only on the names that are there, not on the order in which
// they came: a name takes the first slot from its own on that no lesser name has.
type slots struct {
	size uint32
	at   map[uint32]string
	of   map[string]uint32

	changed map[uint32]struct{} // numbers that have, or may have, another name since this was last emptied
	moved   map[string]struct{} // names that may have another number
}

func newSlots(size uint32) *slots {
	return &slots{size: size, at: map[uint32]string{}, of: map[string]uint32{}, changed: map[uint32]struct{}{}, moved: map[string]struct{}{}}
}

func (s *slots) home(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()%s.size + 1
}

func (s *slots) next(n uint32) uint32 { return n%s.size + 1 }

// add gives a name a number. It fails when all are taken.
func (s *slots) add(name string) bool {
	if uint32(len(s.of)) >= s.size {
		return false
	}
	for n := s.home(name); ; n = s.next(n) {
		have, taken := s.at[n]
		if taken && have < name {
			continue
		}
		s.at[n], s.of[name] = name, n
		s.changed[n], s.moved[name] = struct{}{}, struct{}{}
		if !taken {
			return true
		}
		name = have
	}
}

// drop frees a name's number.
func (s *slots) drop(name string) {
	free := func(n uint32) {
		delete(s.of, s.at[n])
		delete(s.at, n)
		s.changed[n] = struct{}{}
	}
	n := s.of[name]
	free(n)
	var run []string
	for n = s.next(n); s.at[n] != ""; n = s.next(n) {
		run = append(run, s.at[n])
		free(n)
	}
	for _, name := range run {
		s.add(name)
	}
	delete(s.moved, name)
}

// settled forgets what changed.
func (s *slots) settled() {
	clear(s.changed)
	clear(s.moved)
}
