package netns

import (
	"context"
	"net"
	"net/netip"
	"strconv"
)

// resolve returns the targets, ip:port, in the order in which to try them.
func (d *Dialer) resolve(ctx context.Context, network, address string) ([]string, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	resolver := d.Dialer.Resolver
	if resolver == nil {
		resolver = d.NS.Resolver()
	}
	port, err := resolver.LookupPort(ctx, network, service)
	if err != nil {
		return nil, err
	}
	if host == "" {
		return []string{address}, nil // the local system, as package net has it
	}
	addrs, err := d.NS.lookup(ctx, resolver, network, host)
	if err != nil {
		return nil, err
	}
	var targets []string
	for _, a := range addrs {
		if d.fits(a) {
			targets = append(targets, netip.AddrPortFrom(a, uint16(port)).String())
		}
	}
	if len(targets) == 0 {
		return nil, &net.AddrError{Err: "no address of the family of LocalAddr", Addr: host}
	}
	return targets, nil
}

// fits reports whether LocalAddr, if it is set, has the family of a.
func (d *Dialer) fits(a netip.Addr) bool {
	var local net.IP
	switch l := d.Dialer.LocalAddr.(type) {
	case *net.TCPAddr:
		local = l.IP
	case *net.UDPAddr:
		local = l.IP
	}
	return local == nil || local.IsUnspecified() || a.Unmap().Is4() == (local.To4() != nil)
}

// lookup returns the addresses of host, the best first.
func (ns *NS) lookup(ctx context.Context, resolver *net.Resolver, network, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		a, err = ns.numericZone(a)
		return []netip.Addr{a}, err
	}
	family := "ip"
	if last := network[len(network)-1]; last == '4' || last == '6' {
		family += string(last)
	}
	found, err := resolver.LookupNetIP(ctx, family, host)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 0, len(found))
	for _, a := range found {
		a, err := ns.numericZone(a.Unmap())
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	if len(addrs) > 1 {
		sources, err := ns.sources(addrs)
		if err != nil {
			return nil, err
		}
		sortDestinations(addrs, sources)
	}
	return addrs, nil
}

// numericZone replaces the name of a link in a zone by its index in the namespace:
// package net keeps one table of names for the whole process.
func (ns *NS) numericZone(a netip.Addr) (netip.Addr, error) {
	zone := a.Zone()
	if zone == "" {
		return a, nil
	}
	if _, err := strconv.Atoi(zone); err == nil {
		return a, nil
	}
	var index int
	err := ns.do("find link", func() (err error) {
		index, err = linkIndex(zone)
		return err
	})
	if err != nil {
		return a, &hint{"the zone " + zone + " is no link of the namespace", unwrapOp(err)}
	}
	return a.WithZone(strconv.Itoa(index)), nil
}

// literal returns address with its host name or zone resolved, for a listener: as
// package net does, an IPv4 address is preferred.
func (ns *NS) literal(ctx context.Context, network, address string) (string, error) {
	if err := ns.alive(); err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || !resolvable(network) {
		return address, nil // package net reports what is wrong
	}
	addrs, err := ns.lookup(ctx, ns.Resolver(), network, host)
	if err != nil {
		return "", err
	}
	best := addrs[0]
	for _, a := range addrs {
		if a.Is4() {
			best = a
			break
		}
	}
	return net.JoinHostPort(best.String(), port), nil
}
