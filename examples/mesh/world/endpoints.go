package world

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/podplumb/podplumb/examples/internal/manifest"
	"github.com/podplumb/podplumb/examples/mesh/stream"
)

// fromSlices returns the ready endpoints of a Service's port; while there are
// none, those that still serve on their way out (KEP-1669).
func (s *Snapshot) fromSlices(slices []*discoveryv1.EndpointSlice, port *corev1.ServicePort) []stream.Endpoint {
	var ready, leaving []stream.Endpoint
	for _, slice := range slices {
		for i := range slice.Ports {
			p := &slice.Ports[i]
			if p.Port == nil || value(p.Name) != port.Name || p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
				continue
			}
			for j := range slice.Endpoints {
				e := &slice.Endpoints[j]
				if len(e.Addresses) == 0 {
					continue
				}
				a, err := netip.ParseAddr(e.Addresses[0]) // the others are the same server
				if err != nil {
					continue
				}
				at := stream.Endpoint{Address: netip.AddrPortFrom(a, uint16(*p.Port)), Workload: s.workloads[a]}
				switch c := e.Conditions; {
				case c.Ready == nil || *c.Ready:
					ready = append(ready, at)
				case c.Serving != nil && *c.Serving && c.Terminating != nil && *c.Terminating:
					leaving = append(leaving, at)
				}
			}
		}
	}
	if len(ready) == 0 {
		return leaving
	}
	return ready
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// fromSelector returns the pods that a Service's selector chooses, where
// nobody has made EndpointSlices of it.
func (w *World) fromSelector(s *Snapshot, svc *corev1.Service, port *corev1.ServicePort) []stream.Endpoint {
	if len(svc.Spec.Selector) == 0 {
		return nil
	}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	var list []stream.Endpoint
	for _, p := range s.Pods {
		object := w.pods[name{p.Workload.Namespace, p.Workload.Name}]
		if object.Namespace != svc.Namespace || !selector.Matches(labels.Set(object.Labels)) || !isReady(object) {
			continue
		}
		n := targetPort(object, port)
		if n == 0 {
			continue
		}
		for _, a := range p.Workload.Addresses {
			list = append(list, stream.Endpoint{Address: netip.AddrPortFrom(a, n), Workload: p.Workload})
		}
	}
	return list
}

// isReady holds for a pod whose condition Ready is true, or that has none, as
// in a manifest.
func isReady(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return true
}

func targetPort(pod *corev1.Pod, port *corev1.ServicePort) uint16 {
	if port.TargetPort.Type == intstr.Int {
		if port.TargetPort.IntVal == 0 {
			return uint16(port.Port)
		}
		return uint16(port.TargetPort.IntVal)
	}
	for _, c := range manifest.Containers(&pod.Spec) {
		for _, p := range c.Ports {
			if p.Name == port.TargetPort.StrVal && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
				return uint16(p.ContainerPort)
			}
		}
	}
	return 0
}
