package main

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/podplumb/podplumb/service"
)

// The types of package service have the JSON of Kubernetes'. Going through it would take a hundred times as long as copying
// the fields that a proxy looks at.

func meta(m *metav1.ObjectMeta) service.Meta {
	to := service.Meta{Name: m.Name, Namespace: m.Namespace, Labels: m.Labels, CreationTimestamp: m.CreationTimestamp.Time}
	if m.DeletionTimestamp != nil {
		to.DeletionTimestamp = &m.DeletionTimestamp.Time
	}
	return to
}

func serviceFrom(s *corev1.Service) *service.Service {
	spec := &s.Spec
	to := &service.Service{Meta: meta(&s.ObjectMeta), Spec: service.Spec{
		Selector: spec.Selector, ClusterIP: spec.ClusterIP, ClusterIPs: spec.ClusterIPs, Type: service.Type(spec.Type), ExternalIPs: spec.ExternalIPs,
		SessionAffinity: service.Affinity(spec.SessionAffinity), LoadBalancerIP: spec.LoadBalancerIP, LoadBalancerSourceRanges: spec.LoadBalancerSourceRanges,
		ExternalName: spec.ExternalName, ExternalTrafficPolicy: service.TrafficPolicy(spec.ExternalTrafficPolicy), HealthCheckNodePort: spec.HealthCheckNodePort,
		PublishNotReadyAddresses: spec.PublishNotReadyAddresses, AllocateLoadBalancerNodePorts: spec.AllocateLoadBalancerNodePorts,
		LoadBalancerClass:     spec.LoadBalancerClass,
		IPFamilyPolicy:        as[service.IPFamilyPolicy](spec.IPFamilyPolicy),
		InternalTrafficPolicy: as[service.TrafficPolicy](spec.InternalTrafficPolicy),
		TrafficDistribution:   as[service.TrafficDistribution](spec.TrafficDistribution),
	}}
	for _, f := range spec.IPFamilies {
		to.Spec.IPFamilies = append(to.Spec.IPFamilies, service.IPFamily(f))
	}
	if c := spec.SessionAffinityConfig; c != nil {
		to.Spec.SessionAffinityConfig = &service.AffinityConfig{}
		if c.ClientIP != nil {
			to.Spec.SessionAffinityConfig.ClientIP = &service.ClientIPConfig{TimeoutSeconds: c.ClientIP.TimeoutSeconds}
		}
	}
	for _, p := range spec.Ports {
		target := service.PortRef{Number: p.TargetPort.IntVal}
		if p.TargetPort.Type == intstr.String {
			target = service.PortRef{Name: p.TargetPort.StrVal}
		}
		to.Spec.Ports = append(to.Spec.Ports, service.Port{
			Name: p.Name, Protocol: service.Protocol(p.Protocol), AppProtocol: p.AppProtocol, Port: p.Port, TargetPort: target, NodePort: p.NodePort,
		})
	}
	for _, in := range s.Status.LoadBalancer.Ingress {
		to.Status.LoadBalancer.Ingress = append(to.Status.LoadBalancer.Ingress, service.Ingress{IP: in.IP, Hostname: in.Hostname, IPMode: as[service.IPMode](in.IPMode)})
	}
	return to
}

func sliceFrom(s *discoveryv1.EndpointSlice) *service.EndpointSlice {
	to := &service.EndpointSlice{Meta: meta(&s.ObjectMeta), AddressType: service.AddressType(s.AddressType)}
	to.Endpoints = make([]service.SliceEndpoint, len(s.Endpoints))
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		to.Endpoints[i] = service.SliceEndpoint{
			Addresses: e.Addresses, NodeName: e.NodeName, Zone: e.Zone,
			Conditions: service.Conditions{Ready: e.Conditions.Ready, Serving: e.Conditions.Serving, Terminating: e.Conditions.Terminating},
		}
		if e.Hints != nil {
			hints := &service.Hints{}
			for _, z := range e.Hints.ForZones {
				hints.ForZones = append(hints.ForZones, service.ForZone{Name: z.Name})
			}
			for _, n := range e.Hints.ForNodes {
				hints.ForNodes = append(hints.ForNodes, service.ForNode{Name: n.Name})
			}
			to.Endpoints[i].Hints = hints
		}
	}
	to.Ports = make([]service.SlicePort, 0, len(s.Ports))
	for _, p := range s.Ports {
		to.Ports = append(to.Ports, service.SlicePort{Name: p.Name, Port: p.Port, Protocol: as[service.Protocol](p.Protocol), AppProtocol: p.AppProtocol})
	}
	return to
}

func nodeFrom(n *corev1.Node) *service.Node {
	to := &service.Node{Meta: meta(&n.ObjectMeta), Spec: service.NodeSpec{PodCIDR: n.Spec.PodCIDR, PodCIDRs: n.Spec.PodCIDRs}}
	for _, a := range n.Status.Addresses {
		to.Status.Addresses = append(to.Status.Addresses, service.NodeAddress{Type: string(a.Type), Address: a.Address})
	}
	return to
}

// as converts a pointer to one kind of string into a pointer to another.
func as[To, From ~string](p *From) *To {
	if p == nil {
		return nil
	}
	to := To(*p)
	return &to
}

// toBeDeleted is the taint by which the cluster autoscaler announces that a node goes.
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// staying reports whether load balancers may send connections to the node.
func staying(n *corev1.Node) bool {
	if n.DeletionTimestamp != nil {
		return false
	}
	for _, t := range n.Spec.Taints {
		if t.Key == toBeDeleted {
			return false
		}
	}
	return true
}

// trigger returns when the endpoints had changed that a slice tells of. The zero time: it does not say.
func trigger(s *discoveryv1.EndpointSlice) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s.Annotations[corev1.EndpointsLastChangeTriggerTime])
	if err != nil {
		return time.Time{}
	}
	return t
}
