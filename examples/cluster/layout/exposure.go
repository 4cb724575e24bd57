package layout

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Node ports are assigned from here, as by the API server of most clusters.
const firstNodePort, lastNodePort = 30000, 32767

// arrangeExposure gives Services of type NodePort and LoadBalancer what the API server and a cloud's controller would: node
// ports, and an address for each family.
func (a *arranger) arrangeExposure() {
	ports := map[string]string{} // such as "TCP/30080", to the Service that has it
	for i := range a.cluster.Services {
		svc := &a.cluster.Services[i]
		for j, port := range svc.Spec.Ports {
			if port.NodePort == 0 {
				continue
			}
			key := fmt.Sprintf("%s/%d", port.Protocol, port.NodePort)
			if owner, ok := ports[key]; ok {
				a.fault(a.set.Fault(svc, fmt.Sprintf("spec.ports[%d].nodePort", j), "%s already belongs to Service %s", key, owner))
			}
			ports[key] = svc.Namespace + "/" + svc.Name
		}
	}
	owners := a.externalAddresses()
	free := []*allocator{{network: BalancerRanges[0], taken: owners}, {network: BalancerRanges[1], taken: owners}}
	for i := range a.cluster.Services {
		svc := &a.cluster.Services[i]
		a.nodePorts(svc, ports)
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && len(svc.Status.LoadBalancer.Ingress) == 0 {
			a.balancer(svc, free)
		}
		for _, addr := range external(svc) {
			a.cluster.Entries = append(a.cluster.Entries, Entry{Addr: addr, Node: a.entrance(svc)})
		}
	}
}

// externalAddresses collects those that the manifests name. Several Services may share one, with different ports.
func (a *arranger) externalAddresses() map[netip.Addr]string {
	owners := map[netip.Addr]string{}
	for i := range a.cluster.Services {
		svc := &a.cluster.Services[i]
		for _, addr := range external(svc) {
			owners[addr] = svc.Name
		}
		if addr, err := netip.ParseAddr(svc.Spec.LoadBalancerIP); err == nil {
			owners[addr] = svc.Name
		}
	}
	return owners
}

// external returns the addresses of a Service beside its cluster IPs.
func external(svc *corev1.Service) []netip.Addr {
	var list []netip.Addr
	for _, text := range svc.Spec.ExternalIPs {
		list = append(list, netip.MustParseAddr(text))
	}
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IP != "" && (in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP) {
			list = append(list, netip.MustParseAddr(in.IP))
		}
	}
	return list
}

func (a *arranger) nodePorts(svc *corev1.Service, taken map[string]string) {
	wants := svc.Spec.Type == corev1.ServiceTypeNodePort ||
		svc.Spec.Type == corev1.ServiceTypeLoadBalancer && (svc.Spec.AllocateLoadBalancerNodePorts == nil || *svc.Spec.AllocateLoadBalancerNodePorts)
	if !wants {
		return
	}
	for i := range svc.Spec.Ports {
		port := &svc.Spec.Ports[i]
		for number := int32(firstNodePort); port.NodePort == 0 && number <= lastNodePort; number++ {
			if key := fmt.Sprintf("%s/%d", port.Protocol, number); taken[key] == "" {
				taken[key], port.NodePort = svc.Namespace+"/"+svc.Name, number
			}
		}
		if port.NodePort == 0 {
			a.fault(a.set.Fault(svc, fmt.Sprintf("spec.ports[%d].nodePort", i), "none is left"))
		}
	}
}

// balancer gives a Service the address that it asks for, and one for every other family that it has.
func (a *arranger) balancer(svc *corev1.Service, free []*allocator) {
	for _, text := range svc.Spec.ClusterIPs {
		family := is6(netip.MustParseAddr(text))
		addr, ok := netip.Addr{}, true
		if wanted, err := netip.ParseAddr(svc.Spec.LoadBalancerIP); err == nil && is6(wanted) == family {
			addr = wanted
		} else {
			addr, ok = free[family].next(svc.Name)
		}
		if !ok {
			a.fault(a.set.Fault(svc, "status.loadBalancer", "no address is left in %s", BalancerRanges[family]))
			return
		}
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: addr.String()})
	}
}

// entrance is the node that gets what is meant for a Service: one that has a pod of it, as a load balancer finds out by
// asking for the nodes' health.
func (a *arranger) entrance(svc *corev1.Service) string {
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	for i := range a.cluster.Pods {
		p := &a.cluster.Pods[i]
		if len(svc.Spec.Selector) > 0 && p.Object.Namespace == svc.Namespace && selector.Matches(labels.Set(p.Object.Labels)) {
			return p.Node
		}
	}
	return a.cluster.Nodes[0].Name()
}
