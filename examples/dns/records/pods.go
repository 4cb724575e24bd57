package records

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// SetPod adds or replaces a pod. Pods are endpoints of the Services that select them as long as such a Service has no
// EndpointSlice: that is for clusters without a controller that makes those.
func (e *Edit) SetPod(pod *corev1.Pod) {
	e.touchSelecting(pod.Namespace)
	e.store.pods[key{pod.Namespace, pod.Name}] = pod
}

// DropPod removes a pod; it need not be there.
func (e *Edit) DropPod(namespace, name string) {
	e.touchSelecting(namespace)
	delete(e.store.pods, key{namespace, name})
}

func (e *Edit) touchSelecting(namespace string) {
	for k, svc := range e.store.services {
		if k.namespace == namespace && len(svc.Spec.Selector) > 0 && len(e.store.slices[k]) == 0 {
			e.touched[k] = true
		}
	}
}

// selected lists the endpoints that a Service has by its selector, in the order of the pods' names.
func (s *Store) selected(svc *corev1.Service) []endpoint {
	if len(svc.Spec.Selector) == 0 {
		return nil
	}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	var all []endpoint
	for _, k := range slices.SortedFunc(maps.Keys(s.pods), func(a, b key) int { return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name)) }) {
		pod := s.pods[k]
		if k.namespace != svc.Namespace || !selector.Matches(labels.Set(pod.Labels)) {
			continue
		}
		if !svc.Spec.PublishNotReadyAddresses && !ready(pod) || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		ports := podPorts(svc, pod)
		if len(ports) == 0 && len(svc.Spec.Ports) > 0 {
			continue
		}
		for _, text := range podIPs(pod) {
			a, err := netip.ParseAddr(text)
			if err != nil {
				continue
			}
			label := dashes.Replace(text)
			if pod.Spec.Hostname != "" && pod.Spec.Subdomain == svc.Name {
				label = pod.Spec.Hostname
			}
			all = append(all, endpoint{label, a.Unmap(), ports})
		}
	}
	return all
}

func ready(pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func podIPs(pod *corev1.Pod) []string {
	var all []string
	for _, ip := range pod.Status.PodIPs {
		all = append(all, ip.IP)
	}
	if len(all) == 0 && pod.Status.PodIP != "" {
		all = []string{pod.Status.PodIP}
	}
	return all
}

// podPorts are the Service's ports that the pod has: a named one may have any number, or be missing.
func podPorts(svc *corev1.Service, pod *corev1.Pod) []port {
	if len(svc.Spec.Ports) == 0 {
		return []port{{}}
	}
	var ports []port
	for i := range svc.Spec.Ports {
		p := &svc.Spec.Ports[i]
		number := p.Port
		switch {
		case p.TargetPort.Type == intstr.String:
			number = named(pod, p)
		case p.TargetPort.IntVal != 0:
			number = p.TargetPort.IntVal
		}
		if number != 0 {
			ports = append(ports, port{p.Name, protocol(p.Protocol), uint16(number)})
		}
	}
	return ports
}

func named(pod *corev1.Pod, p *corev1.ServicePort) int32 {
	for i := range pod.Spec.Containers {
		for _, c := range pod.Spec.Containers[i].Ports {
			if c.Name == p.TargetPort.StrVal && protocol(c.Protocol) == protocol(p.Protocol) {
				return c.ContainerPort
			}
		}
	}
	return 0
}
