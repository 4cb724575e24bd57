package upstream

import (
	"math/rand/v2"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/podplumb/podplumb/examples/ingress/route"
)

// rest is how long an endpoint is passed over after no connection could be made to it.
const rest = time.Second

// Protocol is what an endpoint speaks (KEP-3726, and Service.spec.ports.appProtocol).
type Protocol uint8

// The protocols.
const (
	HTTP1 Protocol = iota
	H2C            // HTTP/2 without TLS
	HTTPS          // HTTP/1 or HTTP/2 over TLS, the certificate is not checked: nothing says what it should be
)

func (p Protocol) String() string {
	switch p {
	case HTTP1:
		return "HTTP/1"
	case H2C:
		return "h2c"
	case HTTPS:
		return "HTTPS"
	}
	return "unknown"
}

// Endpoint is one server of a backend.
type Endpoint struct {
	Address  netip.AddrPort
	Protocol Protocol

	underWay atomic.Int64
	restTill atomic.Int64 // nanoseconds of time.Now
}

func (e *Endpoint) resting(now time.Time) bool { return now.UnixNano() < e.restTill.Load() }

// Set knows the endpoints of all backends. The zero Set knows none.
type Set struct {
	services map[name]*corev1.Service
	ports    map[portOf][]*Endpoint
	all      map[identity]*Endpoint
}

type name struct{ namespace, name string }

type portOf struct {
	service name
	port    string // its name
}

type identity struct {
	address  netip.AddrPort
	protocol Protocol
}

// NewSet makes a Set; endpoints that old has too are the same ones. Endpoints count if they are ready.
func NewSet(old *Set, services []*corev1.Service, slices []*discoveryv1.EndpointSlice) *Set {
	s := &Set{services: map[name]*corev1.Service{}, ports: map[portOf][]*Endpoint{}, all: map[identity]*Endpoint{}}
	for _, svc := range services {
		s.services[name{svc.Namespace, svc.Name}] = svc
	}
	for _, slice := range slices {
		owner := name{slice.Namespace, slice.Labels[discoveryv1.LabelServiceName]}
		svc := s.services[owner]
		if svc == nil || slice.AddressType == discoveryv1.AddressTypeFQDN {
			continue
		}
		for i := range slice.Ports {
			s.addPort(old, owner, slice, &slice.Ports[i], protocolOf(svc, &slice.Ports[i]))
		}
	}
	return s
}

func (s *Set) addPort(old *Set, owner name, slice *discoveryv1.EndpointSlice, p *discoveryv1.EndpointPort, protocol Protocol) {
	if p.Port == nil || p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
		return
	}
	key := portOf{service: owner}
	if p.Name != nil {
		key.port = *p.Name
	}
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		if e.Conditions.Ready != nil && !*e.Conditions.Ready || len(e.Addresses) == 0 {
			continue
		}
		address, err := netip.ParseAddr(e.Addresses[0]) // the others are the same server
		if err != nil {
			continue
		}
		s.ports[key] = append(s.ports[key], s.endpoint(old, identity{netip.AddrPortFrom(address, uint16(*p.Port)), protocol}))
	}
}

func (s *Set) endpoint(old *Set, id identity) *Endpoint {
	if e := s.all[id]; e != nil {
		return e
	}
	var e *Endpoint
	if old != nil {
		e = old.all[id]
	}
	if e == nil {
		e = &Endpoint{Address: id.address, Protocol: id.protocol}
	}
	s.all[id] = e
	return e
}

func protocolOf(svc *corev1.Service, p *discoveryv1.EndpointPort) Protocol {
	application := p.AppProtocol
	for i := range svc.Spec.Ports {
		sp := &svc.Spec.Ports[i]
		if application == nil && (p.Name == nil && sp.Name == "" || p.Name != nil && *p.Name == sp.Name) {
			application = sp.AppProtocol
		}
	}
	if application == nil {
		return HTTP1
	}
	switch *application {
	case "kubernetes.io/h2c", "h2c", "grpc":
		return H2C
	case "https", "kubernetes.io/wss":
		return HTTPS
	}
	return HTTP1
}

// Endpoints returns those of a backend, and whether there is such a Service and port at all.
func (s *Set) Endpoints(b route.Backend) ([]*Endpoint, bool) {
	if s == nil {
		return nil, false
	}
	owner := name{b.Namespace, b.Service}
	svc := s.services[owner]
	if svc == nil {
		return nil, false
	}
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			continue // the same number may be there for UDP too
		}
		if p.Name == b.Port || strconv.Itoa(int(p.Port)) == b.Port {
			return s.ports[portOf{owner, p.Name}], true
		}
	}
	return nil, false
}

// pick takes an endpoint that was not tried, and of two the one with less to do; nil when all were tried. One that rests
// is taken only when all do.
func pick(endpoints, tried []*Endpoint, now time.Time) *Endpoint {
	var first, second, resting *Endpoint
	at := 0
	if len(endpoints) > 0 {
		at = rand.IntN(len(endpoints)) //nolint:gosec // to spread requests
	}
	for i := range endpoints {
		e := endpoints[(at+i)%len(endpoints)]
		switch {
		case contains(tried, e):
		case e.resting(now):
			resting = e
		case first == nil:
			first = e
			at += rand.IntN(len(endpoints)) //nolint:gosec // the second is not always the first's neighbour
		case second == nil && e != first:
			second = e
		}
		if second != nil {
			break
		}
	}
	switch {
	case first == nil:
		return resting
	case second != nil && second.underWay.Load() < first.underWay.Load():
		return second
	}
	return first
}

func contains(list []*Endpoint, e *Endpoint) bool {
	for _, other := range list {
		if other == e {
			return true
		}
	}
	return false
}
