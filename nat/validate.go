package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Bounds that Validate enforces.
const (
	// maxName is short of what nft shows of a comment (127 bytes).
	maxName = 120
	// maxWeight bounds a target's weight.
	maxWeight   = 1 << 16
	maxAffinity = 30 * 24 * time.Hour
	maxGrace    = 24 * time.Hour
	// maxSlots bounds the slots of one forward, and so its distinct targets.
	// Weights that do not fit are scaled down.
	maxSlots = 1 << 16
)

// Validate names every fault of s, each with its path.
func (s State) Validate() error {
	var faults faults
	for i, n := range s.Networks {
		at := fmt.Sprintf("networks[%d]", i)
		faults.prefix(at+".prefix", n.Prefix)
		faults.name(at+".name", n.Name)
		faults.pool(at+".to", n)
	}
	for i, p := range s.Exclude {
		faults.prefix(fmt.Sprintf("exclude[%d]", i), p)
	}
	faults.overlap("networks", len(s.Networks), func(i int) netip.Prefix { return s.Networks[i].Prefix },
		func(i, j int) bool {
			a, b := s.Networks[i], s.Networks[j]
			return a.To.canonical() == b.To.canonical() && (a.Name == b.Name || a.Prefix.Bits() != b.Prefix.Bits())
		})
	for i, v := range s.Virtual {
		at := fmt.Sprintf("virtual[%d]", i)
		faults.prefix(at+".prefix", v.Prefix)
		faults.refusal(at+".miss", v.Miss)
	}
	faults.overlap("virtual", len(s.Virtual), func(i int) netip.Prefix { return s.Virtual[i].Prefix },
		func(i, j int) bool { return s.Virtual[i].Miss == s.Virtual[j].Miss })
	faults.localhost("localhost", s.Localhost)
	for i, p := range s.Local {
		at := fmt.Sprintf("local[%d]", i)
		faults.prefix(at, p)
		if p.IsValid() && p.Bits() > 0 && (p.Overlaps(loopback4) || p.Overlaps(loopback6)) {
			faults.add(at, "%s has loopback addresses, which are localhost's", p)
		}
	}
	seen := make(map[Key]int, len(s.Forwards))
	for i := range s.Forwards {
		f := &s.Forwards[i]
		if _, ok := s.localhostOf(f.Addr); f.Addr.IsValid() && f.Addr.IsLoopback() && !ok {
			faults.add(fmt.Sprintf("forwards[%d].addr", i), "%s needs an address in localhost", f.Addr)
		}
		faults.forward(fmt.Sprintf("forwards[%d]", i), f)
		if j, ok := seen[f.Key()]; ok {
			faults.add(fmt.Sprintf("forwards[%d]", i), "%s is forwards[%d] already", f.Key(), j)
		}
		seen[f.Key()] = i
	}
	faults.capture(s)
	return errors.Join(faults...)
}

type faults []error

func (f *faults) add(at, format string, args ...any) {
	*f = append(*f, fmt.Errorf(at+": "+format, args...))
}

func (f *faults) prefix(at string, p netip.Prefix) {
	switch {
	case !p.IsValid():
		f.add(at, "no prefix")
	case p.Addr().Is4In6():
		f.add(at, "%s is an IPv4 address in IPv6 form", p)
	}
}

// overlap finds prefixes inside others of their list that are not alike: only
// one of the two could be kept.
func (f *faults) overlap(list string, n int, prefix func(int) netip.Prefix, alike func(i, j int) bool) {
	order := make([]int, 0, n)
	for i := range n {
		if prefix(i).IsValid() {
			order = append(order, i)
		}
	}
	masked := func(i int) netip.Prefix { return prefix(i).Masked() }
	slices.SortStableFunc(order, func(a, b int) int { return comparePrefix(masked(a), masked(b)) })
	outer := -1
	for _, i := range order {
		if outer >= 0 && masked(outer).Contains(masked(i).Addr()) {
			if !alike(outer, i) {
				f.add(fmt.Sprintf("%s[%d]", list, i), "%s lies inside %s[%d] %s and differs from it", masked(i), list, outer, masked(outer))
			}
			continue
		}
		outer = i
	}
}

func (f *faults) name(at, name string) {
	if len(name) > maxName {
		f.add(at, "%d bytes, at most %d", len(name), maxName)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		f.add(at, "%q has a character that is not printable ASCII, or a quote", name)
	}
}

func (f *faults) refusal(at string, r Refusal) {
	if r > Drop {
		f.add(at, "unknown %s", r)
	}
}

func (f *faults) address(at string, a netip.Addr) bool {
	switch {
	case !a.IsValid():
		f.add(at, "no address")
	case a.Zone() != "":
		f.add(at, "%s has a zone", a)
	case a.Is4In6():
		f.add(at, "%s is an IPv4 address in IPv6 form", a)
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		f.add(at, "%s is not a unicast address", a)
	default:
		return true
	}
	return false
}

func (f *faults) source(at string, p netip.Prefix, forward netip.Addr) {
	f.prefix(at, p)
	if p.IsValid() && forward.IsValid() && p.Addr().Is4() != forward.Is4() {
		f.add(at, "%s is not of the family of %s", p, forward)
	}
}

// targets checks targets of a forward with an address, when that is valid.
func (f *faults) targets(at string, list []Target, forward netip.Addr) {
	if len(list) > maxSlots {
		f.add(at, "%d targets, at most %d", len(list), maxSlots)
	}
	for i, t := range list {
		at := fmt.Sprintf("%s[%d]", at, i)
		if f.address(at+".addr", t.Addr) && forward.IsValid() && t.Addr.Is4() != forward.Is4() {
			f.add(at+".addr", "%s is not of the family of %s", t.Addr, forward)
		}
		if t.Port == 0 {
			f.add(at+".port", "zero")
		}
		if t.Weight < 0 || t.Weight > maxWeight {
			f.add(at+".weight", "%d is not between 0 and %d", t.Weight, maxWeight)
		}
	}
}

func (f *faults) forward(at string, w *Forward) {
	ok := true
	if !w.Addr.IsValid() || !w.Addr.IsUnspecified() {
		ok = f.address(at+".addr", w.Addr)
	}
	if w.Port == 0 {
		f.add(at+".port", "zero")
	}
	if w.Proto != TCP && w.Proto != UDP && w.Proto != SCTP {
		f.add(at+".proto", "unknown %s", w.Proto)
	}
	f.name(at+".name", w.Name)
	f.refusal(at+".empty", w.Empty)
	if w.Algorithm > RoundRobin {
		f.add(at+".algorithm", "unknown %s", w.Algorithm)
	}
	if w.Drain > DrainLater {
		f.add(at+".drain", "unknown %s", w.Drain)
	}
	switch {
	case w.Drain == DrainLater && (w.Grace <= 0 || w.Grace > maxGrace || w.Grace%time.Second != 0):
		f.add(at+".grace", "%s is not whole seconds up to %s", w.Grace, maxGrace)
	case w.Drain != DrainLater && w.Grace != 0:
		f.add(at+".grace", "%s means nothing with drain %s", w.Grace, w.Drain)
	}
	if w.Masquerade > MasqueradeHost {
		f.add(at+".masquerade", "unknown %s", w.Masquerade)
	}
	switch {
	case !w.Elsewhere:
	case w.Addr.IsValid() && w.Addr.IsUnspecified():
		f.add(at+".elsewhere", "a node port cannot be left to others")
	case w.Affinity != 0 || w.Algorithm != Random:
		f.add(at+".elsewhere", "algorithm and affinity are for who leads the connections")
	case len(w.Near) > 0:
		f.add(at+".elsewhere", "near targets are for who leads the connections")
	}
	if w.Affinity < 0 || w.Affinity > maxAffinity || w.Affinity%time.Second != 0 {
		f.add(at+".affinity", "%s is not whole seconds up to %s", w.Affinity, maxAffinity)
	}
	for i, p := range w.Allow {
		f.source(fmt.Sprintf("%s.allow[%d]", at, i), p, w.Addr)
	}
	for i, p := range w.Deny {
		f.source(fmt.Sprintf("%s.deny[%d]", at, i), p, w.Addr)
	}
	same := netip.Addr{}
	if ok {
		same = w.Addr
	}
	f.targets(at+".to", w.To, same)
	f.targets(at+".near", w.Near, same)
}
