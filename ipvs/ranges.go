package ipvs

import (
	"net/netip"
	"slices"
)

// Range is a network whose addresses belong to services. One local route makes this machine take packets for all of them: no device holds
// the addresses, and a new service costs no address. A range of a single address that a device of the machine has is left out: packets for it
// come in already, and its other ports are the machine's.
type Range struct {
	Prefix netip.Prefix

	// Source is the address of this machine from which it connects to services of the range itself. Without this hint the kernel
	// would take the service's own address, to which a destination cannot answer. Zero takes the address that the machine has
	// towards its default route, else the first that other machines can reach, if there is any.
	Source netip.Addr

	// Open leaves ports that no service takes to the machine: a program that listens on all addresses answers there too. Otherwise
	// they are refused, with a TCP reset or ICMP port unreachable. A service with destinations of method Local needs an open range,
	// because a guard cannot tell its packets from others.
	Open bool
}

// checkRanges is the validation for a client that owns o.
func (o Owns) checkRanges(ranges []Range) error {
	var f faults
	for i, r := range ranges {
		f.at("ranges", i)
		switch {
		case !r.Prefix.IsValid():
			f.add(".prefix", "no prefix")
			continue
		case r.Prefix.Addr().Is4In6():
			f.add(".prefix", "%s is IPv4 written as IPv6", r.Prefix)
			continue
		case r.Prefix != r.Prefix.Masked():
			f.add(".prefix", "%s has bits after its length; %s has not", r.Prefix, r.Prefix.Masked())
		case !slices.ContainsFunc(o.Prefixes, func(p netip.Prefix) bool { return p.Bits() <= r.Prefix.Bits() && p.Contains(r.Prefix.Addr()) }):
			f.add(".prefix", "%s: %w", r.Prefix, ErrNotOwned)
		}
		if r.Source.IsValid() && (r.Source.Is4() != r.Prefix.Addr().Is4() || r.Source.Zone() != "") {
			f.add(".source", "%s is not an address of the prefix's family", r.Source)
		}
		for j := range i {
			if ranges[j].Prefix.Overlaps(r.Prefix) {
				f.add(".prefix", "%s overlaps ranges[%d], %s", r.Prefix, j, ranges[j].Prefix)
			}
		}
	}
	return f.join()
}

// String returns "10.96.0.0/16 from 192.168.50.10", with "open" when it is.
func (r Range) String() string {
	s := r.Prefix.String()
	if r.Source.IsValid() {
		s += " from " + r.Source.String()
	}
	if r.Open {
		s += " open"
	}
	return s
}

func sortRanges(ranges []Range) {
	slices.SortFunc(ranges, func(a, b Range) int {
		if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
			return c
		}
		return a.Prefix.Bits() - b.Prefix.Bits()
	})
}
