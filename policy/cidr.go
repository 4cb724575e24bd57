package policy

import (
	"net/netip"
	"strings"
)

// maxNetwork is the length of the longest CIDR that the CRD of ClusterNetworkPolicy lets pass.
const maxNetwork = 43

// parseNetwork reads a CIDR of a ClusterNetworkPolicy, as its CRD does: strictly, and not of IPv4 inside IPv6. Bits beyond the prefix
// mean nothing.
func parseNetwork(s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err == nil && !p.Addr().Is4In6() && len(s) <= maxNetwork
}

// parseBlock reads a CIDR of an IPBlock. The API server takes some that netip does not, for the sake of old objects: numbers with
// leading zeros, which are decimal, and IPv4 inside IPv6, which is IPv4. Bits beyond the prefix mean nothing.
func parseBlock(s string) (netip.Prefix, bool) {
	p, ok := parseLegacy(s)
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked(), ok
}

// parseLegacy is parseBlock without moving IPv4 out of IPv6: the API server counts the bits of the prefix as they are written.
func parseLegacy(s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		p, err = netip.ParsePrefix(withoutLeadingZeros(s))
	}
	return p, err == nil
}

// withoutLeadingZeros takes them from every number, decimal or hexadecimal, and leaves a zero where there is nothing else.
func withoutLeadingZeros(s string) string {
	var b strings.Builder
	inside := false // a number that has begun
	for i := range len(s) {
		last := i+1 == len(s) || strings.IndexByte(".:/", s[i+1]) >= 0
		switch {
		case strings.IndexByte(".:/", s[i]) >= 0:
			inside = false
		case s[i] == '0' && !inside && !last:
			continue
		default:
			inside = true
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
