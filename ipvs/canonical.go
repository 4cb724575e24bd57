package ipvs

import (
	"net/netip"
	"slices"
)

// Canonical returns s as Read returns it: sorted, with the defaults spelled out or left out in one way. Two states that mean the same
// have equal canonical forms.
func (s State) Canonical() State {
	if len(s.Services) == 0 {
		return State{}
	}
	out := make([]Service, len(s.Services))
	for i := range s.Services {
		out[i] = s.Services[i].canonical()
	}
	slices.SortFunc(out, func(a, b Service) int { return a.Key.Compare(b.Key) })
	return State{Services: out}
}

func (s Service) canonical() Service {
	if s.Scheduler == "" {
		s.Scheduler = WeightedLeastConnection
	}
	if s.Persistence.Timeout == 0 {
		s.Persistence = Persistence{}
	}
	if s.Persistence.Prefix == s.family().bits() {
		s.Persistence.Prefix = 0
	}
	byAddress := func(a, b Destination) int { return a.Address.Compare(b.Address) }
	switch {
	case len(s.Destinations) == 0:
		s.Destinations = nil
	case !slices.IsSortedFunc(s.Destinations, byAddress):
		s.Destinations = slices.Clone(s.Destinations)
		slices.SortFunc(s.Destinations, byAddress)
	}
	return s
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

// Contains reports whether the service of k is among those owned.
func (o Owns) Contains(k Key) bool {
	if k.Mark != 0 {
		return slices.ContainsFunc(o.Marks, func(m MarkRange) bool { return m.First <= k.Mark && k.Mark <= m.Last })
	}
	return slices.ContainsFunc(o.Prefixes, func(p netip.Prefix) bool { return p.Contains(k.Address.Addr()) })
}
