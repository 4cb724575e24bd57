package ipvs

import (
	"net/netip"
	"slices"
)

// Canonical returns s as Read returns it: sorted, with the defaults spelled out or left out in one way. Two states that mean the same
// have equal canonical forms. It shares no memory with s.
func (s State) Canonical() State {
	if len(s.Services) == 0 {
		return State{}
	}
	total := 0
	for i := range s.Services {
		total += len(s.Services[i].Destinations)
	}
	out := make([]Service, len(s.Services))
	destinations := make([]Destination, 0, total)
	for i := range s.Services {
		out[i] = s.Services[i]
		destinations = out[i].settle(destinations)
	}
	byKey := func(a, b Service) int { return a.Key.Compare(b.Key) }
	if !slices.IsSortedFunc(out, byKey) {
		slices.SortFunc(out, byKey)
	}
	return State{Services: out}
}

// settle makes s canonical. Its destinations move to the end of room, which it returns.
func (s *Service) settle(room []Destination) []Destination {
	if s.Scheduler == "" {
		s.Scheduler = WeightedLeastConnection
	}
	if s.Persistence.Timeout == 0 {
		s.Persistence = Persistence{}
	}
	if s.Persistence.Prefix == s.family().bits() {
		s.Persistence.Prefix = 0
	}
	start := len(room)
	room = append(room, s.Destinations...)
	s.Destinations = nil
	if start == len(room) {
		return room
	}
	s.Destinations = room[start:len(room):len(room)]
	if !inOrder(s.Destinations) {
		slices.SortFunc(s.Destinations, func(a, b Destination) int { return a.Address.Compare(b.Address) })
	}
	return room
}

// canonical reports whether Canonical would change nothing.
func (s State) canonical() bool {
	for i := range s.Services {
		v := &s.Services[i]
		if v.Scheduler == "" || v.Persistence.Timeout == 0 && v.Persistence != (Persistence{}) || v.Persistence.Prefix == v.family().bits() ||
			!inOrder(v.Destinations) {
			return false
		}
	}
	return ascending(s.Services, func(v *Service) Key { return v.Key }, Key.Compare)
}

// sameSettings compares two canonical services without their destinations.
func sameSettings(a, b *Service) bool {
	return a.Key == b.Key && a.Scheduler == b.Scheduler && a.HashPort == b.HashPort && a.Fallback == b.Fallback &&
		a.OnePacket == b.OnePacket && a.Persistence == b.Persistence
}

// sameService compares two canonical services.
func sameService(a, b *Service) bool {
	return sameSettings(a, b) && slices.Equal(a.Destinations, b.Destinations)
}

// Owns says which services a Client answers for. It reads, changes and removes those only.
type Owns struct {
	Prefixes []netip.Prefix // of service addresses
	Marks    []MarkRange    // of firewall marks, in both families
}

// MarkRange is the marks from First to Last, both included.
type MarkRange struct{ First, Last uint32 }

// Everything owns every service of the namespace.
func Everything() Owns {
	return Owns{
		Prefixes: []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)},
		Marks:    []MarkRange{{1, 1<<32 - 1}},
	}
}

// everything reports whether o leaves nothing to others.
func (o Owns) everything() bool {
	for _, all := range Everything().Prefixes {
		if !slices.ContainsFunc(o.Prefixes, func(p netip.Prefix) bool { return p.Bits() == 0 && p.Addr().Is4() == all.Addr().Is4() }) {
			return false
		}
	}
	return slices.Contains(o.Marks, Everything().Marks[0])
}

// Contains reports whether the service of k is among those owned.
func (o Owns) Contains(k Key) bool {
	if k.Mark != 0 {
		return slices.ContainsFunc(o.Marks, func(m MarkRange) bool { return m.First <= k.Mark && k.Mark <= m.Last })
	}
	return slices.ContainsFunc(o.Prefixes, func(p netip.Prefix) bool { return p.Contains(k.Address.Addr()) })
}
