package policy

import "net/netip"

// Validate names every fault of s at once: errors.Join of a *FieldError each, nil when there is none. What it finds in a policy is
// what the API server or the CRD would refuse; two objects with one name are a fault too. So are two things in
// a ClusterNetworkPolicy that its CRD cannot tell: a selector that cannot be read, and domain names in a rule that does not accept.
func (s State) Validate() error {
	var f faults
	type object struct {
		kind string
		Name
	}
	seen := make(map[object]struct{}, len(s.Namespaces)+len(s.Nodes)+len(s.Pods)+len(s.Policies)+len(s.ClusterPolicies))
	each := func(kind string, name Name, look func(path string)) {
		path := func() string { return kind + "[" + name.String() + "]" }
		if _, ok := seen[object{kind, name}]; ok {
			f.add(path(), "is there twice: %w", ErrConflict)
		}
		seen[object{kind, name}] = struct{}{}
		f.check(look, path)
	}
	for i := range s.Namespaces {
		m := &s.Namespaces[i].Meta
		each("namespaces", Name{Name: m.Name}, func(path string) {
			f.namespace(path+".metadata.name", m.Name)
			f.metadata(path, m, false)
		})
	}
	for i := range s.Nodes {
		m := &s.Nodes[i].Meta
		each("nodes", Name{Name: m.Name}, func(path string) {
			f.subdomain(path+".metadata.name", m.Name)
			f.metadata(path, m, false)
		})
	}
	for i := range s.Pods {
		each("pods", s.Pods[i].Meta.Key(), func(path string) { f.pod(path, &s.Pods[i]) })
	}
	for i := range s.Policies {
		each("policies", s.Policies[i].Meta.Key(), func(path string) { f.networkPolicy(path, &s.Policies[i]) })
	}
	for i := range s.ClusterPolicies {
		name := Name{Name: s.ClusterPolicies[i].Meta.Name}
		each("clusterPolicies", name, func(path string) { f.clusterPolicy(path, &s.ClusterPolicies[i]) })
	}
	return f.join()
}

func (f *faults) pod(path string, p *Pod) {
	f.subdomain(path+".metadata.name", p.Meta.Name)
	f.metadata(path, &p.Meta, true)
	for i, ip := range p.Status.PodIPs {
		if _, err := netip.ParseAddr(ip.IP); err != nil {
			f.add(f.at(path, ".status.podIPs", i)+".ip", "%q is no IP address", ip.IP)
		}
	}
	for i, ip := range p.Status.HostIPs {
		if _, err := netip.ParseAddr(ip.IP); err != nil {
			f.add(f.at(path, ".status.hostIPs", i)+".ip", "%q is no IP address", ip.IP)
		}
	}
	for _, a := range []struct{ field, ip string }{{"podIP", p.Status.PodIP}, {"hostIP", p.Status.HostIP}} {
		if _, err := netip.ParseAddr(a.ip); err != nil && a.ip != "" {
			f.add(path+".status."+a.field, "%q is no IP address", a.ip)
		}
	}
}

func (f *faults) networkPolicy(path string, p *NetworkPolicy) {
	f.subdomain(path+".metadata.name", p.Meta.Name)
	f.metadata(path, &p.Meta, true)
	path += ".spec"
	f.selector(path+".podSelector", &p.Spec.PodSelector)
	for i := range p.Spec.Ingress {
		f.rule(f.at(path, ".ingress", i), ".from", p.Spec.Ingress[i].From, p.Spec.Ingress[i].Ports)
	}
	for i := range p.Spec.Egress {
		f.rule(f.at(path, ".egress", i), ".to", p.Spec.Egress[i].To, p.Spec.Egress[i].Ports)
	}
	if len(p.Spec.PolicyTypes) > 2 {
		f.add(path+".policyTypes", "has %d entries: at most Ingress and Egress", len(p.Spec.PolicyTypes))
		return
	}
	for i, t := range p.Spec.PolicyTypes {
		if t != Ingress && t != Egress {
			f.add(f.at(path, ".policyTypes", i), "%q is neither Ingress nor Egress", string(t))
		}
	}
}

func (f *faults) rule(path, side string, peers []Peer, ports []Port) {
	for i := range ports {
		f.port(f.at(path, ".ports", i), &ports[i])
	}
	for i := range peers {
		f.peer(f.at(path, side, i), &peers[i])
	}
}

func (f *faults) port(path string, p *Port) {
	if p.Protocol != nil {
		f.protocol(path+".protocol", *p.Protocol)
	}
	switch {
	case p.Port == nil:
	case p.Port.Name != "":
		f.portName(path+".port", p.Port.Name)
	default:
		f.portNumber(path+".port", p.Port.Number)
	}
	if p.EndPort == nil {
		return
	}
	switch {
	case p.Port == nil:
		f.add(path+".endPort", "needs a port to begin the range")
	case p.Port.Name != "":
		f.add(path+".endPort", "needs a port that is a number, not %q", p.Port.Name)
	case *p.EndPort < p.Port.Number:
		f.add(path+".endPort", "%d is less than port %d", *p.EndPort, p.Port.Number)
	default:
		f.portNumber(path+".endPort", *p.EndPort)
	}
}

func (f *faults) protocol(path string, p Protocol) {
	if p != TCP && p != UDP && p != SCTP {
		f.add(path, "%q is none of TCP, UDP, SCTP", string(p))
	}
}

func (f *faults) peer(path string, p *Peer) {
	if p.PodSelector != nil {
		f.selector(path+".podSelector", p.PodSelector)
	}
	if p.NamespaceSelector != nil {
		f.selector(path+".namespaceSelector", p.NamespaceSelector)
	}
	switch {
	case p.IPBlock == nil && p.PodSelector == nil && p.NamespaceSelector == nil:
		f.add(path, "needs a podSelector, a namespaceSelector or an ipBlock")
	case p.IPBlock != nil && (p.PodSelector != nil || p.NamespaceSelector != nil):
		f.add(path, "has an ipBlock beside a selector: give each a peer of its own")
	}
	if p.IPBlock == nil {
		return
	}
	block, ok := f.block(path+".ipBlock.cidr", p.IPBlock.CIDR)
	for i, s := range p.IPBlock.Except {
		at := f.at(path, ".ipBlock.except", i)
		out, outOK := f.block(at, s)
		if ok && outOK && (out.bits <= block.bits || !block.Contains(out.Addr())) {
			f.add(at, "%s is not a part of %s smaller than it", s, p.IPBlock.CIDR)
		}
	}
}

// blockRange is the range of an IPBlock with the length of its prefix as it was written: that of IPv4 inside IPv6 counts from 96.
type blockRange struct {
	netip.Prefix
	bits int
}

// block reads a range of an IPBlock; ok is false when it could not, which is then among the faults.
func (f *faults) block(path, s string) (b blockRange, ok bool) {
	if s == "" {
		f.add(path, "is required")
		return b, false
	}
	written, _ := parseLegacy(s)
	b.bits = written.Bits()
	if b.Prefix, ok = parseBlock(s); !ok {
		f.add(path, "%q is no address range such as 10.9.8.0/24 or 2001:db8::/64", s)
	}
	return b, ok
}
