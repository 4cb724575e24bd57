package policy

import (
	"fmt"
	"slices"
	"unicode/utf8"
)

// maxItems bounds every list of a ClusterNetworkPolicy, as its CRD does.
const maxItems = 25

func (f *faults) clusterPolicy(path string, p *ClusterNetworkPolicy) {
	f.subdomain(path+".metadata.name", p.Meta.Name)
	f.metadata(path, &p.Meta, false)
	path += ".spec"
	if p.Spec.Tier != Admin && p.Spec.Tier != Baseline {
		f.add(path+".tier", "%q is neither Admin nor Baseline", string(p.Spec.Tier))
	}
	if p.Spec.Priority < 0 || p.Spec.Priority > 1000 {
		f.add(path+".priority", "%d is not in 0 to 1000", p.Spec.Priority)
	}
	f.one(path+".subject", p.Spec.Subject.Namespaces != nil, p.Spec.Subject.Pods != nil)
	f.selectors(path+".subject", p.Spec.Subject.Namespaces, p.Spec.Subject.Pods)
	f.count(path+".ingress", len(p.Spec.Ingress), 0)
	f.count(path+".egress", len(p.Spec.Egress), 0)
	for i := range p.Spec.Ingress {
		r := &p.Spec.Ingress[i]
		at := fmt.Sprintf("%s.ingress[%d]", path, i)
		f.clusterRule(at, r.Name, r.Action, r.Protocols)
		f.count(at+".from", len(r.From), 1)
		for j := range r.From {
			peer := fmt.Sprintf("%s.from[%d]", at, j)
			f.one(peer, r.From[j].Namespaces != nil, r.From[j].Pods != nil)
			f.selectors(peer, r.From[j].Namespaces, r.From[j].Pods)
		}
	}
	for i := range p.Spec.Egress {
		r := &p.Spec.Egress[i]
		at := fmt.Sprintf("%s.egress[%d]", path, i)
		f.clusterRule(at, r.Name, r.Action, r.Protocols)
		f.count(at+".to", len(r.To), 1)
		named := false
		for _, proto := range r.Protocols {
			named = named || proto.DestinationNamedPort != ""
		}
		for j := range r.To {
			f.egressPeer(fmt.Sprintf("%s.to[%d]", at, j), &r.To[j], r.Action, named)
		}
	}
}

func (f *faults) egressPeer(path string, p *ClusterEgressPeer, action Action, named bool) {
	f.one(path, p.Namespaces != nil, p.Pods != nil, p.Nodes != nil, p.Networks != nil, p.DomainNames != nil)
	f.selectors(path, p.Namespaces, p.Pods)
	if p.Nodes != nil {
		f.selector(path+".nodes", p.Nodes)
	}
	if named && (p.Nodes != nil || p.Networks != nil || p.DomainNames != nil) {
		f.add(path, "is no pod, so the rule's destinationNamedPort cannot apply to it")
	}
	if p.Networks != nil {
		f.count(path+".networks", len(p.Networks), 1)
		f.distinct(path+".networks", p.Networks)
	}
	for i, s := range p.Networks {
		f.network(fmt.Sprintf("%s.networks[%d]", path, i), s)
	}
	if p.DomainNames == nil {
		return
	}
	f.count(path+".domainNames", len(p.DomainNames), 1)
	f.distinct(path+".domainNames", p.DomainNames)
	if action != Accept {
		f.add(path+".domainNames", "can only be accepted, not with action %s: deny a network and accept names before it", action)
	}
	for i, s := range p.DomainNames {
		if !domainPattern.MatchString(s) {
			f.add(fmt.Sprintf("%s.domainNames[%d]", path, i), "%q is no domain name, with or without a leading \"*.\"", s)
		}
	}
}

func (f *faults) clusterRule(path, name string, action Action, protocols []ClusterProtocol) {
	if n := utf8.RuneCountInString(name); n > 100 {
		f.add(path+".name", "has %d characters: at most 100", n)
	}
	if action != Accept && action != Deny && action != Pass {
		f.add(path+".action", "%q is none of Accept, Deny, Pass", string(action))
	}
	if protocols != nil {
		f.count(path+".protocols", len(protocols), 1)
	}
	for i := range protocols {
		p := &protocols[i]
		at := fmt.Sprintf("%s.protocols[%d]", path, i)
		f.one(at, p.TCP != nil, p.UDP != nil, p.SCTP != nil, p.DestinationNamedPort != "")
		f.protocolPort(at+".tcp", p.TCP)
		f.protocolPort(at+".udp", p.UDP)
		f.protocolPort(at+".sctp", p.SCTP)
	}
}

func (f *faults) protocolPort(path string, p *ProtocolPort) {
	if p == nil {
		return
	}
	path += ".destinationPort"
	d := p.DestinationPort
	if d == nil {
		f.add(path, "is required: leave protocols out to match every protocol")
		return
	}
	f.one(path, d.Number != 0, d.Range != nil)
	if d.Number != 0 {
		f.portNumber(path+".number", d.Number)
	}
	if d.Range == nil {
		return
	}
	f.portNumber(path+".range.start", d.Range.Start)
	f.portNumber(path+".range.end", d.Range.End)
	if d.Range.Start >= d.Range.End {
		f.add(path+".range", "start %d is not less than end %d", d.Range.Start, d.Range.End)
	}
}

func (f *faults) selectors(path string, namespaces *Selector, pods *NamespacedPod) {
	if namespaces != nil {
		f.selector(path+".namespaces", namespaces)
	}
	if pods != nil {
		f.selector(path+".pods.namespaceSelector", &pods.NamespaceSelector)
		f.selector(path+".pods.podSelector", &pods.PodSelector)
	}
}

// one demands exactly one of the fields.
func (f *faults) one(path string, set ...bool) {
	switch n := count(set...); n {
	case 1:
	case 0:
		f.add(path, "has 0 fields set: exactly one is needed: %w", ErrUnknown)
	default:
		f.add(path, "has %d fields set: exactly one is needed", n)
	}
}

// distinct demands that no item is there twice.
func (f *faults) distinct(path string, items []string) {
	for i, s := range items {
		if slices.Contains(items[:i], s) {
			f.add(fmt.Sprintf("%s[%d]", path, i), "%q is there twice", s)
		}
	}
}

func (f *faults) count(path string, n, low int) {
	if n < low || n > maxItems {
		f.add(path, "has %d items: %d to %d are allowed", n, low, maxItems)
	}
}
