package netns

import (
	"net/netip"
	"slices"
)

// policy is the default policy table of RFC 6724, 2.1, the longest prefixes first.
var policy = []struct {
	prefix            netip.Prefix
	precedence, label uint8
}{
	{netip.MustParsePrefix("::1/128"), 50, 0},
	{netip.MustParsePrefix("::ffff:0:0/96"), 35, 4},
	{netip.MustParsePrefix("::/96"), 1, 3},
	{netip.MustParsePrefix("2001::/32"), 5, 5},
	{netip.MustParsePrefix("2002::/16"), 30, 2},
	{netip.MustParsePrefix("3ffe::/16"), 1, 12},
	{netip.MustParsePrefix("fec0::/10"), 1, 11},
	{netip.MustParsePrefix("fc00::/7"), 3, 13},
	{netip.MustParsePrefix("::/0"), 40, 1},
}

func classify(a netip.Addr) (precedence, label uint8) {
	a16 := netip.AddrFrom16(a.As16())
	for _, p := range policy {
		// A prefix of IPv4-mapped form does not contain the address it maps.
		if p.prefix.Bits() == 96 && p.prefix.Addr().Is4In6() {
			if a16.Is4In6() {
				return p.precedence, p.label
			}
			continue
		}
		if p.prefix.Contains(a16) {
			return p.precedence, p.label
		}
	}
	return 0, 0
}

// scope returns the scope of RFC 6724, 3.1, as the value of RFC 4291, 2.7.
func scope(a netip.Addr) uint8 {
	switch {
	case a.IsLoopback(), a.IsLinkLocalUnicast():
		return 0x2
	case a.Is6() && a.IsMulticast():
		return a.As16()[1] & 0xf
	case a.Is6() && netip.MustParsePrefix("fec0::/10").Contains(a):
		return 0x5
	}
	return 0xe
}

// sortDestinations sorts addrs by the rules of RFC 6724, 6, that can be told from the
// source that the kernel would use for each (invalid when it cannot be reached): 1, 2,
// 5, 6, 8 and 9 for IPv6, then the order that the name server gave.
func sortDestinations(addrs, sources []netip.Addr) {
	type candidate struct{ dst, src netip.Addr }
	all := make([]candidate, len(addrs))
	for i := range addrs {
		all[i] = candidate{addrs[i], sources[i]}
	}
	slices.SortStableFunc(all, func(a, b candidate) int {
		if c := preferTrue(a.src.IsValid(), b.src.IsValid()); c != 0 || !a.src.IsValid() {
			return c
		}
		if c := preferTrue(scope(a.dst) == scope(a.src), scope(b.dst) == scope(b.src)); c != 0 {
			return c
		}
		precA, labelA := classify(a.dst)
		precB, labelB := classify(b.dst)
		_, srcA := classify(a.src)
		_, srcB := classify(b.src)
		if c := preferTrue(labelA == srcA, labelB == srcB); c != 0 {
			return c
		}
		if precA != precB {
			return int(precB) - int(precA)
		}
		if c := int(scope(a.dst)) - int(scope(b.dst)); c != 0 {
			return c
		}
		if a.dst.Is6() && b.dst.Is6() {
			return commonBits(b.src, b.dst) - commonBits(a.src, a.dst)
		}
		return 0
	})
	for i, c := range all {
		addrs[i] = c.dst
	}
}

func preferTrue(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// commonBits counts the leading bits that two IPv6 addresses share, up to the 64 of
// the network.
func commonBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	for i := range 64 {
		if (x[i/8]^y[i/8])>>(7-i%8)&1 != 0 {
			return i
		}
	}
	return 64
}
