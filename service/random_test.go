package service_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/podplumb/podplumb/service"
)

// randomWorld is a small cluster that changes at random, always valid.
type randomWorld struct {
	r        *rand.Rand
	services map[string]service.Service
	slices   map[string]service.EndpointSlice
	pods     map[string]service.Pod
	nodes    map[string]service.Node
	plain    bool // only what the NAT backend serves
}

func newRandomWorld(r *rand.Rand) *randomWorld {
	w := &randomWorld{r: r, services: map[string]service.Service{}, slices: map[string]service.EndpointSlice{}, pods: map[string]service.Pod{}, nodes: map[string]service.Node{}}
	w.nodes["a"] = nodeA
	for range 30 {
		w.change()
	}
	return w
}

func (w *randomWorld) state() service.State {
	return service.State{
		Services: sorted(w.services), EndpointSlices: sorted(w.slices), Pods: sorted(w.pods), Nodes: sorted(w.nodes),
		PodRanges:     []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")},
		ServiceRanges: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		NodePorts:     service.NodePortAddresses{In: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
	}
}

func sorted[V any](m map[string]V) []V {
	var list []V
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[k])
	}
	return list
}

func (w *randomWorld) flip() bool { return w.r.IntN(2) == 0 }

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// change alters one to three objects and returns that as Changes.
func (w *randomWorld) change() service.Changes {
	var c service.Changes
	for range 1 + w.r.IntN(3) {
		n := fmt.Sprintf("o%d", w.r.IntN(6))
		name := service.Name{Namespace: "default", Name: n}
		gone := w.r.IntN(4) == 0
		switch w.r.IntN(4) {
		case 0:
			c.Services = slices.DeleteFunc(c.Services, func(s service.Service) bool { return s.Name == n })
			c.DropServices = slices.DeleteFunc(c.DropServices, func(d service.Name) bool { return d == name })
			if gone {
				delete(w.services, n)
				c.DropServices = append(c.DropServices, name)
			} else {
				w.services[n] = w.service(n)
				c.Services = append(c.Services, w.services[n])
			}
		case 1:
			c.EndpointSlices = slices.DeleteFunc(c.EndpointSlices, func(s service.EndpointSlice) bool { return s.Name == n })
			c.DropEndpointSlices = slices.DeleteFunc(c.DropEndpointSlices, func(d service.Name) bool { return d == name })
			if gone || w.flip() { // fewer slices than the rest, so that selectors get their turn
				delete(w.slices, n)
				c.DropEndpointSlices = append(c.DropEndpointSlices, name)
			} else {
				w.slices[n] = w.slice(n)
				c.EndpointSlices = append(c.EndpointSlices, w.slices[n])
			}
		case 2:
			c.Pods = slices.DeleteFunc(c.Pods, func(s service.Pod) bool { return s.Name == n })
			c.DropPods = slices.DeleteFunc(c.DropPods, func(d service.Name) bool { return d == name })
			if gone {
				delete(w.pods, n)
				c.DropPods = append(c.DropPods, name)
			} else {
				w.pods[n] = w.pod(n)
				c.Pods = append(c.Pods, w.pods[n])
			}
		case 3:
			n := pick(w.r, "b", "c", "d")
			c.Nodes = slices.DeleteFunc(c.Nodes, func(s service.Node) bool { return s.Name == n })
			c.DropNodes = slices.DeleteFunc(c.DropNodes, func(d string) bool { return d == n })
			if gone {
				delete(w.nodes, n)
				c.DropNodes = append(c.DropNodes, n)
			} else {
				w.nodes[n] = service.Node{Meta: service.Meta{Name: n, Labels: map[string]string{service.LabelZone: pick(w.r, "z1", "z2")}}}
				c.Nodes = append(c.Nodes, w.nodes[n])
			}
		}
	}
	return c
}

func (w *randomWorld) service(n string) service.Service {
	digit := n[1:]
	s := service.Service{Meta: object(n), Spec: service.Spec{
		Type:       pick(w.r, service.TypeClusterIP, service.TypeNodePort),
		ClusterIPs: []string{"10.96.0.1" + digit, "fd00:96::1" + digit}[:1+w.r.IntN(2)],
		Selector:   map[string]string{"app": pick(w.r, "x", "y")},
		Ports: []service.Port{
			{Name: "http", Port: 80, TargetPort: pick(w.r, service.PortRef{Number: 8080}, service.PortRef{Name: "http"})},
			{Name: "dns", Port: 53, Protocol: service.UDP},
		}[:1+w.r.IntN(2)],
		PublishNotReadyAddresses: w.r.IntN(4) == 0,
	}}
	if w.flip() {
		s.Spec.Selector["tier"] = "front"
	}
	if s.Spec.Type == service.TypeNodePort {
		s.Spec.Ports[0].NodePort = int32(30000 + int(digit[0]))
		s.Spec.ExternalTrafficPolicy = pick(w.r, service.PolicyCluster, service.PolicyLocal)
		if s.Spec.ExternalTrafficPolicy == service.PolicyLocal && w.flip() {
			s.Spec.Type, s.Spec.HealthCheckNodePort = service.TypeLoadBalancer, int32(31000+int(digit[0]))
		}
	}
	if w.flip() {
		p := pick(w.r, service.PolicyCluster, service.PolicyLocal)
		s.Spec.InternalTrafficPolicy = &p
	}
	if w.flip() {
		d := pick(w.r, service.PreferClose, service.PreferSameNode, service.PreferSameZone)
		s.Spec.TrafficDistribution = &d
	}
	if w.r.IntN(4) == 0 {
		s.Spec.SessionAffinity = service.AffinityClientIP
	}
	if w.r.IntN(8) == 0 {
		s.Spec.ClusterIPs, s.Spec.ClusterIP, s.Spec.Type, s.Spec.ExternalTrafficPolicy = nil, "None", "", ""
		s.Spec.HealthCheckNodePort = 0
		s.Spec.Ports[0].NodePort = 0
	}
	if w.plain {
		return onlyNAT(s)
	}
	return s
}

// onlyNAT takes from a Service what the NAT backend does not serve.
func onlyNAT(s service.Service) service.Service {
	if s.Spec.Type != "" {
		s.Spec.Type = service.TypeNodePort
	}
	s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = "", 0
	return s
}

// nodePorts counts the IPv4 node ports that are served.
func (w *randomWorld) nodePorts() int {
	n := 0
	for _, s := range w.services {
		if len(s.Spec.ClusterIPs) > 0 && s.Spec.Ports[0].NodePort != 0 {
			n++
		}
	}
	return n
}

func (w *randomWorld) slice(n string) service.EndpointSlice {
	port, dns, udp, http := int32(8080), int32(53), service.UDP, "http"
	name := "dns"
	m := object(n)
	m.Labels = map[string]string{service.LabelServiceName: fmt.Sprintf("o%d", w.r.IntN(6))}
	s := service.EndpointSlice{Meta: m, AddressType: service.AddressIPv4, Ports: []service.SlicePort{{Name: &http, Port: &port}, {Name: &name, Port: &dns, Protocol: &udp}}}
	at := "10.244.0.%d"
	if w.flip() {
		s.AddressType, at = service.AddressIPv6, "fd00:10:244::%d"
	}
	for range w.r.IntN(4) {
		node := pick(w.r, "a", "b", "c")
		e := service.SliceEndpoint{Addresses: []string{fmt.Sprintf(at, 1+w.r.IntN(5))}, NodeName: &node}
		ready, serving, terminating := w.flip(), w.flip(), w.flip()
		e.Conditions = service.Conditions{Ready: &ready, Serving: &serving, Terminating: &terminating}
		if w.flip() {
			e.Hints = &service.Hints{ForZones: []service.ForZone{{Name: pick(w.r, "z1", "z2")}}, ForNodes: []service.ForNode{{Name: node}}[:w.r.IntN(2)]}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

func (w *randomWorld) pod(n string) service.Pod {
	m := object(n)
	m.Labels = map[string]string{"app": pick(w.r, "x", "y"), "tier": pick(w.r, "front", "back")}
	if w.r.IntN(4) == 0 {
		now := time.Unix(1, 0)
		m.DeletionTimestamp = &now
	}
	digit := n[1:]
	return service.Pod{Meta: m,
		Spec: service.PodSpec{NodeName: pick(w.r, "", "a", "b", "c"), Containers: []service.Container{{Name: "c", Ports: []service.ContainerPort{{Name: pick(w.r, "http", "other"), ContainerPort: 80}}}}},
		Status: service.PodStatus{Phase: pick(w.r, "Running", "Running", "Running", "Failed"), PodIPs: []service.PodIP{{IP: "10.244.1." + digit}, {IP: "fd00:10:244:1::" + digit}}[:w.r.IntN(3)],
			Conditions: []service.PodCondition{{Type: "Ready", Status: pick(w.r, "True", "True", "False")}}},
	}
}
