package policy

import (
	"cmp"
	"net/netip"
	"slices"
)

// networks makes a class of every known prefix without the known prefixes inside it, and one of all that is in none.
func (c *comparison) networks(family int, taken map[netip.Addr]bool) (out []*class) {
	var known []netip.Prefix
	everything := netip.PrefixFrom([2]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}[family], 0)
	known = append(known, everything)
	for p := range c.words.prefixes {
		if familyIndex(p.Addr()) == family && p.Bits() > 0 {
			known = append(known, p)
		}
	}
	slices.SortFunc(known, comparePrefix)
	made := map[netip.Prefix]*Network{}
	for i, p := range slices.Backward(known) { // what is inside comes first
		n := &Network{Prefix: p}
		for _, inner := range known[i+1:] { // sorted: those inside p follow it
			if !p.Contains(inner.Addr()) {
				break
			}
			if last := len(n.Except) - 1; last < 0 || !n.Except[last].Contains(inner.Addr()) {
				n.Except = append(n.Except, inner)
			}
		}
		made[p] = n
		if a, ok := n.vacant(taken); ok {
			out = append(out, &class{network: n, addr: a})
		} else {
			n.Prefix = netip.Prefix{} // has nothing of its own
		}
	}
	slices.Reverse(out)
	for _, cl := range slices.Backward(out) {
		cl.network.Except = ownNetworks(cl.network.Except, made)
	}
	return out
}

// ownNetworks replaces networks that have nothing of their own by those inside them.
func ownNetworks(list []netip.Prefix, made map[netip.Prefix]*Network) (out []netip.Prefix) {
	for _, p := range list {
		if n := made[p]; n.Prefix.IsValid() {
			out = append(out, p)
		} else {
			out = append(out, ownNetworks(n.Except, made)...)
		}
	}
	return out
}

// joinNetworks takes networks together that are inside one another.
func joinNetworks(list []Network) []Network {
	slices.SortFunc(list, func(a, b Network) int { return comparePrefix(a.Prefix, b.Prefix) })
	for i := len(list) - 1; i >= 0; i-- {
		inner := list[i]
		for j := range list[:i] {
			at := slices.Index(list[j].Except, inner.Prefix)
			if at < 0 {
				continue
			}
			except := slices.Concat(list[j].Except[:at], inner.Except, list[j].Except[at+1:])
			slices.SortFunc(except, comparePrefix)
			list[j].Except = except
			list = slices.Delete(list, i, i+1)
			break
		}
	}
	return list
}

// vacant finds an address of the network that nobody has.
func (n *Network) vacant(taken map[netip.Addr]bool) (netip.Addr, bool) {
	a := n.Prefix.Addr()
	if n.Prefix.Bits() < a.BitLen()-1 {
		a = a.Next() // not the network's own
	}
	for n.Prefix.Contains(a) {
		i := slices.IndexFunc(n.Except, func(p netip.Prefix) bool { return p.Contains(a) })
		switch {
		case i >= 0:
			a = lastOf(n.Except[i]).Next()
		case taken[a]:
			a = a.Next()
		default:
			return a, true
		}
	}
	return a, false
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// comparePrefix orders by address, and what holds another before it.
func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
