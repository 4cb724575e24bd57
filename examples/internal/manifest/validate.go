package manifest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	sigsjson "sigs.k8s.io/json"
)

// checker collects the faults of one object.
type checker struct {
	source   Source
	object   string
	faults   []error
	warnings []string
}

func (c *checker) add(field, format string, args ...any) {
	c.faults = append(c.faults, &Error{Source: c.source, Object: c.object, Field: field, Err: fmt.Errorf(format, args...)})
}

func (c *checker) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf("%s: %s: ", c.source, c.object)+fmt.Sprintf(format, args...))
}

// strict takes a fault of the strict decoder: an unknown or duplicate field.
func (c *checker) strict(err error) {
	var field sigsjson.FieldError
	if errors.As(err, &field) {
		text, _, _ := strings.Cut(err.Error(), " \"")
		c.add(field.FieldPath(), "%s", text)
		return
	}
	c.add("", "%w", err)
}

// each adds one fault per message, the form in which apimachinery's validation answers.
func (c *checker) each(field string, messages []string) {
	for _, message := range messages {
		c.add(field, "%s", message)
	}
}

// meta checks what all objects have.
func (c *checker) meta(obj metav1.Object) {
	check := validation.IsDNS1123Subdomain
	switch {
	case strings.HasPrefix(c.object, "Namespace "):
		check = validation.IsDNS1123Label
	case strings.HasPrefix(c.object, "Service "):
		check = validation.IsDNS1035Label
	}
	switch {
	case obj.GetName() == "" && obj.GetGenerateName() != "":
		c.add("metadata.generateName", "not supported: give the object a name")
	case obj.GetName() == "":
		c.add("metadata.name", "required")
	default:
		c.each("metadata.name", check(obj.GetName()))
	}
	if obj.GetNamespace() != "" {
		c.each("metadata.namespace", validation.IsDNS1123Label(obj.GetNamespace()))
	}
	c.labels("metadata.labels", obj.GetLabels())
}

func (c *checker) labels(path string, labels map[string]string) {
	for _, key := range sortedKeys(labels) {
		field := fmt.Sprintf("%s[%q]", path, key)
		c.each(field, validation.IsQualifiedName(key))
		c.each(field, validation.IsValidLabelValue(labels[key]))
	}
}

// clusterScoped refuses a namespace, as the API server does.
func (c *checker) clusterScoped(obj metav1.Object) {
	if obj.GetNamespace() != "" {
		c.add("metadata.namespace", "must not be set: this kind belongs to no namespace")
	}
}

func checkNamespace(ns *corev1.Namespace, c *checker) { c.clusterScoped(ns) }

func checkNode(node *corev1.Node, c *checker) {
	c.clusterScoped(node)
	if node.Spec.PodCIDR != "" && len(node.Spec.PodCIDRs) == 0 {
		node.Spec.PodCIDRs = []string{node.Spec.PodCIDR}
		if cidr := c.prefix("spec.podCIDR", node.Spec.PodCIDR); cidr.IsValid() {
			node.Spec.PodCIDRs[0] = cidr.String()
		}
	} else {
		if node.Spec.PodCIDR != "" && node.Spec.PodCIDR != node.Spec.PodCIDRs[0] {
			c.add("spec.podCIDR", "must be the same as spec.podCIDRs[0]")
		}
		families := map[bool]bool{}
		for i, text := range node.Spec.PodCIDRs {
			field := fmt.Sprintf("spec.podCIDRs[%d]", i)
			if cidr := c.prefix(field, text); cidr.IsValid() {
				if families[cidr.Addr().Is4()] {
					c.add(field, "second range of the same address family")
				}
				families[cidr.Addr().Is4()] = true
			}
		}
	}
	for i, address := range node.Status.Addresses {
		if address.Type == corev1.NodeInternalIP {
			c.address(fmt.Sprintf("status.addresses[%d].address", i), address.Address)
		}
	}
}

// prefix parses a range of pod addresses.
func (c *checker) prefix(field, text string) netip.Prefix {
	cidr, err := netip.ParsePrefix(text)
	switch {
	case err != nil || cidr.Addr().Is4In6():
		c.add(field, "%q is not an address range such as 10.244.1.0/24 or fd00:10:244:1::/64", text)
	case cidr != cidr.Masked():
		c.add(field, "%s has bits set behind its prefix: %s was meant?", text, cidr.Masked())
	case cidr.Bits() > cidr.Addr().BitLen()-2:
		c.add(field, "%s has no room for a gateway and a pod", text)
	default:
		return cidr
	}
	return netip.Prefix{}
}

// address parses an address that packets can be sent to.
func (c *checker) address(field, text string) netip.Addr {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil || addr.Zone() != "" || addr.Is4In6():
		c.add(field, "%q is not an IP address", text)
	case addr.IsUnspecified() || addr.IsLoopback() || addr.IsMulticast() || addr.IsLinkLocalUnicast():
		c.add(field, "%s cannot be used: unspecified, loopback, multicast or link-local", text)
	default:
		return addr
	}
	return netip.Addr{}
}

func checkService(svc *corev1.Service, c *checker) {
	c.labels("spec.selector", svc.Spec.Selector)
	if svc.Spec.Type == "" {
		svc.Spec.Type = corev1.ServiceTypeClusterIP
	}
	switch svc.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
	case corev1.ServiceTypeExternalName:
		if err := validation.IsDNS1123Subdomain(strings.TrimSuffix(svc.Spec.ExternalName, ".")); err != nil {
			c.each("spec.externalName", err)
		}
		return
	default:
		c.add("spec.type", "%q is not ClusterIP, NodePort, LoadBalancer or ExternalName", svc.Spec.Type)
	}
	c.clusterIPs(svc)
	c.exposure(svc)
	if a := svc.Spec.SessionAffinity; a != "" && a != corev1.ServiceAffinityNone && a != corev1.ServiceAffinityClientIP {
		c.add("spec.sessionAffinity", "%q is not None or ClientIP", a)
	}
	if len(svc.Spec.Ports) == 0 && svc.Spec.ClusterIP != corev1.ClusterIPNone {
		c.add("spec.ports", "required")
	}
	names, numbers := map[string]bool{}, map[string]bool{}
	for i := range svc.Spec.Ports {
		port := &svc.Spec.Ports[i]
		field := fmt.Sprintf("spec.ports[%d]", i)
		switch {
		case port.Name == "" && len(svc.Spec.Ports) > 1:
			c.add(field+".name", "required when there are several ports")
		case port.Name != "":
			c.each(field+".name", validation.IsDNS1123Label(port.Name))
			if names[port.Name] {
				c.add(field+".name", "%q is used twice", port.Name)
			}
			names[port.Name] = true
		}
		c.port(field+".port", port.Port)
		if port.NodePort != 0 {
			c.port(field+".nodePort", port.NodePort)
			if svc.Spec.Type == corev1.ServiceTypeClusterIP {
				c.add(field+".nodePort", "a ClusterIP has none: the type is to be NodePort or LoadBalancer")
			}
		}
		c.protocol(field+".protocol", &port.Protocol)
		key := fmt.Sprint(port.Protocol, port.Port)
		if numbers[key] {
			c.add(field+".port", "%s %d is used twice", port.Protocol, port.Port)
		}
		numbers[key] = true
		switch target := &port.TargetPort; {
		case target.Type == intstr.String && target.StrVal != "":
			c.each(field+".targetPort", validation.IsValidPortName(target.StrVal))
		case target.Type == intstr.Int && target.IntVal == 0:
			*target = intstr.FromInt32(port.Port)
		default:
			c.port(field+".targetPort", target.IntVal)
		}
	}
}

func (c *checker) clusterIPs(svc *corev1.Service) {
	ips := svc.Spec.ClusterIPs
	switch {
	case len(ips) == 0 && svc.Spec.ClusterIP != "":
		svc.Spec.ClusterIPs = []string{svc.Spec.ClusterIP}
		if svc.Spec.ClusterIP != corev1.ClusterIPNone {
			c.address("spec.clusterIP", svc.Spec.ClusterIP)
		}
	case len(ips) > 0:
		if svc.Spec.ClusterIP != "" && svc.Spec.ClusterIP != ips[0] {
			c.add("spec.clusterIP", "must be the same as spec.clusterIPs[0]")
		}
		svc.Spec.ClusterIP = ips[0]
		if len(ips) > 2 {
			c.add("spec.clusterIPs", "at most one address of each family")
		}
		for i, text := range ips {
			field := fmt.Sprintf("spec.clusterIPs[%d]", i)
			if text == corev1.ClusterIPNone {
				if len(ips) > 1 {
					c.add(field, "None must stand alone")
				}
				continue
			}
			addr := c.address(field, text)
			if first, err := netip.ParseAddr(ips[0]); i > 0 && err == nil && addr.IsValid() && first.Is4() == addr.Is4() {
				c.add(field, "second address of the same family")
			}
		}
	}
	for i, family := range svc.Spec.IPFamilies {
		field := fmt.Sprintf("spec.ipFamilies[%d]", i)
		if family != corev1.IPv4Protocol && family != corev1.IPv6Protocol {
			c.add(field, "%q is not IPv4 or IPv6", family)
		} else if slices.Contains(svc.Spec.IPFamilies[:i], family) {
			c.add(field, "%s is named twice", family)
		}
	}
	known := []corev1.IPFamilyPolicy{corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack}
	if p := svc.Spec.IPFamilyPolicy; p != nil && !slices.Contains(known, *p) {
		c.add("spec.ipFamilyPolicy", "%q is not SingleStack, PreferDualStack or RequireDualStack", *p)
	}
}

func (c *checker) port(field string, port int32) {
	if port < 1 || port > 65535 {
		c.add(field, "%d is not between 1 and 65535", port)
	}
}

func (c *checker) protocol(field string, protocol *corev1.Protocol) {
	switch *protocol {
	case "":
		*protocol = corev1.ProtocolTCP
	case corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP:
	default:
		c.add(field, "%q is not TCP, UDP or SCTP", *protocol)
	}
}
