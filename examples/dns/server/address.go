package server

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/podplumb/podplumb/examples/dns/records"
)

type prefix = netip.Prefix

// addressOf is the address of a whole reverse name (RFC 1035, 3.5; RFC 3596, 2.5), in lower case.
func addressOf(name string) (netip.Addr, bool) {
	labels := dns.SplitDomainName(name)
	n := len(labels)
	switch {
	case n == 6 && strings.HasSuffix(name, ".in-addr.arpa."):
		var b [4]byte
		for i := range b {
			v, err := strconv.ParseUint(labels[3-i], 10, 8)
			if err != nil || labels[3-i] != strconv.FormatUint(v, 10) {
				return netip.Addr{}, false
			}
			b[i] = byte(v)
		}
		return netip.AddrFrom4(b), true
	case n == 34 && strings.HasSuffix(name, ".ip6.arpa."):
		var b [16]byte
		for i := range 32 {
			v, err := strconv.ParseUint(labels[31-i], 16, 4)
			if err != nil || len(labels[31-i]) != 1 {
				return netip.Addr{}, false
			}
			b[i/2] |= byte(v) << (4 * (1 - i%2))
		}
		return netip.AddrFrom16(b), true
	}
	return netip.Addr{}, false
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
