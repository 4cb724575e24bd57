package stream

import (
	"net/netip"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Resolver knows the Services and pods of the cluster as they are now. What it
// returns is shared and never changes; ask again for each request. It may be
// called from several goroutines at once.
type Resolver interface {
	// Resolve tells what is behind an address that a client meant to go to. An
	// address that is no Service's gives a Backend without Service whose only
	// Endpoint is that address.
	Resolve(to netip.AddrPort) Backend

	// Service returns the Service's port with that number, for routes that
	// name their backends; ok is false if there is none. Its Endpoints are
	// those of the family of like, where the Service has any of it.
	Service(namespace, name string, port uint16, like netip.Addr) (b Backend, ok bool)
}

// Backend is a port of a Service, or a single address.
type Backend struct {
	Service  *Service // nil for an address that is no Service's
	Port     Port
	Protocol Protocol // as the Service or the pod declares; Unknown if neither does

	// Endpoints are the ready ones. A Service without any has none.
	Endpoints []Endpoint
}

// Service is a Kubernetes Service.
type Service struct {
	Namespace, Name string
}

func (s *Service) String() string { return s.Namespace + "/" + s.Name }

// Port is a port of a Service.
type Port struct {
	Name   string
	Number uint16
}

// Endpoint is one server.
type Endpoint struct {
	Address  netip.AddrPort
	Workload *Workload // nil for what is no pod of the cluster
}

// Target is what to hand to a Dialer in order to reach the Endpoint: under its
// identity if it is in the mesh, else in clear.
func (e Endpoint) Target(p Protocol) Target {
	t := Target{Address: e.Address, Protocol: p}
	if e.Workload != nil && e.Workload.Meshed {
		t.Peer = e.Workload.ID
	}
	return t
}

// Workload is a pod.
type Workload struct {
	Namespace, Name string
	ServiceAccount  string
	Node            string
	Labels          map[string]string
	Addresses       []netip.Addr

	// ID is spiffe://TRUSTDOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT.
	ID spiffeid.ID

	// Meshed says that a proxy is in front of it, which expects mutual TLS.
	Meshed bool
}

func (w *Workload) String() string { return w.Namespace + "/" + w.Name }
