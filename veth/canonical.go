package veth

import (
	"cmp"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"
)

const (
	defaultMTU    = 1500
	defaultAgeing = 300 * time.Second
	defaultVLAN   = 1
)

// Canonical returns a copy in the form that Read uses: defaults filled in, slices sorted and without repeats, empty ones nil, sysctl
// names with dots, paths clean. MAC addresses that are zero stay so: Read has the kernel's.
func (s State) Canonical() State {
	filtering := map[string]bool{}
	out := State{Bridges: slices.Clone(s.Bridges), Pairs: slices.Clone(s.Pairs)}
	for i := range out.Bridges {
		b := &out.Bridges[i]
		b.canonical()
		filtering[b.Name] = b.VLANFiltering
	}
	for i := range out.Pairs {
		out.Pairs[i].canonical(filtering)
	}
	slices.SortStableFunc(out.Bridges, func(a, b Bridge) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(out.Pairs, func(a, b Pair) int { return cmp.Compare(a.Host.Name, b.Host.Name) })
	out.Bridges, out.Pairs = orNil(out.Bridges), orNil(out.Pairs)
	return out
}

func (b *Bridge) canonical() {
	b.MTU = cmp.Or(b.MTU, defaultMTU)
	b.Ageing = max(cmp.Or(b.Ageing, defaultAgeing), -1)
	b.Addresses = canonicalPrefixes(b.Addresses)
	b.Routes = canonicalRoutes(b.Routes)
	b.Sysctls = canonicalSysctls(b.Sysctls)
	b.VLANs = b.VLANs.canonical(b.VLANFiltering)
}

func (p *Pair) canonical(filtering map[string]bool) {
	h, pod := &p.Host, &p.Pod
	if pod.NetNS != "" {
		pod.NetNS = path.Clean(pod.NetNS)
	}
	h.MTU = cmp.Or(h.MTU, pod.MTU, defaultMTU)
	pod.MTU = cmp.Or(pod.MTU, h.MTU)
	h.Addresses = canonicalPrefixes(h.Addresses)
	pod.Addresses = canonicalPrefixes(pod.Addresses)
	h.Routes = canonicalRoutes(h.Routes)
	pod.Routes = canonicalRoutes(pod.Routes)
	h.Sysctls = canonicalSysctls(h.Sysctls)
	pod.Sysctls = canonicalSysctls(pod.Sysctls)
	h.Proxy, h.Unrouted = canonicalAddrs(h.Proxy), canonicalAddrs(h.Unrouted)
	h.Port.VLANs = h.Port.VLANs.canonical(filtering[h.Bridge])
}

// canonical sorts and joins the trunks; fill says whether the zero value stands for VLAN 1.
func (v VLANs) canonical(fill bool) VLANs {
	trunks := slices.Clone(v.Trunks)
	slices.SortFunc(trunks, func(a, b VLANRange) int { return cmp.Compare(a.First, b.First) })
	var joined []VLANRange
	for _, r := range trunks {
		if n := len(joined); n > 0 && uint32(r.First) <= uint32(joined[n-1].Last)+1 {
			joined[n-1].Last = max(joined[n-1].Last, r.Last)
			continue
		}
		joined = append(joined, r)
	}
	v.Trunks = joined
	if fill && v.isZero() {
		v.Access = defaultVLAN
	}
	return v
}

func (v VLANs) isZero() bool { return !v.None && v.Access == 0 && len(v.Trunks) == 0 }

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

func compareRouteKey(a, b routeKey) int {
	return cmp.Or(comparePrefix(a.to, b.to), cmp.Compare(a.metric, b.metric))
}

func canonicalPrefixes(in []netip.Prefix) []netip.Prefix {
	out := slices.Clone(in)
	slices.SortFunc(out, comparePrefix)
	return orNil(slices.Compact(out))
}

func canonicalAddrs(in []netip.Addr) []netip.Addr {
	out := slices.Clone(in)
	slices.SortFunc(out, netip.Addr.Compare)
	return orNil(slices.Compact(out))
}

func canonicalRoutes(in []Route) []Route {
	out := slices.Clone(in)
	for i := range out {
		out[i].Metric = out[i].metric()
		if out[i].Scope == ScopeAuto {
			out[i].Scope = out[i].autoScope()
		}
	}
	slices.SortStableFunc(out, func(a, b Route) int { return compareRouteKey(a.key(), b.key()) })
	return orNil(slices.Compact(out))
}

func canonicalSysctls(in map[string]string) map[string]string {
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]string, len(in))
	for k, v := range in {
		out[sysctlName(k)] = sysctlValue(v)
	}
	return out
}

// sysctlName writes a name with dots; in the slash form a dot is part of a name, which only an interface name can have, and that is
// written IFNAME here.
func sysctlName(name string) string { return strings.ReplaceAll(name, "/", ".") }

// sysctlValue is the form that the kernel prints: fields apart by one tab.
func sysctlValue(v string) string { return strings.Join(strings.Fields(v), "\t") }

func orNil[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}
