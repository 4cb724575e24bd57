package server

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/podplumb/podplumb/examples/dns/records"
)

// addressOf is the address of a whole reverse name (RFC 1035, 3.5; RFC 3596, 2.5), in lower case.
func addressOf(name string) (netip.Addr, bool) {
	p, end, ok := rangeOf(name)
	return p.Addr(), ok && end && p.IsSingleIP()
}

// rangeOf is the range of addresses that the last labels of a reverse name stand for, and whether these are the whole name.
func rangeOf(name string) (p netip.Prefix, end, ok bool) {
	labels := dns.SplitDomainName(name)
	n, bits, base, size := len(labels)-2, 8, 10, 32
	switch {
	case strings.HasSuffix(name, ".ip6.arpa."):
		bits, base, size = 4, 16, 128
	case !strings.HasSuffix(name, ".in-addr.arpa."):
		return netip.Prefix{}, false, false
	}
	var b [16]byte
	known := 0
	for ; n > 0 && known < size; n-- {
		label := labels[n-1]
		v, err := strconv.ParseUint(label, base, bits)
		if err != nil || label != strconv.FormatUint(v, base) {
			break
		}
		b[known/8] |= byte(v) << (8 - bits - known%8)
		known += bits
	}
	address := netip.AddrFrom16(b)
	if size == 32 {
		address = netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.PrefixFrom(address, known), n == 0, true
}

// pod is what <address with dashes>.<namespace>.pod leads to: the address itself.
func (b backend) pod(labels []string) ([]records.Host, bool) {
	if len(labels) == 1 {
		return nil, true
	}
	if namespace := labels[len(labels)-2]; len(labels) > 3 || !b.snapshot.HasNamespace(namespace) {
		return nil, false
	}
	if len(labels) == 2 {
		return nil, true
	}
	a, err := netip.ParseAddr(strings.ReplaceAll(labels[0], "-", "."))
	if err != nil {
		a, err = netip.ParseAddr(strings.ReplaceAll(labels[0], "-", ":"))
	}
	if err != nil {
		return nil, false
	}
	return []records.Host{{Name: strings.Join(labels, "."), Address: a.Unmap()}}, true
}
