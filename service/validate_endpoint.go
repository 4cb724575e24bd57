package service

import (
	"net/netip"
	"slices"
)

// The limits of the API server.
const (
	maxSliceEndpoints = 1000
	maxSlicePorts     = 20000
	maxAddresses      = 100
	maxHints          = 8
)

func (f *faults) slice(s *EndpointSlice) {
	f.meta(&s.Meta, true, isSubdomain, "an RFC 1123 subdomain")
	if s.AddressType != AddressIPv4 && s.AddressType != AddressIPv6 && s.AddressType != AddressFQDN {
		f.on("addressType", "%q is not IPv4, IPv6 or FQDN", s.AddressType)
	}
	if n := len(s.Endpoints); n > maxSliceEndpoints {
		f.on("endpoints", "%d: at most %d", n, maxSliceEndpoints)
	}
	if n := len(s.Ports); n > maxSlicePorts {
		f.on("ports", "%d: at most %d", n, maxSlicePorts)
	}
	for i := range s.Endpoints {
		f.at("endpoints", i)
		f.sliceEndpoint(s.AddressType, &s.Endpoints[i])
		f.out()
	}
	for i := range s.Ports {
		p := &s.Ports[i]
		f.at("ports", i)
		if p.Name != nil && *p.Name != "" && !isLabel(*p.Name) {
			f.on("name", "%q is not an RFC 1123 label", *p.Name)
		}
		if p.Protocol != nil {
			f.protocol(*p.Protocol)
		}
		if p.Port != nil && (*p.Port < 0 || *p.Port > 65535) {
			f.on("port", "%d is not in 0-65535", *p.Port)
		}
		if j := slices.IndexFunc(s.Ports[:i], func(o SlicePort) bool { return text(o.Name) == text(p.Name) }); j >= 0 {
			f.on("name", "%q: %w with ports[%d]", text(p.Name), ErrConflict, j)
		}
		f.out()
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (f *faults) sliceEndpoint(t AddressType, e *SliceEndpoint) {
	if n := len(e.Addresses); n == 0 || n > maxAddresses {
		f.on("addresses", "%d: 1 to %d", n, maxAddresses)
	}
	for i, text := range e.Addresses {
		f.at("addresses", i)
		a, err := netip.ParseAddr(text)
		switch {
		case t == AddressFQDN:
			if !isSubdomain(text) {
				f.here("%q is not a domain name", text)
			}
		case err != nil:
			f.here("%q is not an IP address", text)
		case unfit(a.Unmap()) != "":
			f.here("%s %s", a, unfit(a.Unmap()))
		case string(familyOf(a)) != string(t):
			f.here("%s is not of addressType %s", a, t)
		}
		f.out()
	}
	if e.NodeName != nil && !isSubdomain(*e.NodeName) {
		f.on("nodeName", "%q is not an RFC 1123 subdomain", *e.NodeName)
	}
	if e.Zone != nil && !isLabelValue(*e.Zone) {
		f.on("zone", "%q is not a label value", *e.Zone)
	}
	if e.Hints == nil {
		return
	}
	f.in("hints")
	if n := len(e.Hints.ForZones); n > maxHints {
		f.on("forZones", "%d: at most %d", n, maxHints)
	}
	if n := len(e.Hints.ForNodes); n > maxHints {
		f.on("forNodes", "%d: at most %d", n, maxHints)
	}
	for i, z := range e.Hints.ForZones {
		if z.Name == "" || !isLabelValue(z.Name) {
			f.at("forZones", i)
			f.on("name", "%q is not a zone", z.Name)
			f.out()
		}
	}
	for i, n := range e.Hints.ForNodes {
		if !isSubdomain(n.Name) {
			f.at("forNodes", i)
			f.on("name", "%q is not an RFC 1123 subdomain", n.Name)
			f.out()
		}
	}
	f.out()
}

func (f *faults) pod(p *Pod) {
	f.meta(&p.Meta, true, isSubdomain, "an RFC 1123 subdomain")
	f.in("spec")
	if p.Spec.NodeName != "" && !isSubdomain(p.Spec.NodeName) {
		f.on("nodeName", "%q is not an RFC 1123 subdomain", p.Spec.NodeName)
	}
	f.containers("containers", p.Spec.Containers)
	f.containers("initContainers", p.Spec.InitContainers)
	f.out()
	f.in("status")
	for i, ip := range p.Status.PodIPs {
		f.at("podIPs", i)
		f.ip("ip", ip.IP)
		f.out()
	}
	if p.Status.PodIP != "" {
		f.ip("podIP", p.Status.PodIP)
	}
	f.out()
}

func (f *faults) containers(field string, list []Container) {
	for i := range list {
		c := &list[i]
		f.at(field, i)
		for j, p := range c.Ports {
			f.at("ports", j)
			if p.Name != "" && !isPortName(p.Name) {
				f.on("name", "%q is not a port name (RFC 6335)", p.Name)
			}
			f.protocol(p.Protocol)
			f.portNumber("containerPort", p.ContainerPort)
			f.out()
		}
		f.out()
	}
}

// ip checks an address that packets are sent to.
func (f *faults) ip(field, text string) {
	if a, err := netip.ParseAddr(text); err != nil {
		f.on(field, "%q is not an IP address", text)
	} else if why := unfit(a.Unmap()); why != "" {
		f.on(field, "%s %s", a, why)
	}
}

func (f *faults) node(n *Node) {
	f.meta(&n.Meta, false, isSubdomain, "an RFC 1123 subdomain")
	f.nodeAddresses(n)
}

func (f *faults) nodeAddresses(n *Node) {
	f.in("status")
	for i, a := range n.Status.Addresses {
		if a.Type != "InternalIP" && a.Type != "ExternalIP" {
			continue // host names
		}
		f.at("addresses", i)
		if _, err := netip.ParseAddr(a.Address); err != nil {
			f.on("address", "%q is not an IP address", a.Address)
		}
		f.out()
	}
	f.out()
}
