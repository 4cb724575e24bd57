package service

import "net/netip"

// Validate checks every object by the rules of the API server, as far as they matter here, and the objects against each other: two of the same name, two
// Services with the same cluster IP, or with the same external address or node port and protocol. Unset fields are fine and mean their default. The
// error joins one *FieldError for every fault.
func (s State) Validate() error {
	_, err := s.check()
	return err
}

// check is Validate; it also returns the Services in the form that resolving needs.
func (s State) check() ([]*svc, error) {
	var f faults
	f.prefixes("podRanges", s.PodRanges)
	f.prefixes("serviceRanges", s.ServiceRanges)
	f.in("nodePorts")
	f.prefixes("in", s.NodePorts.In)
	f.out()
	if !isLabelValue(s.ProxyName) {
		f.on("proxyName", "%q is not a label value", s.ProxyName)
	}
	f.objects(s.Services, s.EndpointSlices, s.Pods, s.Nodes)
	services := make([]*svc, len(s.Services))
	c := newClaims(len(s.Services))
	for i := range s.Services {
		services[i] = newSvc(&s.Services[i])
		f.object("services", i, services[i].name)
		c.take(services[i], f.conflict)
		f.out()
	}
	return services, f.err()
}

// conflict records that another Service has what this one claims.
func (f *faults) conflict(what claim, field string, with Name) {
	f.on(field, "%s: %w with services[%s]", what, ErrConflict, with)
}

// objects checks the objects of a State or of an Update, each on its own and for names that are there twice.
func (f *faults) objects(services []Service, endpointSlices []EndpointSlice, pods []Pod, nodes []Node) {
	each(f, "services", services, func(s *Service) Name { return s.Key() }, f.service)
	each(f, "endpointSlices", endpointSlices, func(s *EndpointSlice) Name { return s.Key() }, f.slice)
	each(f, "pods", pods, func(p *Pod) Name { return p.Key() }, f.pod)
	each(f, "nodes", nodes, func(n *Node) Name { return n.Key() }, f.node)
}

func each[T any](f *faults, field string, list []T, name func(*T) Name, check func(*T)) {
	seen := make(map[Name]int, len(list))
	for i := range list {
		o := &list[i]
		n := name(o)
		f.object(field, i, n)
		if j, twice := seen[n]; twice && n.Name != "" {
			f.here("%w: %s[%d] and %s[%d] have the same name", ErrConflict, field, j, field, i)
		} else {
			seen[n] = i
		}
		check(o)
		f.out()
	}
}

func (f *faults) prefixes(field string, list []netip.Prefix) {
	for i, p := range list {
		if !p.IsValid() || p.Addr().Is4In6() {
			f.at(field, i)
			f.here("%v is not a network", p)
			f.out()
		}
	}
}

// validateSelf checks the node that is resolved for. It may have no name.
func validateSelf(n Node) error {
	var f faults
	if n.Name == "" {
		f.nodeAddresses(&n)
	} else {
		f.node(&n)
	}
	return f.err()
}
