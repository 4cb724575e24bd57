package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// use is what a rule does to the connections of a State.
type use struct {
	path   string
	policy string // path of its policy
	index  int    // in analysis.order

	matched  bool
	reached  bool            // it matched, and nothing had decided before
	by       map[*use]bool   // what had decided where it matched
	isolated map[string]bool // pods at which NetworkPolicies had, for Baseline
}

type useKey struct {
	policy any // pointer
	d      Direction
	i      int
}

func (a *analysis) use(p any, name string, d Direction, i int) *use {
	key := useKey{p, d, i}
	u := a.uses[key]
	if u == nil {
		u = &use{policy: name, path: fmt.Sprintf("%s.spec.%s[%d]", name, strings.ToLower(string(d)), i), index: len(a.order), by: map[*use]bool{}, isolated: map[string]bool{}}
		a.uses[key] = u
		a.order = append(a.order, u)
	}
	return u
}

// subject looks at every kind of connection of a class of pods.
func (a *analysis) subject(family int, cl *class) {
	for side, d := range []Direction{Egress, Ingress} {
		for _, peer := range a.whole[family] {
			if a.budget <= 0 {
				return
			}
			pod, addr := cl.members[0].pod[1], peer.address()
			if from, to, ok := a.representatives(cl, peer); ok {
				addr = to[1]
				i := slices.IndexFunc(cl.members, func(m *member) bool { return m.addrs == from })
				pod = cl.members[i].pod[1]
			} else if !peer.node {
				continue // a pod and itself
			}
			lists := [][]edge{cl.edges[side], cl.named}
			if d == Egress {
				lists = [][]edge{cl.edges[side], peer.named}
			}
			for _, proto := range portProtocols {
				for _, port := range segments(proto, lists...) {
					a.connection(d, pod, addr, &Packet{Protocol: proto, Port: uint16(port)})
				}
			}
			a.connection(d, pod, addr, &Packet{Protocol: portless})
		}
	}
}

// connection notes which rules match, and which of them decide.
func (a *analysis) connection(d Direction, pod *Pod, peer netip.Addr, p *Packet) {
	if a.budget--; a.budget <= 0 {
		return
	}
	q := query{e: a.e, d: d, subject: pod, packet: p, peer: peer, peers: a.e.pods[peer]}
	decided := a.tier(&q, Admin, nil, "")
	var allowing []*use
	isolated := false
	for _, np := range a.e.policies[pod.Meta.Namespace] {
		if !np.isolates(d) || !np.Spec.PodSelector.Matches(pod.Meta.Labels) {
			continue
		}
		isolated = true
		for i := range q.rules(np) {
			if _, peerOK, portOK := q.rule(np, i); !peerOK || !portOK {
				continue
			}
			u := a.use(np, fmt.Sprintf("policies[%s]", np.Meta.Key()), d, i)
			u.note(decided)
			allowing = append(allowing, u)
		}
	}
	if decided == nil && len(allowing) > 0 {
		a.remember(allowing)
	}
	at := ""
	if isolated && !a.e.ownNode(pod, peer) { // isolation leaves the own node out
		at = pod.Meta.Key().String()
	}
	a.tier(&q, Baseline, decided, at)
}

func (u *use) note(decided *use) {
	u.matched = true
	if decided == nil {
		u.reached = true
		return
	}
	u.by[decided] = true
}

// tier returns the rule that decides for good, nil when none does or one passes.
func (a *analysis) tier(q *query, tier Tier, decided *use, isolated string) *use {
	var first *use
	passed := false
	for _, p := range a.e.tiers[tier] {
		if !a.e.isSubject(&p.Spec.Subject, q.subject) {
			continue
		}
		for i, r := range clusterRules(p, q.d) {
			matched, _ := q.clusterRule(r)
			if !matched {
				continue
			}
			u := a.use(p, fmt.Sprintf("clusterPolicies[%s]", p.Meta.Name), q.d, i)
			switch {
			case decided != nil:
				u.note(decided)
			case isolated != "":
				u.matched, u.isolated[isolated] = true, true
			default:
				u.note(first)
			}
			if first == nil {
				first, passed = u, r.action == Pass && r.readable()
			}
		}
	}
	if passed {
		return nil
	}
	return first
}

func (a *analysis) remember(allowing []*use) {
	var key strings.Builder
	for _, u := range allowing {
		key.WriteString(strconv.Itoa(u.index) + " ")
	}
	if a.together == nil {
		a.together = map[string][]*use{}
	}
	a.together[key.String()] = allowing
}

// conclude says what the rules have come to.
func (a *analysis) conclude() {
	a.untouched()
	for _, u := range a.order {
		if u.reached || !u.matched || a.reported[u.path] {
			continue
		}
		f := Finding{Path: u.path, Kind: Shadowed, Text: "wherever it matches, others decide before"}
		for by := range u.by {
			f.By = append(f.By, by.path)
		}
		if len(u.isolated) > 0 {
			f.Text = fmt.Sprintf("wherever it matches, NetworkPolicies decide before, as for %s", slices.Sorted(maps.Keys(u.isolated))[0])
		}
		if len(u.isolated) > 0 && len(f.By) > 0 {
			f.Text += ", or others"
		}
		slices.Sort(f.By)
		a.findings = append(a.findings, f)
	}
	a.redundant()
}

// untouched finds rules that match no connection, though each of their peers is somewhere.
func (a *analysis) untouched() {
	check := func(p any, name string, d Direction, rules int) {
		for i := range rules {
			u := a.use(p, name, d, i)
			list := strings.TrimSuffix(u.path, fmt.Sprintf("[%d]", i))
			if !u.matched && !a.reported[name] && !a.reported[list] && !a.reported[u.path] {
				a.add(u.path, MatchesNothing, "no connection between its peers and the pods that it is for has such a port")
			}
		}
	}
	for _, cl := range a.states[1].ClusterPolicies {
		for _, p := range a.e.tiers[cl.Spec.Tier] {
			if p.Meta.Name == cl.Meta.Name {
				check(p, fmt.Sprintf("clusterPolicies[%s]", p.Meta.Name), Ingress, len(p.Spec.Ingress))
				check(p, fmt.Sprintf("clusterPolicies[%s]", p.Meta.Name), Egress, len(p.Spec.Egress))
			}
		}
	}
	for _, list := range a.e.policies {
		for _, p := range list {
			check(p, fmt.Sprintf("policies[%s]", p.Meta.Key()), Ingress, len(p.Spec.Ingress))
			check(p, fmt.Sprintf("policies[%s]", p.Meta.Key()), Egress, len(p.Spec.Egress))
		}
	}
}

// redundant finds rules that could go, one after the other, without anything being denied that is allowed: those that allow the least
// first, and of equals the last.
func (a *analysis) redundant() {
	sets := map[*use][][]*use{}
	for _, key := range slices.Sorted(maps.Keys(a.together)) {
		for _, u := range a.together[key] {
			sets[u] = append(sets[u], a.together[key])
		}
	}
	candidates := slices.Clone(a.order)
	slices.SortStableFunc(candidates, func(x, y *use) int {
		if n := len(sets[x]) - len(sets[y]); n != 0 {
			return n
		}
		return strings.Compare(y.path, x.path)
	})
	gone := map[*use]bool{}
	for _, u := range candidates {
		if len(sets[u]) == 0 || a.reported[u.path] {
			continue
		}
		others := map[string]bool{}
		needed := false
		for _, set := range sets[u] {
			i := slices.IndexFunc(set, func(o *use) bool { return o != u && !gone[o] && others[o.path] })
			if i < 0 {
				i = slices.IndexFunc(set, func(o *use) bool { return o != u && !gone[o] })
			}
			if i < 0 {
				needed = true
				break
			}
			others[set[i].path] = true
		}
		if !needed {
			gone[u] = true
			a.findings = append(a.findings, Finding{Path: u.path, Kind: Redundant, Text: "what it allows is allowed by others too", By: slices.Sorted(maps.Keys(others))})
		}
	}
}
