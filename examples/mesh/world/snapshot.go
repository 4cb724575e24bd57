package world

import (
	"errors"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/podplumb/podplumb/examples/mesh/stream"
)

// Snapshot is the cluster at one moment. It never changes.
type Snapshot struct {
	Known bool   // something was heard of the source
	Pods  []*Pod // sorted by namespace and name

	workloads map[netip.Addr]*stream.Workload
	protocols map[netip.AddrPort]stream.Protocol // of ports of pods
	addresses map[netip.AddrPort]stream.Backend  // of Services
	virtual   map[netip.Addr]*stream.Service     // addresses that are a Service's alone
	services  map[servicePort]stream.Backend     // with endpoints of all families
}

type servicePort struct {
	service name
	port    uint16
}

// Resolve implements stream.Resolver.
func (s *Snapshot) Resolve(to netip.AddrPort) stream.Backend {
	if b, ok := s.addresses[to]; ok {
		return b
	}
	if svc, ok := s.virtual[to.Addr()]; ok {
		return stream.Backend{Service: svc} // it has no such port
	}
	return stream.Backend{
		Protocol: s.protocols[to], Endpoints: []stream.Endpoint{{Address: to, Workload: s.workloads[to.Addr()]}},
	}
}

// Service implements stream.Resolver.
func (s *Snapshot) Service(namespace, svc string, port uint16, like netip.Addr) (stream.Backend, bool) {
	b, ok := s.services[servicePort{name{namespace, svc}, port}]
	if ok {
		b.Endpoints = ofFamily(b.Endpoints, like)
	}
	return b, ok
}

// ofFamily returns those of the family of like, or all if there are none.
func ofFamily(endpoints []stream.Endpoint, like netip.Addr) []stream.Endpoint {
	var list []stream.Endpoint
	for _, e := range endpoints {
		if e.Address.Addr().Is4() == like.Is4() {
			list = append(list, e)
		}
	}
	if len(list) == 0 {
		return endpoints
	}
	return list
}

// snapshot is made of the objects that are known; w.mu is held.
func (w *World) snapshot() (*Snapshot, error) {
	s := &Snapshot{
		Known: true, workloads: map[netip.Addr]*stream.Workload{}, protocols: map[netip.AddrPort]stream.Protocol{},
		addresses: map[netip.AddrPort]stream.Backend{}, virtual: map[netip.Addr]*stream.Service{}, services: map[servicePort]stream.Backend{},
	}
	var faults []error
	for _, object := range sorted(w.pods) {
		p, err := w.pod(object)
		faults = append(faults, err)
		if p == nil {
			continue
		}
		s.Pods = append(s.Pods, p)
		for _, a := range p.Workload.Addresses {
			s.workloads[a] = p.Workload
		}
	}
	byService := map[name][]*discoveryv1.EndpointSlice{}
	for _, slice := range sorted(w.slices) {
		owner := name{slice.Namespace, slice.Labels[discoveryv1.LabelServiceName]}
		byService[owner] = append(byService[owner], slice)
	}
	for _, svc := range sorted(w.services) {
		w.addService(s, svc, byService[name{svc.Namespace, svc.Name}])
	}
	return s, errors.Join(faults...)
}

// addService makes all addresses of a Service known.
func (w *World) addService(s *Snapshot, svc *corev1.Service, slices []*discoveryv1.EndpointSlice) {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	about := &stream.Service{Namespace: svc.Namespace, Name: svc.Name}
	virtual := serviceAddrs(svc)
	for _, a := range virtual {
		s.virtual[a] = about
	}
	for i := range svc.Spec.Ports {
		port := &svc.Spec.Ports[i]
		if port.Protocol != corev1.ProtocolTCP && port.Protocol != "" {
			continue
		}
		b := stream.Backend{
			Service: about, Port: stream.Port{Name: port.Name, Number: uint16(port.Port)}, Protocol: protocolOf(port.AppProtocol),
		}
		if slices != nil {
			b.Endpoints = s.fromSlices(slices, port)
		} else {
			b.Endpoints = w.fromSelector(s, svc, port)
		}
		for _, e := range b.Endpoints {
			s.declare(e.Address, b.Protocol)
		}
		s.services[servicePort{name{svc.Namespace, svc.Name}, uint16(port.Port)}] = b
		at := func(a netip.Addr, n int32) {
			one := b
			one.Endpoints = ofFamily(b.Endpoints, a)
			s.addresses[netip.AddrPortFrom(a, uint16(n))] = one
		}
		for _, a := range virtual {
			at(a, port.Port)
		}
		if port.NodePort != 0 {
			for _, node := range w.nodes {
				for _, a := range nodeAddrs(node) {
					at(a, port.NodePort)
				}
			}
		}
	}
}

// declare notes what a port of a pod speaks. If Services disagree, nothing
// says it.
func (s *Snapshot) declare(at netip.AddrPort, p stream.Protocol) {
	if had, ok := s.protocols[at]; ok && had != p && had != stream.Unknown {
		if p == stream.Unknown {
			return
		}
		p = stream.Unknown
	}
	s.protocols[at] = p
}

// protocolOf reads appProtocol (KEP-1507, KEP-3726). What is declared and is
// not HTTP in clear passes as bytes.
func protocolOf(app *string) stream.Protocol {
	if app == nil || *app == "" {
		return stream.Unknown
	}
	switch *app {
	case "http", "kubernetes.io/ws", "ws":
		return stream.HTTP1
	case "kubernetes.io/h2c", "h2c", "http2", "grpc":
		return stream.HTTP2
	}
	return stream.TCP
}

// serviceAddrs are the addresses that are the Service's alone.
func serviceAddrs(svc *corev1.Service) []netip.Addr {
	texts := append([]string{svc.Spec.ClusterIP}, svc.Spec.ClusterIPs...)
	texts = append(texts, svc.Spec.ExternalIPs...)
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		texts = append(texts, ingress.IP)
	}
	return parse(texts)
}

func nodeAddrs(node *corev1.Node) []netip.Addr {
	var texts []string
	for _, a := range node.Status.Addresses {
		texts = append(texts, a.Address)
	}
	return parse(texts)
}

// parse drops what is no address, such as None, a host name or nothing.
func parse(texts []string) []netip.Addr {
	var list []netip.Addr
	for _, t := range texts {
		if a, err := netip.ParseAddr(t); err == nil {
			list = append(list, a.Unmap())
		}
	}
	return list
}

// Pod returns the pod that is called NAMESPACE/NAME, or nil.
func (s *Snapshot) Pod(name string) *Pod {
	for _, p := range s.Pods {
		if p.Workload.String() == name {
			return p
		}
	}
	return nil
}
