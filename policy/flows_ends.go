package policy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// member is a pod or node with its addresses in each of the States, in one family.
type member struct {
	name  Name
	pod   [2]*Pod
	addrs [2]netip.Addr
}

// class is a set of ends that nothing in the States tells apart, or a network.
type class struct {
	members []*member
	node    bool
	network *Network
	addr    netip.Addr // of a network: one of its addresses that is no pod's and no node's

	altered bool      // labels, ports or addresses that matter differ between the States
	changed [2]bool   // by side (0: as sender): the policies that select it do
	edges   [2][]edge // by side: where ports begin to be treated otherwise
	named   []edge    // of its named ports

}

// vocabulary is what the policies of the States can tell pods and addresses apart by.
type vocabulary struct {
	podKeys, nsKeys, nodeKeys map[string]bool
	names                     map[string]bool // of ports
	prefixes                  map[netip.Prefix]bool
	lengths                   [2][]int // of prefixes, by family, longest first
}

func (v *vocabulary) selector(keys map[string]bool, s *Selector) {
	if s == nil {
		return
	}
	for k := range s.MatchLabels {
		keys[k] = true
	}
	for i := range s.MatchExpressions {
		keys[s.MatchExpressions[i].Key] = true
	}
}

func (v *vocabulary) prefix(p netip.Prefix, ok bool) {
	if ok && p.IsValid() {
		v.prefixes[p] = true
	}
}

func (v *vocabulary) add(s *State) {
	for i := range s.Policies {
		p := &s.Policies[i]
		v.selector(v.podKeys, &p.Spec.PodSelector)
		for _, r := range p.Spec.Ingress {
			v.rule(r.From, r.Ports)
		}
		for _, r := range p.Spec.Egress {
			v.rule(r.To, r.Ports)
		}
	}
	for i := range s.ClusterPolicies {
		p := &s.ClusterPolicies[i]
		peers := []ClusterEgressPeer{{Namespaces: p.Spec.Subject.Namespaces, Pods: p.Spec.Subject.Pods}}
		for _, d := range []Direction{Ingress, Egress} {
			for _, r := range clusterRules(p, d) {
				peers = append(peers, r.peers...)
				for _, proto := range r.protocols {
					v.names[proto.DestinationNamedPort] = true
				}
			}
		}
		for _, peer := range peers {
			v.clusterPeer(&peer, s)
		}
	}
}

func (v *vocabulary) rule(peers []Peer, ports []Port) {
	for _, peer := range peers {
		v.selector(v.podKeys, peer.PodSelector)
		v.selector(v.nsKeys, peer.NamespaceSelector)
		if peer.IPBlock != nil {
			v.prefix(parseBlock(peer.IPBlock.CIDR))
			for _, s := range peer.IPBlock.Except {
				v.prefix(parseBlock(s))
			}
		}
	}
	for _, p := range ports {
		if p.Port != nil {
			v.names[p.Port.Name] = true
		}
	}
}

func (v *vocabulary) clusterPeer(p *ClusterEgressPeer, s *State) {
	v.selector(v.nsKeys, p.Namespaces)
	v.selector(v.nodeKeys, p.Nodes)
	if p.Pods != nil {
		v.selector(v.nsKeys, &p.Pods.NamespaceSelector)
		v.selector(v.podKeys, &p.Pods.PodSelector)
	}
	for _, text := range p.Networks {
		v.prefix(parseNetwork(text))
	}
	if p.DomainNames != nil {
		for _, addrs := range s.Domains {
			for _, a := range addrs {
				v.prefix(netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), true)
			}
		}
	}
}

// finish notes the lengths of prefixes.
func (v *vocabulary) finish() {
	seen := [2]map[int]bool{{}, {}}
	for p := range v.prefixes {
		seen[familyIndex(p.Addr())][p.Bits()] = true
	}
	for family := range seen {
		v.lengths[family] = slices.Sorted(maps.Keys(seen[family]))
		slices.Reverse(v.lengths[family])
	}
}

func familyIndex(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// within returns the smallest known prefix that holds a, the zero Prefix when none does.
func (v *vocabulary) within(a netip.Addr) netip.Prefix {
	for _, bits := range v.lengths[familyIndex(a)] {
		if p, _ := a.Prefix(bits); v.prefixes[p] {
			return p
		}
	}
	return netip.Prefix{}
}

// sketch writes those labels that somebody asks for.
func sketch(b *strings.Builder, labels map[string]string, keys map[string]bool) {
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if keys[k] {
			fmt.Fprintf(b, "%q=%q,", k, labels[k])
		}
	}
	b.WriteByte(';')
}

// podSketch writes all that policies see of a pod.
func (c *comparison) podSketch(state int, p *Pod, a netip.Addr) string {
	var b strings.Builder
	e, v := c.evaluators[state], &c.words
	fmt.Fprintf(&b, "%s;", p.Meta.Namespace)
	sketch(&b, e.namespace(p.Meta.Namespace), v.nsKeys)
	sketch(&b, p.Meta.Labels, v.podKeys)
	fmt.Fprintf(&b, "%s;", v.within(a))
	for _, name := range slices.Sorted(maps.Keys(v.names)) {
		for _, proto := range []Protocol{TCP, UDP, SCTP} {
			if n, ok := p.port(name, proto); ok && name != "" {
				fmt.Fprintf(&b, "%s/%s=%d,", name, proto, n)
			}
		}
	}
	if n := e.nodeByName[p.Spec.NodeName]; n != nil {
		sketch(&b, n.Meta.Labels, v.nodeKeys)
	}
	if len(e.pods[a]) > 1 {
		b.WriteString(p.Meta.Name) // shares its address: like no other
	}
	return b.String()
}

func (c *comparison) nodeSketch(n *Node, a netip.Addr) string {
	var b strings.Builder
	sketch(&b, n.Meta.Labels, c.words.nodeKeys)
	fmt.Fprintf(&b, "%s;", c.words.within(a))
	return b.String()
}

// classes sorts the pods, nodes and networks of a family into classes.
func (c *comparison) classes(family int) []*class {
	byKey := map[string]*class{}
	var out []*class
	put := func(key string, m *member, node, altered bool) {
		cl := byKey[key]
		if cl == nil {
			cl = &class{node: node, altered: altered}
			byKey[key] = cl
			out = append(out, cl)
		}
		cl.members = append(cl.members, m)
	}
	taken := map[netip.Addr]bool{}
	inFamily := func(addrs []netip.Addr) (a netip.Addr) {
		for _, a := range addrs {
			taken[a] = true
		}
		if i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return familyIndex(a) == family }); i >= 0 {
			a = addrs[i]
		}
		return a
	}
	later := map[Name]*Pod{}
	for i := range c.states[1].Pods {
		later[c.states[1].Pods[i].Meta.Key()] = &c.states[1].Pods[i]
		inFamily(c.states[1].Pods[i].Addrs())
	}
	for i := range c.states[0].Pods {
		p := &c.states[0].Pods[i]
		m := &member{name: p.Meta.Key(), pod: [2]*Pod{p, later[p.Meta.Key()]}}
		m.addrs[0] = inFamily(p.Addrs())
		if m.pod[1] == nil || !m.addrs[0].IsValid() {
			continue
		}
		if m.addrs[1] = inFamily(m.pod[1].Addrs()); m.addrs[1].IsValid() {
			was, is := c.podSketch(0, p, m.addrs[0]), c.podSketch(1, m.pod[1], m.addrs[1])
			put("pod "+was+"|"+is, m, false, was != is)
		}
	}
	for i := range c.states[1].Nodes {
		inFamily(c.states[1].Nodes[i].addrs())
	}
	for i := range c.states[0].Nodes {
		n := &c.states[0].Nodes[i]
		m := &member{name: n.Meta.Key()}
		m.addrs[0] = inFamily(n.addrs())
		after := c.evaluators[1].nodeByName[n.Meta.Name]
		if after == nil || !m.addrs[0].IsValid() {
			continue
		}
		if m.addrs[1] = inFamily(after.addrs()); m.addrs[1].IsValid() {
			was, is := c.nodeSketch(n, m.addrs[0]), c.nodeSketch(after, m.addrs[1])
			put("node "+was+"|"+is, m, true, was != is)
		}
	}
	for _, cl := range out {
		slices.SortFunc(cl.members, func(a, b *member) int { return a.name.compare(b.name) })
	}
	slices.SortFunc(out, func(a, b *class) int { return a.members[0].name.compare(b.members[0].name) })
	return append(out, c.networks(family, taken)...)
}

func (n Name) compare(o Name) int {
	return cmp.Or(cmp.Compare(n.Namespace, o.Namespace), cmp.Compare(n.Name, o.Name))
}
