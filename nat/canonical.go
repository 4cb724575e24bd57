package nat

import (
	"net/netip"
	"slices"
)

// canonical returns the one form of all States that mean the same: sorted,
// prefixes masked and not inside one another, targets merged, weights
// without a common factor. s must be valid; it is not changed.
func (s State) canonical() State {
	c := State{
		Networks: widest(s.Networks, func(n *Network) *netip.Prefix { return &n.Prefix }),
		Exclude:  widest(s.Exclude, func(p *netip.Prefix) *netip.Prefix { return p }),
		Virtual:  widest(s.Virtual, func(v *Virtual) *netip.Prefix { return &v.Prefix }),
		Local:    widest(s.Local, func(p *netip.Prefix) *netip.Prefix { return p }),
	}
	// Everything is what a family without a range means.
	c.Local = slices.DeleteFunc(c.Local, func(p netip.Prefix) bool { return p.Bits() == 0 })
	if len(c.Local) == 0 {
		c.Local = nil
	}
	for i := range c.Networks {
		c.Networks[i].To = c.Networks[i].To.canonical()
	}
	c.Redirects, c.Capture = sortedRedirects(s.Redirects), s.Capture.canonical()
	c.Localhost = slices.Clone(s.Localhost)
	slices.SortFunc(c.Localhost, netip.Addr.Compare)
	if len(c.Localhost) == 0 {
		c.Localhost = nil
	}
	if len(s.Forwards) > 0 {
		c.Forwards = make([]Forward, len(s.Forwards))
		for i, f := range s.Forwards {
			c.Forwards[i] = f.canonical()
		}
		slices.SortFunc(c.Forwards, func(a, b Forward) int { return a.Key().compare(b.Key()) })
	}
	return c
}

// widest returns the values sorted by masked prefix, without those that lie
// inside another's prefix.
func widest[T any](list []T, prefix func(*T) *netip.Prefix) []T {
	if len(list) == 0 {
		return nil
	}
	out := slices.Clone(list)
	for i := range out {
		p := prefix(&out[i])
		*p = p.Masked()
	}
	slices.SortFunc(out, func(a, b T) int { return comparePrefix(*prefix(&a), *prefix(&b)) })
	kept := out[:1]
	for _, v := range out[1:] {
		if !prefix(&kept[len(kept)-1]).Contains(prefix(&v).Addr()) {
			kept = append(kept, v)
		}
	}
	return kept
}

func (f Forward) canonical() Forward {
	f.To, f.Near = canonicalTargets(f.To), canonicalTargets(f.Near)
	f.Allow = widest(f.Allow, func(p *netip.Prefix) *netip.Prefix { return p })
	f.Deny = widest(f.Deny, func(p *netip.Prefix) *netip.Prefix { return p })
	return f
}

func canonicalTargets(list []Target) []Target {
	if len(list) == 0 {
		return nil
	}
	out := make([]Target, len(list))
	for i, t := range list {
		t.Weight = max(t.Weight, 1)
		out[i] = t
	}
	slices.SortFunc(out, func(a, b Target) int {
		return netip.AddrPortFrom(a.Addr, a.Port).Compare(netip.AddrPortFrom(b.Addr, b.Port))
	})
	merged := out[:1]
	for _, t := range out[1:] {
		if last := &merged[len(merged)-1]; last.Addr == t.Addr && last.Port == t.Port {
			last.Weight += t.Weight
			continue
		}
		merged = append(merged, t)
	}
	reduce(merged)
	return merged
}

// fineSlots is how many slots unequal weights may take at least.
const fineSlots = 4096

// reduce divides the weights by their common factor. Where they then add up
// to more slots than fineSlots and four times the targets, it scales them
// down, none below one.
func reduce(targets []Target) {
	divide(targets)
	total := 0
	for _, t := range targets {
		total += t.Weight
	}
	limit := min(max(fineSlots, 4*len(targets)), maxSlots)
	if total <= limit {
		return
	}
	// Every target keeps one slot; the rest is shared out by weight.
	spare := limit - len(targets)
	for i := range targets {
		targets[i].Weight = 1 + int(int64(targets[i].Weight)*int64(spare)/int64(total))
	}
	divide(targets)
}

func divide(targets []Target) {
	factor := 0
	for _, t := range targets {
		for a, b := factor, t.Weight; ; a, b = b, a%b {
			if b == 0 {
				factor = a
				break
			}
		}
	}
	for i := range targets {
		targets[i].Weight /= factor
	}
}
