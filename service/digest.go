package service

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// svc is a Service as resolving needs it.
type svc struct {
	name      Name
	served    bool
	selector  []pair
	cluster   []netip.Addr // every valid cluster IP, served or not: nobody else may have it
	external  []netip.Addr
	vips      []netip.Addr
	sources   []netip.Prefix
	ports     []svcPort
	proxyName string
	spread    TrafficDistribution
	affinity  time.Duration
	publish   bool
	extLocal  bool
	inLocal   bool
	health    uint16 // health check node port, 0: none
}

type svcPort struct {
	name     string
	protocol Protocol
	port     uint16
	node     uint16 // node port, 0: none
	target   PortRef
}

type pair struct{ key, value string }

func newSvc(s *Service) *svc {
	d := &svc{
		name: s.Key(), proxyName: s.Labels[LabelProxyName], served: s.served(),
		cluster: s.clusterIPs(), vips: s.vips(),
		affinity: time.Duration(s.affinitySeconds()) * time.Second,
		publish:  s.Spec.PublishNotReadyAddresses, extLocal: s.externalLocal(), inLocal: s.internalLocal(),
	}
	if d.served {
		for k, v := range s.Spec.Selector {
			d.selector = append(d.selector, pair{k, v})
		}
		slices.SortFunc(d.selector, func(a, b pair) int { return cmp.Compare(a.key, b.key) })
	}
	if s.kind() == TypeLoadBalancer && d.extLocal {
		d.health = number(s.Spec.HealthCheckNodePort)
	}
	if s.Spec.TrafficDistribution != nil {
		d.spread = *s.Spec.TrafficDistribution
	}
	for _, text := range s.Spec.ExternalIPs {
		if a, err := netip.ParseAddr(text); err == nil {
			d.external = append(d.external, a.Unmap())
		}
	}
	for _, text := range s.Spec.LoadBalancerSourceRanges {
		if p, err := netip.ParsePrefix(strings.TrimSpace(text)); err == nil { // the API server lets spaces pass
			d.sources = append(d.sources, p.Masked())
		}
	}
	d.ports = make([]svcPort, len(s.Spec.Ports))
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		d.ports[i] = svcPort{name: p.Name, protocol: p.protocol(), port: number(p.Port), node: number(p.NodePort), target: p.target()}
	}
	return d
}

// pick returns the label under which the Service is indexed.
func (s *svc) pick() label { return label{s.name.Namespace, s.selector[0].key, s.selector[0].value} }

func (s *svc) selects(p *pod) bool {
	if len(s.selector) == 0 || s.name.Namespace != p.name.Namespace {
		return false
	}
	for _, kv := range s.selector {
		if v, ok := p.labels[kv.key]; !ok || v != kv.value {
			return false
		}
	}
	return true
}

// slice is an EndpointSlice as resolving needs it.
type slice struct {
	name      Name
	service   Name
	family    int
	ports     []slicePort
	endpoints []candidate
}

type slicePort struct {
	name     string
	protocol Protocol
	port     uint16
}

// candidate is an endpoint before the Service's policies have looked at it.
type candidate struct {
	addr        netip.AddrPort // in a slice, the port is 0
	node        string
	forZones    []string
	forNodes    []string
	ready       bool
	serving     bool
	terminating bool
}

// draining reports whether c may be used when nothing is ready.
func (c *candidate) draining() bool { return c.serving && c.terminating }

func newSlice(s *EndpointSlice) *slice {
	d := &slice{name: s.Key(), service: s.service()}
	switch s.AddressType {
	case AddressIPv6:
		d.family = v6
	case AddressFQDN:
		return d
	}
	for _, p := range s.Ports {
		if p.Port == nil || *p.Port == 0 {
			continue
		}
		sp := slicePort{protocol: TCP, port: number(*p.Port)}
		if p.Name != nil {
			sp.name = *p.Name
		}
		if p.Protocol != nil {
			sp.protocol = orTCP(*p.Protocol)
		}
		d.ports = append(d.ports, sp)
	}
	d.endpoints = make([]candidate, 0, len(s.Endpoints))
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		if len(e.Addresses) == 0 {
			continue
		}
		a, err := netip.ParseAddr(e.Addresses[0])
		if err != nil {
			continue
		}
		c := candidate{
			addr: netip.AddrPortFrom(a.Unmap(), 0), ready: is(e.Conditions.Ready, true), serving: is(e.Conditions.Serving, true),
			terminating: is(e.Conditions.Terminating, false),
		}
		if e.NodeName != nil {
			c.node = *e.NodeName
		}
		if h := e.Hints; h != nil {
			for _, z := range h.ForZones {
				c.forZones = append(c.forZones, z.Name)
			}
			for _, n := range h.ForNodes {
				c.forNodes = append(c.forNodes, n.Name)
			}
		}
		d.endpoints = append(d.endpoints, c)
	}
	return d
}

func is(b *bool, otherwise bool) bool {
	if b == nil {
		return otherwise
	}
	return *b
}

// pod is a Pod as resolving needs it.
type pod struct {
	name        Name
	labels      map[string]string
	node        string
	addrs       [2]netip.Addr // first of each family
	ready       bool
	terminating bool
	ended       bool // succeeded or failed: never an endpoint
	ports       []slicePort
}

func newPod(p *Pod) *pod {
	d := &pod{
		name: p.Key(), labels: p.Labels, node: p.Spec.NodeName, terminating: p.DeletionTimestamp != nil,
		ended: p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed",
	}
	ips := p.Status.PodIPs
	if len(ips) == 0 && p.Status.PodIP != "" {
		ips = []PodIP{{IP: p.Status.PodIP}}
	}
	for _, ip := range ips {
		if a, err := netip.ParseAddr(ip.IP); err == nil && !d.addrs[family(a.Unmap())].IsValid() {
			d.addrs[family(a.Unmap())] = a.Unmap()
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			d.ready = c.Status == "True"
			break
		}
	}
	for i := range p.Spec.Containers {
		d.takePorts(&p.Spec.Containers[i])
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == "Always" {
			d.takePorts(c)
		}
	}
	return d
}

// takePorts takes in the ports that a container names.
func (p *pod) takePorts(c *Container) {
	for _, port := range c.Ports {
		if port.Name != "" {
			p.ports = append(p.ports, slicePort{port.Name, orTCP(port.Protocol), number(port.ContainerPort)})
		}
	}
}

// port returns the port of the pod that a Service's port means; 0 when the pod has none of that name.
func (p *pod) port(sp *svcPort) uint16 {
	if sp.target.Name == "" {
		return number(sp.target.Number)
	}
	for _, have := range p.ports {
		if have.name == sp.target.Name && have.protocol == sp.protocol {
			return have.port
		}
	}
	return 0
}

// number returns a port number; 0 for what is none, so that it is no other's either.
func number(n int32) uint16 {
	if n < 1 || n > 65535 {
		return 0
	}
	return uint16(n)
}
