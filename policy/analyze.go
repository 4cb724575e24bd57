package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Finding is something in the policies of a State that has no effect there, and so is probably not what somebody meant.
type Finding struct {
	Path string // such as policies[db/allow].spec.ingress[0].from[1]
	Kind FindingKind
	Text string   // why
	By   []string // paths of the rules that decide instead, with Shadowed and Redundant
}

// FindingKind tells what kind of Finding it is.
type FindingKind uint8

// The kinds of findings.
const (
	SelectsNothing FindingKind = iota // a policy is for no pod
	MatchesNothing                    // a rule, peer or port is for no connection
	Shadowed                          // wherever a rule matches, another one has decided before
	Redundant                         // whatever a rule, peer or port allows is allowed without it
	Ignored                           // rules of a direction that the policyTypes leave out
	FailsClosed                       // a rule cannot be read, and so accepts nothing or denies everything
)

// String names the kind.
func (k FindingKind) String() string {
	return [...]string{"selects nothing", "matches nothing", "shadowed", "redundant", "ignored", "fails closed"}[min(k, FailsClosed)]
}

// String prints "path: kind: text".
func (f Finding) String() string {
	text := f.Path + ": " + f.Kind.String()
	if f.Text != "" {
		text += ": " + f.Text
	}
	if len(f.By) > 0 {
		text += ": " + strings.Join(f.By, ", ")
	}
	return text
}

// Analyze finds what in the policies of s has no effect on the pods, nodes and namespaces of s: policies that select no pod, rules and
// peers and named ports that match nothing, rules that are shadowed by others or say what others say too. It does not repeat what
// Validate finds. The result is sorted by path.
//
// complete is false when there is more to look at than is done in a few seconds. The result then has only what was found without
// looking at connections one by one.
func Analyze(s State) (findings []Finding, complete bool) {
	e := NewEvaluator(s)
	a := &analysis{comparison: comparison{states: [2]State{s, s}, evaluators: [2]*Evaluator{e, e}, budget: maxCells}, e: e, uses: map[useKey]*use{}}
	a.compile()
	for family := range 2 {
		a.all = append(a.all, a.prepared(family)...)
	}
	for i := range s.Policies {
		a.networkPolicy(&s.Policies[i])
	}
	for i := range s.ClusterPolicies {
		a.clusterPolicy(&s.ClusterPolicies[i])
	}
	for family := range 2 {
		for _, cl := range a.whole[family] {
			if cl.isPod() {
				a.subject(family, cl)
			}
		}
	}
	if complete = a.budget > 0; complete {
		a.conclude()
	}
	slices.SortStableFunc(a.findings, func(x, y Finding) int { return cmp.Compare(x.Path, y.Path) })
	return a.findings, complete
}

// analysis is Analyze at work.
type analysis struct {
	comparison
	e        *Evaluator
	all      []*class // of both families
	findings []Finding
	uses     map[useKey]*use
	order    []*use
	together map[string][]*use // sets of rules of NetworkPolicies that allow a connection together
	reported map[string]bool   // paths of policies and rules of which no more needs to be said
}

func (a *analysis) add(path string, kind FindingKind, format string, args ...any) {
	if a.reported == nil {
		a.reported = map[string]bool{}
	}
	a.reported[path] = true
	a.findings = append(a.findings, Finding{Path: path, Kind: kind, Text: fmt.Sprintf(format, args...)})
}

// networkPolicy finds what can be seen without looking at connections.
func (a *analysis) networkPolicy(p *NetworkPolicy) {
	path := fmt.Sprintf("policies[%s]", p.Meta.Key())
	var subjects []*Pod
	for _, cl := range a.all {
		if cl.isPod() && cl.members[0].name.Namespace == p.Meta.Namespace && p.Spec.PodSelector.Matches(cl.members[0].pod[0].Meta.Labels) {
			subjects = append(subjects, cl.members[0].pod[0])
		}
	}
	if len(subjects) == 0 {
		switch _, known := a.e.labels[p.Meta.Namespace]; {
		case !known && len(a.e.labels) > 0:
			a.add(path, SelectsNothing, "there is no namespace %q", p.Meta.Namespace)
		case p.Spec.PodSelector.Empty():
			a.add(path, SelectsNothing, "namespace %q has no pod", p.Meta.Namespace)
		default:
			a.add(path, SelectsNothing, "no pod of namespace %q has %s", p.Meta.Namespace, p.Spec.PodSelector.String())
		}
		return
	}
	for _, d := range []Direction{Ingress, Egress} {
		rules, list := len(p.Spec.Ingress), ".spec.ingress"
		if d == Egress {
			rules, list = len(p.Spec.Egress), ".spec.egress"
		}
		if rules > 0 && !p.isolates(d) {
			a.add(path+list, Ignored, "policyTypes does not have %s", d)
			continue
		}
		for i := range rules {
			a.rule(fmt.Sprintf("%s%s[%d]", path, list, i), p, d, i, subjects)
		}
	}
}

func (a *analysis) rule(path string, p *NetworkPolicy, d Direction, i int, subjects []*Pod) {
	side, peers, ports := "from", []Peer(nil), []Port(nil)
	if d == Ingress {
		peers, ports = p.Spec.Ingress[i].From, p.Spec.Ingress[i].Ports
	} else {
		side, peers, ports = "to", p.Spec.Egress[i].To, p.Spec.Egress[i].Ports
	}
	var found []*class
	for j := range peers {
		at := fmt.Sprintf("%s.%s[%d]", path, side, j)
		matched := false
		for _, cl := range a.all {
			addr := cl.address()
			q := query{e: a.e, d: d, peer: addr, peers: a.e.pods[addr]}
			if q.matchesPeer(p.Meta.Namespace, &peers[j]) {
				matched, found = true, append(found, cl)
			}
		}
		switch same := slices.IndexFunc(peers[:j], func(o Peer) bool { return equalJSON(o, peers[j]) }); {
		case !matched:
			a.add(at, MatchesNothing, "%s", peers[j].emptiness(p.Meta.Namespace))
		case same >= 0:
			a.add(at, Redundant, "it is the same as %s[%d]", side, same)
		}
	}
	if len(peers) > 0 && len(found) == 0 {
		a.add(path, MatchesNothing, "none of its peers is there")
		return
	}
	receivers := subjects
	if d == Egress {
		receivers = nil
		for _, cl := range a.all {
			if cl.isPod() && (len(peers) == 0 || slices.Contains(found, cl)) {
				receivers = append(receivers, cl.members[0].pod[0])
			}
		}
	}
	for j := range ports {
		at := fmt.Sprintf("%s.ports[%d]", path, j)
		if same := slices.IndexFunc(ports[:j], func(o Port) bool { return equalJSON(o, ports[j]) }); same >= 0 {
			a.add(at, Redundant, "it is the same as ports[%d]", same)
			continue
		}
		if ports[j].Port == nil || ports[j].Port.Name == "" {
			continue
		}
		proto := TCP
		if ports[j].Protocol != nil {
			proto = ports[j].Protocol.orTCP()
		}
		if !slices.ContainsFunc(receivers, func(pod *Pod) bool { _, ok := pod.port(ports[j].Port.Name, proto); return ok }) {
			a.add(at, MatchesNothing, "none of the pods has a %s port named %q", proto, ports[j].Port.Name)
		}
	}
}

// emptiness says why a peer is nobody.
func (p *Peer) emptiness(namespace string) string {
	switch {
	case p.IPBlock != nil && len(p.IPBlock.Except) > 0:
		return fmt.Sprintf("the exceptions leave nothing of %s", p.IPBlock.CIDR)
	case p.IPBlock != nil:
		return fmt.Sprintf("%s is no address range", p.IPBlock.CIDR)
	case p.NamespaceSelector == nil && p.PodSelector == nil:
		return "it has no field"
	case p.NamespaceSelector == nil:
		return fmt.Sprintf("no pod of namespace %q has %s", namespace, p.PodSelector)
	case p.PodSelector == nil || p.PodSelector.Empty():
		return fmt.Sprintf("no pod is in a namespace with %s", p.NamespaceSelector)
	}
	return fmt.Sprintf("no pod with %s is in a namespace with %s", p.PodSelector, p.NamespaceSelector)
}
