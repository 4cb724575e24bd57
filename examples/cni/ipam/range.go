package ipam

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Range is a run of addresses of one subnet.
type Range struct {
	Subnet     netip.Prefix
	Start, End netip.Addr   // first and last address to hand out; zero: all of the subnet's host addresses
	Gateway    netip.Addr   // never handed out; zero: the subnet's first host address
	Reserved   []netip.Addr // never handed out
}

// Set is a list of ranges of one family that stand in for each other: when one is full, the next is used.
type Set []Range

// String prints the range as 10.244.1.2-10.244.1.254.
func (r Range) String() string { return r.Start.String() + "-" + r.End.String() }

// Canonical returns r with its defaults filled in, or every fault of it.
func (r Range) Canonical() (Range, error) {
	if !r.Subnet.IsValid() {
		return r, errors.New("subnet: is required, as 10.244.1.0/24")
	}
	var errs []error
	fault := func(field, format string, args ...any) { errs = append(errs, fmt.Errorf(field+": "+format, args...)) }
	if r.Subnet != r.Subnet.Masked() {
		fault("subnet", "%s has host bits set: did you mean %s?", r.Subnet, r.Subnet.Masked())
		r.Subnet = r.Subnet.Masked()
	}
	if hostBits := r.Subnet.Addr().BitLen() - r.Subnet.Bits(); hostBits < 2 {
		fault("subnet", "%s is too small: /%d is the smallest that holds a gateway and a pod", r.Subnet, r.Subnet.Addr().BitLen()-2)
		return r, errors.Join(errs...)
	}
	first, last := hosts(r.Subnet)
	for _, a := range []struct {
		field string
		addr  *netip.Addr
		zero  netip.Addr
	}{{"rangeStart", &r.Start, first}, {"rangeEnd", &r.End, last}, {"gateway", &r.Gateway, first}} {
		if !a.addr.IsValid() {
			*a.addr = a.zero
			continue
		}
		if !r.Subnet.Contains(*a.addr) {
			fault(a.field, "%s is not in subnet %s", *a.addr, r.Subnet)
		}
	}
	// The network and broadcast addresses are no hosts, whatever the range says (RFC 919, RFC 4291 section 2.6.1).
	if r.Start.Less(first) && r.Subnet.Contains(r.Start) {
		r.Start = first
	}
	if last.Less(r.End) && r.Subnet.Contains(r.End) {
		r.End = last
	}
	if r.End.Less(r.Start) {
		fault("rangeEnd", "%s is before rangeStart %s", r.End, r.Start)
	}
	return r, errors.Join(errs...)
}

// hosts returns the first and the last host address of a subnet.
func hosts(p netip.Prefix) (first, last netip.Addr) {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ = netip.AddrFromSlice(b)
	if last.Is4() {
		last = last.Prev() // broadcast
	}
	return p.Masked().Addr().Next(), last
}

// Contains reports whether a may be handed out from r, which must be canonical.
func (r *Range) Contains(a netip.Addr) bool {
	return !a.Less(r.Start) && !r.End.Less(a) && a.BitLen() == r.Start.BitLen() && a != r.Gateway && !slices.Contains(r.Reserved, a)
}

// Size returns how many addresses r can hand out, at most 1<<31. r must be canonical.
func (r *Range) Size() int {
	n := distance(r.Start, r.End) + 1
	for _, a := range append([]netip.Addr{r.Gateway}, r.Reserved...) {
		if !a.Less(r.Start) && !r.End.Less(a) {
			n--
		}
	}
	return max(n, 0)
}

// distance is b-a, at most 1<<31.
func distance(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	var n int64
	borrow := 0
	var diff [16]byte
	for i := 15; i >= 0; i-- {
		d := int(y[i]) - int(x[i]) - borrow
		borrow = 0
		if d < 0 {
			d, borrow = d+256, 1
		}
		diff[i] = byte(d)
	}
	for _, b := range diff {
		n = n<<8 | int64(b)
		if n > 1<<31 {
			return 1 << 31
		}
	}
	return int(n)
}
