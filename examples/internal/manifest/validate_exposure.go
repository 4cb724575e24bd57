package manifest

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// exposure checks what a Service asks for towards clients outside of the cluster, and fills in the API server's defaults.
func (c *checker) exposure(svc *corev1.Service) {
	for i, text := range svc.Spec.ExternalIPs {
		c.address(fmt.Sprintf("spec.externalIPs[%d]", i), text)
	}
	if svc.Spec.LoadBalancerIP != "" {
		c.address("spec.loadBalancerIP", svc.Spec.LoadBalancerIP)
	}
	for i, text := range svc.Spec.LoadBalancerSourceRanges {
		if _, err := netip.ParsePrefix(text); err != nil {
			c.add(fmt.Sprintf("spec.loadBalancerSourceRanges[%d]", i), "%q is not an address range such as 203.0.113.0/24", text)
		}
	}
	for i, in := range svc.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			c.address(fmt.Sprintf("status.loadBalancer.ingress[%d].ip", i), in.IP)
		}
	}
	outward := svc.Spec.Type != corev1.ServiceTypeClusterIP || len(svc.Spec.ExternalIPs) > 0
	switch policy := &svc.Spec.ExternalTrafficPolicy; *policy {
	case "":
		if outward {
			*policy = corev1.ServiceExternalTrafficPolicyCluster
		}
	case corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal:
		if !outward {
			c.add("spec.externalTrafficPolicy", "%s: nobody outside can reach a ClusterIP without externalIPs", *policy)
		}
	default:
		c.add("spec.externalTrafficPolicy", "%q is not Cluster or Local", *policy)
	}
	config := svc.Spec.SessionAffinityConfig
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP && config != nil && config.ClientIP != nil && config.ClientIP.TimeoutSeconds != nil {
		const day = 86400
		if seconds := *config.ClientIP.TimeoutSeconds; seconds < 1 || seconds > day {
			c.add("spec.sessionAffinityConfig.clientIP.timeoutSeconds", "%d is not between 1 and %d", seconds, day)
		}
	}
}
