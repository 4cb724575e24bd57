package nat

import (
	"hash/fnv"
	"net/netip"
)

// maglevSize is the number of slots for a number of targets. It is a power of
// two, so that every odd step walks through all slots.
func maglevSize(targets int) int {
	switch {
	case targets <= 64:
		return 1 << 10
	case targets <= 1024:
		return 1 << 14
	}
	return 1 << 16
}

// maglev fills the slots: each target has its own order of preference, drawn
// from nothing but its address and port, and they take turns, as often as
// their weights say, to take the next free slot of their order. targets are
// canonical.
func maglev(targets []Target) []netip.AddrPort {
	if len(targets) == 0 {
		return nil
	}
	size := maglevSize(len(targets))
	type walker struct {
		at        netip.AddrPort
		next      int
		step      int
		weight    int
		allowance int
	}
	heaviest := 1
	walkers := make([]walker, len(targets))
	for i, t := range targets {
		at := netip.AddrPortFrom(t.Addr, t.Port)
		h := preference(at)
		walkers[i] = walker{at: at, next: int(uint32(h)) % size, step: int(h>>32)%size | 1, weight: t.Weight}
		heaviest = max(heaviest, t.Weight)
	}
	slots := make([]netip.AddrPort, size)
	for free := size; free > 0; {
		for i := range walkers {
			w := &walkers[i]
			if w.allowance += w.weight; w.allowance < heaviest {
				continue
			}
			w.allowance -= heaviest
			for slots[w.next].IsValid() {
				w.next = (w.next + w.step) % size
			}
			slots[w.next] = w.at
			if free--; free == 0 {
				break
			}
		}
	}
	return slots
}

// preference hashes an address and port, the same on every host.
func preference(at netip.AddrPort) uint64 {
	h := fnv.New64a()
	b, _ := at.MarshalBinary() // never fails
	h.Write(b)
	// FNV's high bits hardly depend on the last bytes: mix (splitmix64).
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
