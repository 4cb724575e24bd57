package service

import (
	"net/netip"
	"slices"
	"strings"
)

// Resolve says what node promises for the State: one Frontend for every address and port that a Service has on it, one KindUnknownPort for every
// cluster IP and one KindUnallocated for every service range; sorted by Service, then in the order of its ports. Headless and ExternalName Services, and
// those of another proxy, have none. A family without a cluster IP has no external addresses or node ports either.
//
// It is pure: no kernel, no clock, and the same input gives the same output. The error names every fault of the State and every conflict in it
// (*FieldError, errors.Is with ErrConflict); then there are no Frontends.
func Resolve(s State, node Node) ([]Frontend, error) {
	w, err := build(s, node)
	if err != nil {
		return nil, err
	}
	var r resolver
	size := len(w.settings.serviceRanges)
	for _, d := range w.services {
		size += len(d.cluster) * (len(d.ports) + 1)
	}
	all := make([]Frontend, 0, size)
	for _, n := range w.names() {
		all = r.service(all, w, w.services[n])
	}
	return append(all, w.ranges()...), nil
}

// build checks a State and a node and brings them into the form that resolving needs.
func build(s State, node Node) (*world, error) {
	services, err := s.check()
	if err != nil {
		return nil, &OpError{Op: "resolve", Object: "state", Err: err}
	}
	if err := validateSelf(node); err != nil {
		return nil, &OpError{Op: "resolve", Object: strings.TrimSpace("node " + node.Name), Err: err}
	}
	w := newWorld(newSettings(s, node), s)
	w.add(s, services)
	return w, nil
}

// ranges returns the Frontends that belong to no Service.
func (w *world) ranges() []Frontend {
	var list []Frontend
	for _, p := range w.settings.serviceRanges {
		list = append(list, Frontend{Key: Key{Kind: KindUnallocated, Range: p.Masked()}, Refusal: Drop})
	}
	return list
}

// resolver keeps scratch space between Services.
type resolver struct {
	candidates []candidate
}

// service appends the Frontends of one Service.
func (r *resolver) service(list []Frontend, w *world, s *svc) []Frontend {
	if !w.serves(s) {
		return list
	}
	start := len(list)
	for i := range s.ports {
		for _, ip := range s.cluster {
			list = r.port(list, w, s, &s.ports[i], ip)
		}
	}
	for _, ip := range s.cluster {
		list = append(list, Frontend{Key: Key{Kind: KindUnknownPort, Addr: ip}, Service: s.name})
	}
	if len(s.external)+len(s.vips) == 0 {
		return list
	}
	return distinct(list, start)
}

// port appends the Frontends of one port in the family of the cluster IP.
func (r *resolver) port(list []Frontend, w *world, s *svc, p *svcPort, ip netip.Addr) []Frontend {
	fam := family(ip)
	external := has(s.external, fam) || has(s.vips, fam) || p.node != 0
	useLocal := s.inLocal || s.extLocal && external

	r.candidates = w.candidates(s, p, fam, r.candidates[:0])
	c := w.choose(r.candidates, !s.inLocal || external, useLocal)

	f := Frontend{
		Key:     Key{Kind: KindClusterIP, Addr: ip, Port: p.port, Protocol: p.protocol},
		Service: s.name, PortName: p.name, Affinity: s.affinity, Inside: w.settings.inside,
	}
	if c.any {
		f.Refusal = Drop // somewhere there are endpoints, only not for this client here
	}

	inner := f
	inner.Endpoints = c.cluster
	if s.inLocal {
		inner.Endpoints = c.local
	}
	switch {
	case w.settings.masqueradeAll:
		inner.Masquerade = MasqueradeAll
	case w.settings.pods[fam]:
		inner.Masquerade = MasqueradeOutside
	}
	list = append(list, inner.settled())
	if !external {
		return list
	}

	outer := f
	outer.Endpoints, outer.Masquerade = c.cluster, MasqueradeAll // the endpoint may be on another node, which would answer past this one
	if s.extLocal {
		outer.Endpoints, outer.Near, outer.Masquerade = c.local, c.cluster, MasqueradeNode
	}
	outer = outer.settled()
	for _, a := range s.vips {
		if family(a) == fam {
			f := outer
			f.Kind, f.Addr, f.Sources = KindLoadBalancer, a, w.sources(s, fam)
			list = append(list, f)
		}
	}
	for _, a := range s.external {
		if family(a) == fam {
			f := outer
			f.Kind, f.Addr = KindExternalIP, a
			list = append(list, f)
		}
	}
	if p.node != 0 && !w.settings.noNodePorts[fam] {
		f := outer
		f.Key = Key{Kind: KindNodePort, Addr: unspecified(fam), Port: p.node, Protocol: p.protocol}
		f.On, f.Localhost = w.settings.on[fam], w.settings.localhost[fam]
		list = append(list, f)
	}
	return list
}

// settled clears the Refusal where nothing is refused, so that equal promises are equal values.
func (f Frontend) settled() Frontend {
	if len(f.Endpoints) > 0 {
		f.Refusal = Reject
	}
	return f
}

// sources returns the clients that may use the load balancer's addresses of a family; nil: all.
func (w *world) sources(s *svc, fam int) []netip.Prefix {
	var list []netip.Prefix
	self := false
	for _, p := range s.sources {
		if family(p.Addr()) == fam {
			list = append(list, p)
			self = self || p.Contains(w.settings.primary[fam])
		}
	}
	if !self {
		return list
	}
	// The node may carry the load balancer's address itself; then its own connections come from there, and are the node's all the same.
	for _, a := range s.vips {
		if family(a) == fam {
			list = append(list, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return list
}

// distinct drops, from list[start:], Frontends whose address, port and protocol an earlier one has: a Service may name an address both as external IP
// and as load balancer.
func distinct(list []Frontend, start int) []Frontend {
	kept := list[:start]
	for i, f := range list[start:] {
		same := func(o Frontend) bool {
			return o.Addr == f.Addr && o.Port == f.Port && o.Protocol == f.Protocol && (o.Kind == KindNodePort) == (f.Kind == KindNodePort)
		}
		if i > 0 && slices.ContainsFunc(kept[start:], same) {
			continue
		}
		kept = append(kept, f)
	}
	return kept
}

func has(addrs []netip.Addr, fam int) bool {
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return family(a) == fam })
}

func unspecified(fam int) netip.Addr {
	if fam == v4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
