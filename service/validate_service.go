package service

import (
	"net/netip"
	"slices"
	"strings"
)

// meta checks what every object needs; an object of the cluster itself has no namespace.
func (f *faults) meta(m *Meta, namespaced bool, name func(string) bool, rule string) {
	f.in("metadata")
	defer f.out()
	switch {
	case m.Name == "":
		f.on("name", "required")
	case !name(m.Name):
		f.on("name", "%q is not %s", m.Name, rule)
	}
	switch {
	case namespaced && m.Namespace == "":
		f.on("namespace", "required")
	case namespaced && !isLabel(m.Namespace):
		f.on("namespace", "%q is not an RFC 1123 label", m.Namespace)
	case !namespaced && m.Namespace != "":
		f.on("namespace", "%q: objects of this kind have none", m.Namespace)
	}
	f.labels("labels", m.Labels)
}

func (f *faults) labels(field string, labels map[string]string) {
	var bad []string
	for k, v := range labels {
		if !isQualified(k) || !isLabelValue(v) {
			bad = append(bad, k)
		}
	}
	slices.Sort(bad)
	for _, k := range bad {
		if !isQualified(k) {
			f.on(field, "%q is not a label key", k)
		}
		if !isLabelValue(labels[k]) {
			f.on(field, "%q is not a label value (of %q)", labels[k], k)
		}
	}
}

func (f *faults) service(s *Service) {
	f.meta(&s.Meta, true, isLabel1035, "an RFC 1035 label")
	f.in("spec")
	sp := &s.Spec
	switch s.kind() {
	case TypeClusterIP, TypeNodePort, TypeLoadBalancer:
	case TypeExternalName:
		if !isSubdomain(strings.TrimSuffix(sp.ExternalName, ".")) {
			f.on("externalName", "%q is not a domain name", sp.ExternalName)
		}
	default:
		f.on("type", "%q is not ClusterIP, NodePort, LoadBalancer or ExternalName", sp.Type)
	}
	f.addresses(s)
	f.ports(s)
	f.labels("selector", sp.Selector)
	f.policies(s)
	f.out()
	f.ingress(s)
}

// addresses checks the cluster IPs and their families, external IPs and source ranges.
func (f *faults) addresses(s *Service) {
	sp := &s.Spec
	first := s.clusterIP()
	if len(sp.ClusterIPs) > 0 && sp.ClusterIP != "" && sp.ClusterIP != sp.ClusterIPs[0] {
		f.on("clusterIPs", "starts with %q, clusterIP is %q", sp.ClusterIPs[0], sp.ClusterIP)
	}
	if s.kind() == TypeExternalName && first != "" {
		f.on("clusterIP", "%q: an ExternalName Service has none", first)
	}
	if first == headless && (s.kind() == TypeNodePort || s.kind() == TypeLoadBalancer) {
		f.on("clusterIP", "None does not go with type %s", s.kind())
	}
	ips := sp.ClusterIPs
	if len(ips) == 0 && first != "" {
		ips = []string{first}
	}
	if len(ips) > 2 {
		f.on("clusterIPs", "%d addresses: at most one of each family", len(ips))
	}
	var families []IPFamily
	for i, text := range ips {
		if text == headless {
			if len(ips) > 1 {
				f.on("clusterIPs", "None stands alone")
			}
			continue
		}
		a, err := netip.ParseAddr(text)
		f.at("clusterIPs", i)
		switch {
		case err != nil:
			f.here("%q is not an IP address", text)
		case a.Is4In6():
			f.here("%q is an IPv4 address in an IPv6 one", text)
		case unfit(a) != "":
			f.here("%s %s", a, unfit(a))
		case slices.Contains(families, familyOf(a)):
			f.here("%s: a second address of %s", a, familyOf(a))
		case i < len(sp.IPFamilies) && sp.IPFamilies[i] != familyOf(a):
			f.here("%s is not of ipFamilies[%d] %s", a, i, sp.IPFamilies[i])
		}
		if err == nil {
			families = append(families, familyOf(a))
		}
		f.out()
	}
	for i, fam := range sp.IPFamilies {
		if fam != IPv4 && fam != IPv6 || i > 0 && slices.Contains(sp.IPFamilies[:i], fam) {
			f.at("ipFamilies", i)
			f.here("%q: IPv4 and IPv6, each at most once", fam)
			f.out()
		}
	}
	if p := sp.IPFamilyPolicy; p != nil {
		switch {
		case *p != SingleStack && *p != PreferDualStack && *p != RequireDualStack:
			f.on("ipFamilyPolicy", "%q is not SingleStack, PreferDualStack or RequireDualStack", *p)
		case *p == SingleStack && (len(ips) > 1 || len(sp.IPFamilies) > 1):
			f.on("ipFamilyPolicy", "SingleStack with two families")
		case *p == RequireDualStack && len(families) == 1:
			f.on("ipFamilyPolicy", "RequireDualStack with one cluster IP")
		}
	}
	for i, text := range sp.ExternalIPs {
		f.at("externalIPs", i)
		if a, err := netip.ParseAddr(text); err != nil {
			f.here("%q is not an IP address", text)
		} else if why := unfit(a.Unmap()); why != "" {
			f.here("%s %s", a, why)
		}
		f.out()
	}
	for i, text := range sp.LoadBalancerSourceRanges {
		if _, err := netip.ParsePrefix(strings.TrimSpace(text)); err != nil {
			f.at("loadBalancerSourceRanges", i)
			f.here("%q is not a network in CIDR notation", text)
			f.out()
		}
	}
	if len(sp.LoadBalancerSourceRanges) > 0 && s.kind() != TypeLoadBalancer {
		f.on("loadBalancerSourceRanges", "only for type LoadBalancer")
	}
}

func familyOf(a netip.Addr) IPFamily {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

func (f *faults) ports(s *Service) {
	ports := s.Spec.Ports
	if len(ports) == 0 && s.clusterIP() != headless && s.kind() != TypeExternalName {
		f.on("ports", "required")
	}
	for i := range ports {
		p := &ports[i]
		f.at("ports", i)
		switch {
		case p.Name == "" && len(ports) > 1:
			f.on("name", "required where there are several ports")
		case p.Name != "" && !isLabel(p.Name):
			f.on("name", "%q is not an RFC 1123 label", p.Name)
		}
		f.protocol(p.Protocol)
		f.portNumber("port", p.Port)
		if p.TargetPort.Name == "" && p.TargetPort.Number != 0 {
			f.portNumber("targetPort", p.TargetPort.Number)
		} else if p.TargetPort.Name != "" && !isPortName(p.TargetPort.Name) {
			f.on("targetPort", "%q is not a port name (RFC 6335)", p.TargetPort.Name)
		}
		if p.NodePort != 0 {
			f.portNumber("nodePort", p.NodePort)
			if s.kind() != TypeNodePort && s.kind() != TypeLoadBalancer {
				f.on("nodePort", "only for types NodePort and LoadBalancer")
			}
		}
		for j := range ports[:i] {
			o := &ports[j]
			if o.Name == p.Name && p.Name != "" {
				f.on("name", "%q: %w with ports[%d]", p.Name, ErrConflict, j)
			}
			if o.Port == p.Port && o.protocol() == p.protocol() {
				f.on("port", "%d/%s: %w with ports[%d]", p.Port, p.protocol(), ErrConflict, j)
			}
			if o.NodePort == p.NodePort && p.NodePort != 0 && o.protocol() == p.protocol() {
				f.on("nodePort", "%d/%s: %w with ports[%d]", p.NodePort, p.protocol(), ErrConflict, j)
			}
		}
		f.out()
	}
}

func (f *faults) protocol(p Protocol) {
	if p != "" && p != TCP && p != UDP && p != SCTP {
		f.on("protocol", "%q is not TCP, UDP or SCTP", p)
	}
}

func (f *faults) portNumber(field string, n int32) {
	if n < 1 || n > 65535 {
		f.on(field, "%d is not in 1-65535", n)
	}
}

// policies checks affinity, traffic policies and what belongs to them.
func (f *faults) policies(s *Service) {
	sp := &s.Spec
	switch sp.SessionAffinity {
	case "", AffinityNone:
		if sp.SessionAffinityConfig != nil {
			f.on("sessionAffinityConfig", "only with sessionAffinity ClientIP")
		}
	case AffinityClientIP:
		if n := s.affinitySeconds(); n < 1 || n > 86400 {
			f.on("sessionAffinityConfig.clientIP.timeoutSeconds", "%d is not in 1-86400", n)
		}
	default:
		f.on("sessionAffinity", "%q is not None or ClientIP", sp.SessionAffinity)
	}
	switch p := sp.ExternalTrafficPolicy; {
	case p == "":
	case p != PolicyCluster && p != PolicyLocal:
		f.on("externalTrafficPolicy", "%q is not Cluster or Local", p)
	case s.kind() != TypeNodePort && s.kind() != TypeLoadBalancer && len(sp.ExternalIPs) == 0:
		f.on("externalTrafficPolicy", "only for Services with node ports, a load balancer or external IPs")
	}
	if p := sp.InternalTrafficPolicy; p != nil && *p != PolicyCluster && *p != PolicyLocal {
		f.on("internalTrafficPolicy", "%q is not Cluster or Local", *p)
	}
	if d := sp.TrafficDistribution; d != nil && *d != PreferClose && *d != PreferSameZone && *d != PreferSameNode {
		f.on("trafficDistribution", "%q is not PreferClose, PreferSameZone or PreferSameNode", *d)
	}
	if sp.HealthCheckNodePort != 0 {
		f.portNumber("healthCheckNodePort", sp.HealthCheckNodePort)
		if s.kind() != TypeLoadBalancer || !s.externalLocal() {
			f.on("healthCheckNodePort", "only for type LoadBalancer with externalTrafficPolicy Local")
		}
	}
	if sp.AllocateLoadBalancerNodePorts != nil && s.kind() != TypeLoadBalancer {
		f.on("allocateLoadBalancerNodePorts", "only for type LoadBalancer")
	}
	if sp.LoadBalancerClass != nil {
		if s.kind() != TypeLoadBalancer {
			f.on("loadBalancerClass", "only for type LoadBalancer")
		} else if !isQualified(*sp.LoadBalancerClass) {
			f.on("loadBalancerClass", "%q is not a qualified name", *sp.LoadBalancerClass)
		}
	}
}

func (f *faults) ingress(s *Service) {
	f.in("status")
	f.in("loadBalancer")
	for i, in := range s.Status.LoadBalancer.Ingress {
		f.at("ingress", i)
		_, err := netip.ParseAddr(in.IP)
		switch {
		case in.IP == "" && in.IPMode != nil:
			f.on("ipMode", "only together with ip")
		case in.IP != "" && err != nil:
			f.on("ip", "%q is not an IP address", in.IP)
		}
		if in.IPMode != nil && *in.IPMode != ModeVIP && *in.IPMode != ModeProxy {
			f.on("ipMode", "%q is not VIP or Proxy", *in.IPMode)
		}
		if in.Hostname != "" && !isSubdomain(in.Hostname) {
			f.on("hostname", "%q is not a domain name", in.Hostname)
		}
		f.out()
	}
	f.out()
	f.out()
}
