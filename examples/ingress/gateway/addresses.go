package gateway

import (
	"fmt"
	"net/netip"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// assign gives every Gateway its addresses: first those that are asked for, then those that Gateways have, then new ones.
func (m *Model) assign(pool []netip.Prefix, before *Model) {
	used := map[netip.Addr]bool{}
	dynamic := map[*gateway]bool{}
	for _, g := range m.gateways {
		dynamic[g] = g.requested(pool)
		for _, a := range g.addresses {
			used[a] = true
		}
	}
	for _, g := range m.gateways {
		if !dynamic[g] {
			continue
		}
		for _, a := range append(before.addresses(g.Namespace, g.Name), statusAddresses(g.Gateway)...) {
			sameFamily := func(b netip.Addr) bool { return a.Is4() == b.Is4() }
			if inPool(pool, a) && !used[a] && !slices.ContainsFunc(g.addresses, sameFamily) {
				g.addresses, used[a] = append(g.addresses, a), true
			}
		}
	}
	for _, g := range m.gateways {
		if dynamic[g] {
			g.draw(pool, used)
		}
	}
}

// requested takes the addresses of the spec. It says whether others are to be added from the pool.
func (g *gateway) requested(pool []netip.Prefix) (dynamic bool) {
	refuse := func(i int, format string, args ...any) {
		if g.refused == nil {
			g.refused = &refusal{string(gatewayv1.GatewayReasonUnsupportedAddress), fmt.Sprintf("spec.addresses[%d]: %s", i, fmt.Sprintf(format, args...))}
		}
	}
	dynamic = len(g.Spec.Addresses) == 0
	for i, want := range g.Spec.Addresses {
		if want.Type != nil && *want.Type != gatewayv1.IPAddressType {
			refuse(i, "type %s is not supported, only IPAddress is", *want.Type)
			continue
		}
		if want.Value == "" {
			dynamic = true
			continue
		}
		a, err := netip.ParseAddr(want.Value)
		if err != nil {
			refuse(i, "%q is not an address", want.Value)
			continue
		}
		if !inPool(pool, a) {
			g.unusable = &refusal{string(gatewayv1.GatewayReasonAddressNotUsable), fmt.Sprintf("spec.addresses[%d]: %s is not one of the addresses that may be served here", i, a)}
			continue
		}
		g.addresses = append(g.addresses, a)
	}
	return dynamic
}

// draw adds an address of each family of the pool that the Gateway has none of.
func (g *gateway) draw(pool []netip.Prefix, used map[netip.Addr]bool) {
	for _, family := range []func(netip.Addr) bool{netip.Addr.Is4, netip.Addr.Is6} {
		if slices.ContainsFunc(g.addresses, family) {
			continue
		}
		for _, p := range pool {
			if a := firstFree(p, used); family(p.Addr()) && a.IsValid() {
				g.addresses, used[a] = append(g.addresses, a), true
				break
			}
		}
	}
	if len(g.addresses) == 0 && g.unusable == nil {
		g.unusable = &refusal{string(gatewayv1.GatewayReasonAddressNotAssigned), "no address is free"}
	}
}

// firstFree passes over the addresses that mean a network itself and, in IPv4, all of it (RFC 4291, 2.6.1; RFC 919).
func firstFree(p netip.Prefix, used map[netip.Addr]bool) netip.Addr {
	network := p.Bits() < p.Addr().BitLen()-1
	for a := p.Masked().Addr(); a.IsValid() && p.Contains(a); a = a.Next() {
		if !used[a] && !(network && (a == p.Masked().Addr() || a.Is4() && !p.Contains(a.Next()))) {
			return a
		}
	}
	return netip.Addr{}
}

func inPool(pool []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(pool, func(p netip.Prefix) bool { return p.Contains(a) })
}

// addresses returns those that a Gateway had.
func (m *Model) addresses(namespace, name string) []netip.Addr {
	if m == nil {
		return nil
	}
	for _, g := range m.gateways {
		if g.Namespace == namespace && g.Name == name {
			return slices.Clone(g.addresses)
		}
	}
	return nil
}

func statusAddresses(g *gatewayv1.Gateway) (all []netip.Addr) {
	for _, s := range g.Status.Addresses {
		if a, err := netip.ParseAddr(s.Value); err == nil {
			all = append(all, a)
		}
	}
	return all
}
