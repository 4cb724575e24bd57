package service

import "net/netip"

// State is everything that decides what Services do on a node: the objects, and the few settings that Kubernetes keeps in a proxy's flags. The zero
// State serves nothing.
//
// A Service takes its endpoints from the EndpointSlices that name it. When there is none and it has a selector, they are chosen from Pods, as
// Kubernetes' EndpointSlice controller would choose them, with the hints that Spec.TrafficDistribution asks for; Nodes then tells the zone of a pod. (The
// annotation topology-mode, whose hints depend on the CPUs of every zone, only works through EndpointSlices.)
type State struct {
	Services       []Service
	EndpointSlices []EndpointSlice
	Pods           []Pod
	Nodes          []Node

	// PodRanges are the networks of the cluster's pods. Clients outside of them are masqueraded on their way through a cluster IP, and clients inside of
	// them count as the node's own under ExternalTrafficPolicy Local. Empty: nobody is known to be a pod, and cluster IPs masquerade nobody (but for
	// hairpins).
	PodRanges []netip.Prefix
	// ServiceRanges are the networks that cluster IPs are taken from. Packets to an address in them that no Service has are dropped. Empty: they pass.
	ServiceRanges []netip.Prefix
	// NodePorts says which addresses of the node serve node ports.
	NodePorts NodePortAddresses
	// MasqueradeAll masquerades every connection to a cluster IP.
	MasqueradeAll bool
	// ProxyName serves only the Services whose label LabelProxyName has this value. Empty: only those without the label.
	ProxyName string
}

// NodePortAddresses says which addresses of a node serve node ports. The zero value means every local address, in both families.
type NodePortAddresses struct {
	// Primary serves them on the node's first InternalIP of each family; a family without one has no node ports, unless In names a network of it.
	Primary bool
	// In serves them on the local addresses in these networks. As with kube-proxy, a family that In does not mention stays as it is without In.
	In []netip.Prefix
	// Localhost serves them on the node's loopback addresses as well, for connections that the node itself makes from 127.0.0.1 or ::1, in families in which
	// the node has an InternalIP; endpoints see an address of the node. kube-proxy does so for IPv4 by default (--iptables-localhost-nodeports).
	Localhost bool
}

const (
	defaultAffinitySeconds = 10800 // the API server's default for sessionAffinityConfig.clientIP.timeoutSeconds
	headless               = "None"
)

// served reports whether s has addresses for a proxy to serve: it is not headless, no ExternalName, and has got one.
func (s *Service) served() bool {
	return s.Spec.Type != TypeExternalName && s.clusterIP() != "" && s.clusterIP() != headless
}

func (s *Service) clusterIP() string {
	if s.Spec.ClusterIP == "" && len(s.Spec.ClusterIPs) > 0 {
		return s.Spec.ClusterIPs[0]
	}
	return s.Spec.ClusterIP
}

// clusterIPs returns every cluster IP that parses, at most one a family, in the Service's order.
func (s *Service) clusterIPs() []netip.Addr {
	given := s.Spec.ClusterIPs
	if len(given) == 0 {
		given = []string{s.Spec.ClusterIP}
	}
	addrs := make([]netip.Addr, 0, 2)
	for _, text := range given {
		if a, err := netip.ParseAddr(text); err == nil {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs
}

func (s *Service) kind() Type {
	if s.Spec.Type == "" {
		return TypeClusterIP
	}
	return s.Spec.Type
}

// internalLocal reports whether the cluster IPs use only endpoints on this node.
func (s *Service) internalLocal() bool {
	return s.Spec.InternalTrafficPolicy != nil && *s.Spec.InternalTrafficPolicy == PolicyLocal
}

// externalLocal reports whether clients from outside use only endpoints on this node.
func (s *Service) externalLocal() bool {
	return s.Spec.ExternalTrafficPolicy == PolicyLocal &&
		(s.kind() == TypeNodePort || s.kind() == TypeLoadBalancer || len(s.Spec.ExternalIPs) > 0)
}

// affinitySeconds returns 0 when the Service has no session affinity.
func (s *Service) affinitySeconds() int32 {
	if s.Spec.SessionAffinity != AffinityClientIP {
		return 0
	}
	if c := s.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		return *c.ClientIP.TimeoutSeconds
	}
	return defaultAffinitySeconds
}

// vips returns the load balancer addresses that packets still carry when they reach a node. Some load balancers report addresses that mean something
// else on every machine, such as 127.0.0.1: those are theirs to serve.
func (s *Service) vips() []netip.Addr {
	var addrs []netip.Addr
	for _, in := range s.Status.LoadBalancer.Ingress {
		if in.IPMode != nil && *in.IPMode != ModeVIP {
			continue
		}
		if a, err := netip.ParseAddr(in.IP); err == nil && unfit(a.Unmap()) == "" {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs
}

func (p *Port) protocol() Protocol { return orTCP(p.Protocol) }

func (p *Port) target() PortRef {
	if p.TargetPort == (PortRef{}) {
		return PortRef{Number: p.Port}
	}
	return p.TargetPort
}

func orTCP(p Protocol) Protocol {
	if p == "" {
		return TCP
	}
	return p
}
