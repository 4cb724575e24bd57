package policy

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
)

// comparison is Flows at work.
type comparison struct {
	states     [2]State
	evaluators [2]*Evaluator
	words      vocabulary
	contents   map[string]int // of policies, by JSON, so that equal ones are found
	names      bool           // the domain names' addresses differ
	budget     int

	pieces   []piece
	excluded map[[2]*class]bool // pairs that are no flow: a pod and itself, a node and its own pods
	whole    [2][]*class        // all classes, by family
	totals   [2]totals
}

// piece is a change between two classes.
type piece struct {
	src, dst      *class // dst nil: the own node
	family        int
	ports         []Ports
	before, after Verdict
}

// edge is a port from which on ports may be treated otherwise than those below.
type edge struct {
	proto Protocol
	at    int
}

// The protocols that can be told apart. One stands for all that have no ports.
const portless Protocol = "other"

var portProtocols = []Protocol{TCP, UDP, SCTP}

func (c *comparison) compile() {
	c.words = vocabulary{
		podKeys: map[string]bool{}, nsKeys: map[string]bool{}, nodeKeys: map[string]bool{},
		names: map[string]bool{}, prefixes: map[netip.Prefix]bool{},
	}
	c.contents, c.excluded = map[string]int{}, map[[2]*class]bool{}
	for i := range c.states {
		c.words.add(&c.states[i])
	}
	c.words.finish()
	c.names = !maps.EqualFunc(c.states[0].Domains, c.states[1].Domains, slices.Equal)
}

// content returns the same number for policies that say the same.
func (c *comparison) content(known map[any]int, p, spec any) int {
	if id, ok := known[p]; ok {
		return id
	}
	text, _ := json.Marshal(spec) // of plain data: no error
	id, ok := c.contents[string(text)]
	if !ok {
		id = len(c.contents)
		c.contents[string(text)] = id
	}
	known[p] = id
	return id
}

// selecting notes which policies select the class in a direction, and at which ports they tell connections apart.
func (c *comparison) selecting(known map[any]int, cl *class, side int) {
	d := [2]Direction{Egress, Ingress}[side]
	var ids [2][]int
	ports := map[edge]bool{}
	for state, e := range c.evaluators {
		pod := cl.members[0].pod[state]
		for _, p := range e.policies[pod.Meta.Namespace] {
			if !p.isolates(d) || !p.Spec.PodSelector.Matches(pod.Meta.Labels) {
				continue
			}
			ids[state] = append(ids[state], c.content(known, p, p.Spec))
			for i := range len(p.Spec.Ingress) + len(p.Spec.Egress) {
				switch n := len(p.Spec.Ingress); {
				case i < n && d == Ingress:
					portEdges(ports, p.Spec.Ingress[i].Ports)
				case i >= n && d == Egress:
					portEdges(ports, p.Spec.Egress[i-n].Ports)
				}
			}
		}
		slices.Sort(ids[state])
		for _, tier := range []Tier{Admin, Baseline} {
			ids[state] = append(ids[state], -1)
			for _, p := range e.tiers[tier] {
				if !e.isSubject(&p.Spec.Subject, pod) {
					continue
				}
				ids[state] = append(ids[state], c.content(known, p, p.Spec))
				for _, r := range clusterRules(p, d) {
					clusterEdges(ports, r.protocols)
				}
			}
		}
	}
	cl.changed[side] = !slices.Equal(ids[0], ids[1])
	cl.edges[side] = slices.Collect(maps.Keys(ports))
}

func portEdges(into map[edge]bool, ports []Port) {
	for _, p := range ports {
		if p.Port == nil || p.Port.Name != "" {
			continue // all of them, or those of class.named
		}
		proto, last := TCP, p.Port.Number
		if p.Protocol != nil {
			proto = *p.Protocol
		}
		if p.EndPort != nil {
			last = *p.EndPort
		}
		into[edge{proto, int(p.Port.Number)}], into[edge{proto, int(last) + 1}] = true, true
	}
}

func clusterEdges(into map[edge]bool, list []ClusterProtocol) {
	for _, p := range list {
		for i, port := range []*ProtocolPort{p.TCP, p.UDP, p.SCTP} {
			if port == nil || port.DestinationPort == nil {
				continue
			}
			first, last := port.DestinationPort.Number, port.DestinationPort.Number
			if r := port.DestinationPort.Range; r != nil {
				first, last = r.Start, r.End
			}
			into[edge{portProtocols[i], int(first)}], into[edge{portProtocols[i], int(last) + 1}] = true, true
		}
	}
}

// nameEdges notes the numbers of those ports of the class that somebody calls by name.
func (c *comparison) nameEdges(cl *class) {
	for name := range c.words.names {
		for _, proto := range portProtocols {
			for _, pod := range cl.members[0].pod {
				if n, ok := pod.port(name, proto); ok && name != "" {
					cl.named = append(cl.named, edge{proto, int(n)}, edge{proto, int(n) + 1})
				}
			}
		}
	}
}

// prepared returns the classes of a family, with what selects them.
func (c *comparison) prepared(family int) []*class {
	all := c.classes(family)
	known := map[any]int{}
	for _, cl := range all {
		if !cl.isPod() {
			continue
		}
		c.nameEdges(cl)
		for side := range 2 {
			c.selecting(known, cl, side)
		}
		cl.changed[0] = cl.changed[0] || c.names
	}
	c.whole[family], c.totals[family] = all, countEnds(all)
	return all
}

func (cl *class) isPod() bool { return !cl.node && cl.network == nil }

func (c *comparison) compare(family int) {
	all := c.prepared(family)
	for _, src := range all {
		for _, dst := range all {
			if c.budget <= 0 {
				return
			}
			if !src.isPod() && !dst.isPod() || !src.changed[0] && !dst.changed[1] && !src.altered && !dst.altered {
				continue
			}
			if from, to, ok := c.representatives(src, dst); ok {
				c.pair(family, src, dst, from, to)
			} else {
				c.excluded[[2]*class{src, dst}] = true
			}
		}
		if to := src.ownNode(c, family); to[0].IsValid() && to[1].IsValid() && (src.changed[0] || src.altered) {
			c.pair(family, src, nil, src.members[0].addrs, to)
		}
	}
}

// representatives picks an address of each class for each State; ok is false when there is nothing but a pod and itself, or a node and
// its own pods.
func (c *comparison) representatives(src, dst *class) (from, to [2]netip.Addr, ok bool) {
	ends := func(cl *class) []*member {
		if cl.network != nil {
			return []*member{{addrs: [2]netip.Addr{cl.addr, cl.addr}}}
		}
		return cl.members[:min(len(cl.members), 3)]
	}
	for _, a := range ends(src) {
		for _, b := range ends(dst) {
			own := a == b
			for state, e := range c.evaluators {
				own = own || a.pod[state] != nil && e.ownNode(a.pod[state], b.addrs[state]) || b.pod[state] != nil && e.ownNode(b.pod[state], a.addrs[state]) ||
					a.addrs[state] == b.addrs[state]
			}
			if !own {
				return a.addrs, b.addrs, true
			}
		}
	}
	return from, to, false
}

// ownNode returns the addresses of the node that the first pod of the class is on.
func (cl *class) ownNode(c *comparison, family int) (addrs [2]netip.Addr) {
	if !cl.isPod() {
		return addrs
	}
	for state, e := range c.evaluators {
		pod := cl.members[0].pod[state]
		var list []netip.Addr
		if n := e.nodeByName[pod.Spec.NodeName]; n != nil {
			list = n.addrs()
		}
		for _, text := range append([]HostIP{{pod.Status.HostIP}}, pod.Status.HostIPs...) {
			if a, err := netip.ParseAddr(text.IP); err == nil {
				list = append(list, a.Unmap())
			}
		}
		if i := slices.IndexFunc(list, func(a netip.Addr) bool { return familyIndex(a) == family }); i >= 0 {
			addrs[state] = list[i]
		}
	}
	return addrs
}
