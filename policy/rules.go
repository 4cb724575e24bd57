package policy

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/podplumb/podplumb/internal/nft"
)

// rules is a policy of either kind in a world: whom it is for, and what its rules become.
type rules struct {
	key      policyKey
	revision uint64 // of this object, among all that ever were
	network  *NetworkPolicy
	cluster  *ClusterNetworkPolicy
	subject  *matcher
	making   *making // of the world

	made [directions][families]*[]clause // without resolved ports; made once
}

// clause is one way to match a rule of a policy.
type clause struct {
	condition
	action  Action
	counter *wantCounter
	blocks  *blocks    // instead of the counter, for what is gathered
	rules   []nft.Rule // none for what passes: where to depends on the profile
}

// applies reports whether the policy has a say in a direction.
func (r *rules) applies(d int) bool {
	switch {
	case r.network != nil:
		return r.network.isolates(directionOf(d))
	case d == egress:
		return len(r.cluster.Spec.Egress) > 0
	}
	return len(r.cluster.Spec.Ingress) > 0
}

// clauses returns the policy's clauses for a recipe. For a pod that shares its address, named ports of an ingress rule are its own, and
// nothing is gathered.
func (r *rules) clauses(cfg *Config, by *recipe) []clause {
	d, f := by.d, by.f
	if by.shared {
		var ports map[namedPort]uint16
		if d == ingress {
			ports = by.ports
		}
		return r.make(cfg, d, f, ports, false)
	}
	if r.made[d][f] == nil {
		list := r.make(cfg, d, f, nil, true)
		r.made[d][f] = &list
	}
	return *r.made[d][f]
}

func (r *rules) make(cfg *Config, d, f int, ports map[namedPort]uint16, gathered bool) (list []clause) {
	w := clauses{cfg: cfg, making: r.making, d: d, f: f, rules: r.making.rules[:0]}
	switch {
	case r.network != nil && d == ingress:
		for i := range r.network.Spec.Ingress {
			rule := &r.network.Spec.Ingress[i]
			r.networkRule(&w, i, rule.From, rule.Ports, ports)
		}
	case r.network != nil:
		for i := range r.network.Spec.Egress {
			rule := &r.network.Spec.Egress[i]
			r.networkRule(&w, i, rule.To, rule.Ports, ports)
		}
	default:
		for i, rule := range clusterRules(r.cluster, directionOf(d)) {
			counter := w.counter(r, i, rule.name, rule.action == Accept, r.cluster.Spec.Tier)
			if !rule.readable() {
				if rule.action != Accept {
					w.add(Deny, counter, []condition{{}}, portList{all: true})
				}
				continue
			}
			action := rule.action
			if action != Accept && action != Pass {
				action = Deny
			}
			l := readProtocols(rule.protocols, rule.action)
			if ports != nil {
				l = l.resolve(ports)
			}
			// What denies is for an address as soon as one of its pods is selected. An action of a later version denies, on the terms of one
			// that does not.
			w.add(action, counter, r.clusterPeers(d, f, rule.peers, rule.action == Deny), l)
		}
		return w.list
	}
	if gathered {
		g := gathering{making: r.making, rules: r, d: d, f: f}
		w.list = g.gather(w.rules)
		r.making.seal(w.list)
	}
	for i := range w.rules {
		b := &w.rules[i]
		if from := b.conditions(d, f); len(from) > 0 {
			w.add(Accept, w.counter(r, b.index, "", true, NetworkPolicyTier), from, b.all)
		}
	}
	r.making.rules = w.rules
	return w.list
}

// clauses is the clauses of a policy being made.
type clauses struct {
	cfg    *Config
	making *making
	d, f   int
	list   []clause
	rules  []blockRule // of a NetworkPolicy
}

// decision is that of a NetworkPolicy's rule.
func (r *rules) decision(d, i int) Decision {
	return Decision{Allowed: true, Reason: ByRule, Direction: directionOf(d), Tier: NetworkPolicyTier, Policy: r.key.name, Rule: i, Peer: -1}
}

func (w *clauses) counter(r *rules, i int, name string, allows bool, tier Tier) *wantCounter {
	return counterOf(Decision{
		Allowed: allows, Reason: ByRule, Direction: directionOf(w.d), Tier: tier, Policy: r.key.name, Rule: i, RuleName: name, Peer: -1,
	})
}

// add makes the clauses of a rule.
func (w *clauses) add(action Action, counter *wantCounter, from []condition, ports portList) {
	first := len(w.list)
	for _, peer := range from {
		for _, port := range ports.conditions(w.d, w.f) {
			c := clause{action: action, counter: counter, condition: peer.and(port)}
			switch action {
			case Pass:
			case Deny:
				c.rules = w.cfg.refuse(c.stmts, counter)
			default:
				c.rules = []nft.Rule{{Stmts: append(c.stmts, nft.Count{Counter: counter.name}, allow), Comment: counter.label}}
			}
			w.list = append(w.list, c)
		}
	}
	w.making.seal(w.list[first:])
}

// networkRule takes in a rule of a NetworkPolicy: everyone if there are no peers.
func (r *rules) networkRule(w *clauses, i int, from []Peer, list []Port, ports map[namedPort]uint16) {
	l := readPorts(list)
	if ports != nil {
		l = l.resolve(ports)
	}
	if len(from) == 0 {
		w.rules = append(w.rules, blockRule{everyone: true, index: i, all: l})
		return
	}
	var found peers
	var blocks []span
	for i := range from {
		p := &from[i]
		switch {
		case p.IPBlock != nil:
			// A block beside selectors is refused by the API server; it allows nothing here.
			if p.PodSelector == nil && p.NamespaceSelector == nil {
				blocks = append(blocks, p.IPBlock.spans()...)
			}
		case p.NamespaceSelector != nil:
			found.pods = append(found.pods, matching{spaces: p.NamespaceSelector.canonical(), labels: p.PodSelector.canonical()})
		case p.PodSelector != nil:
			found.pods = append(found.pods, matching{scope: r.key.name.Namespace, labels: p.PodSelector.canonical()})
		}
	}
	b := split(w.f, i, blocks, l)
	b.peers = r.making.peersOf(&found, w.f)
	w.rules = append(w.rules, b)
}

func (r *rules) clusterPeers(d, f int, list []ClusterEgressPeer, deny bool) []condition {
	found := peers{any: deny}
	var blocks []span
	for i := range list {
		p := &list[i]
		switch {
		case p.Namespaces != nil:
			found.pods = append(found.pods, matching{spaces: p.Namespaces.canonical()})
		case p.Pods != nil:
			found.pods = append(found.pods, matching{spaces: p.Pods.NamespaceSelector.canonical(), labels: p.Pods.PodSelector.canonical()})
		case p.Nodes != nil:
			nodes := p.Nodes.canonical()
			if nodes == nil {
				nodes = &Selector{}
			}
			found.nodes = append(found.nodes, nodes)
		case p.Networks != nil:
			for _, s := range p.Networks {
				if in, ok := parseNetwork(s); ok {
					blocks = append(blocks, spanOf(in))
				}
			}
		default:
			found.domains = append(found.domains, p.DomainNames...)
		}
	}
	return peerConditions(d, f, r.making.peersOf(&found, f), blocks)
}

// peerConditions returns one for the addresses that selectors find and one for those that are written down.
func peerConditions(d, f int, found *wantSet, blocks []span) (list []condition) {
	if found != nil {
		list = append(list, condition{[]nft.Stmt{nft.In{Key: peerField(d, f), Set: found.def}}, []*wantSet{found}})
	}
	if c, ok := within(peerField(d, f), f, blocks); ok {
		list = append(list, c)
	}
	return list
}

// counter is the name of the counter of what d decides: by the rule, or by the policies that isolate.
func (d *Decision) counter() string {
	var space [8]string
	parts := append(space[:0], string(d.Direction), d.Reason.String(), string(d.Tier), d.Policy.String(), strconv.Itoa(d.Rule))
	for _, n := range d.Isolating {
		parts = append(parts, n.String())
	}
	return "by-" + digest(parts...)
}

// label says what decides, for people who list the table.
func (d *Decision) label() string {
	switch d.Reason {
	case ByRule:
		return comment(string(d.Tier) + " " + d.Policy.String() + " " + d.noun() + "[" + strconv.Itoa(d.Rule) + "]")
	case ByIsolation:
		names := make([]string, len(d.Isolating))
		for i, n := range d.Isolating {
			names[i] = n.String()
		}
		return comment(d.noun() + " isolated by " + strings.Join(names, ", "))
	}
	return comment(d.noun() + " " + d.Reason.String())
}

// changePolicies puts new policies in the place of old ones.
func (w *world) changePolicies(c Change) {
	for _, name := range c.Drop.Policies {
		w.setPolicy(policyKey{false, name}, nil, nil)
	}
	for i := range c.Set.Policies {
		p := c.Set.Policies[i]
		w.setPolicy(policyKey{false, p.Meta.Key()}, &p, nil)
	}
	for _, name := range c.Drop.ClusterPolicies {
		w.setPolicy(policyKey{true, Name{Name: name}}, nil, nil)
	}
	for i := range c.Set.ClusterPolicies {
		p := c.Set.ClusterPolicies[i]
		w.setPolicy(policyKey{true, Name{Name: p.Meta.Name}}, nil, &p)
	}
}

func (w *world) setPolicy(key policyKey, network *NetworkPolicy, cluster *ClusterNetworkPolicy) {
	old := w.policies[key]
	if old == nil && network == nil && cluster == nil {
		return
	}
	var now *rules
	if network != nil || cluster != nil {
		w.revision++
		now = &rules{key: key, revision: w.revision, network: network, cluster: cluster, making: w.making}
		if m, ok := now.subjects(); ok {
			now.subject = w.acquire(m)
			if now.subject.subjects == nil {
				now.subject.subjects = map[*rules]struct{}{}
			}
			now.subject.subjects[now] = struct{}{}
			each(now.subject.pods, w.unplace)
		}
		w.policies[key] = now
	} else {
		delete(w.policies, key)
	}
	if old != nil && old.subject != nil {
		delete(old.subject.subjects, old)
		each(old.subject.pods, w.unplace)
		w.idle.matchers = append(w.idle.matchers, old.subject)
	}
	w.evaluatorPolicy(key, network, cluster)
}

// subjects returns whom the policy is for; false for nobody.
func (r *rules) subjects() (matching, bool) {
	switch {
	case r.network != nil:
		return matching{scope: r.key.name.Namespace, labels: r.network.Spec.PodSelector.canonical()}, true
	case r.cluster.Spec.Subject.Namespaces != nil:
		return matching{spaces: r.cluster.Spec.Subject.Namespaces.canonical()}, true
	case r.cluster.Spec.Subject.Pods != nil:
		p := r.cluster.Spec.Subject.Pods
		return matching{spaces: p.NamespaceSelector.canonical(), labels: p.PodSelector.canonical()}, true
	}
	return matching{}, false
}

// evaluatorPolicy tells the Evaluator of a policy that is new or gone.
func (w *world) evaluatorPolicy(key policyKey, network *NetworkPolicy, cluster *ClusterNetworkPolicy) {
	if !key.cluster {
		list := slices.DeleteFunc(w.ev.policies[key.name.Namespace], func(p *NetworkPolicy) bool { return p.Meta.Name == key.name.Name })
		if network != nil {
			i, _ := slices.BinarySearchFunc(list, network.Meta.Name, func(p *NetworkPolicy, name string) int { return strings.Compare(p.Meta.Name, name) })
			list = slices.Insert(list, i, network)
		}
		if w.ev.policies[key.name.Namespace] = list; len(list) == 0 {
			delete(w.ev.policies, key.name.Namespace)
		}
		return
	}
	for tier, list := range w.ev.tiers {
		w.ev.tiers[tier] = slices.DeleteFunc(list, func(p *ClusterNetworkPolicy) bool { return p.Meta.Name == key.name.Name })
	}
	if cluster != nil {
		list := append(w.ev.tiers[cluster.Spec.Tier], cluster)
		slices.SortFunc(list, compareClusterPolicies)
		w.ev.tiers[cluster.Spec.Tier] = list
	}
}

func compareClusterPolicies(a, b *ClusterNetworkPolicy) int {
	return cmp.Or(cmp.Compare(a.Spec.Priority, b.Spec.Priority), cmp.Compare(a.Meta.Name, b.Meta.Name))
}
