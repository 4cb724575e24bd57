package layout

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// arrangeServices assigns cluster IPs as the API server does: one of IPv4, unless the Service asks for other families.
func (a *arranger) arrangeServices() {
	owners := map[netip.Addr]string{}
	for _, whole := range ServiceRanges {
		owners[whole.Addr().Next()] = "default/kubernetes" // where the API server of every cluster is
	}
	var services []*corev1.Service
	for i := range a.set.Services {
		svc := a.set.Services[i].DeepCopy()
		switch {
		case svc.Spec.Type == corev1.ServiceTypeExternalName, svc.Spec.ClusterIP == corev1.ClusterIPNone:
			a.cluster.Names = append(a.cluster.Names, *svc)
			continue
		}
		for j, text := range svc.Spec.ClusterIPs {
			addr := netip.MustParseAddr(text)
			field := fmt.Sprintf("spec.clusterIPs[%d]", j)
			if owner, ok := owners[addr]; ok {
				a.fault(a.set.Fault(svc, field, "%s already belongs to Service %s", addr, owner))
			}
			for _, underlay := range a.cluster.Underlay {
				if underlay.Range.Contains(addr) {
					a.fault(a.set.Fault(svc, field, "%s lies in the nodes' own network %s", addr, underlay.Range))
				}
			}
			for _, cidr := range a.cluster.PodRanges {
				if cidr.Contains(addr) {
					a.fault(a.set.Fault(svc, field, "%s lies in the pods' range %s", addr, cidr))
				}
			}
			owners[addr] = svc.Namespace + "/" + svc.Name
		}
		services = append(services, svc)
	}
	a.cluster.ServiceRanges = append(a.cluster.ServiceRanges, ServiceRanges...)
	free := []*allocator{{network: ServiceRanges[0], taken: owners}, {network: ServiceRanges[1], taken: owners}}
	for _, svc := range services {
		families := familiesOf(svc)
		for len(svc.Spec.ClusterIPs) < len(families) {
			family := families[len(svc.Spec.ClusterIPs)]
			addr, ok := free[family].next(svc.Namespace + "/" + svc.Name)
			if !ok {
				a.fault(a.set.Fault(svc, "spec.clusterIP", "no address is left in %s", ServiceRanges[family]))
				break
			}
			svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs, addr.String())
		}
		if len(svc.Spec.ClusterIPs) == 0 {
			continue
		}
		svc.Spec.ClusterIP = svc.Spec.ClusterIPs[0]
		svc.Spec.IPFamilies = nil
		for _, text := range svc.Spec.ClusterIPs {
			addr := netip.MustParseAddr(text)
			svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}[is6(addr)])
			if !ServiceRanges[is6(addr)].Contains(addr) {
				a.cluster.ServiceRanges = append(a.cluster.ServiceRanges, netip.PrefixFrom(addr, addr.BitLen()))
			}
		}
		a.cluster.Services = append(a.cluster.Services, *svc)
	}
}

// familiesOf returns the families of a Service's addresses in order, 0 for IPv4 and 1 for IPv6.
func familiesOf(svc *corev1.Service) []int {
	var families []int
	for _, text := range svc.Spec.ClusterIPs {
		families = append(families, is6(netip.MustParseAddr(text)))
	}
	for _, family := range svc.Spec.IPFamilies[min(len(families), len(svc.Spec.IPFamilies)):] {
		families = append(families, map[corev1.IPFamily]int{corev1.IPv4Protocol: 0, corev1.IPv6Protocol: 1}[family])
	}
	if len(families) == 0 {
		families = []int{0}
	}
	policy := svc.Spec.IPFamilyPolicy
	if len(families) == 1 && policy != nil && *policy != corev1.IPFamilyPolicySingleStack {
		families = append(families, 1-families[0])
	}
	return families
}
