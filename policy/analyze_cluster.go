package policy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
)

// address is one of the class's addresses in the last State.
func (cl *class) address() netip.Addr {
	if cl.network != nil {
		return cl.addr
	}
	return cl.members[0].addrs[1]
}

func equalJSON(a, b any) bool {
	x, _ := json.Marshal(a) // of plain data: no error
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// clusterPolicy finds what can be seen without looking at connections.
func (a *analysis) clusterPolicy(p *ClusterNetworkPolicy) {
	path := fmt.Sprintf("clusterPolicies[%s]", p.Meta.Name)
	var subjects []*Pod
	for _, cl := range a.all {
		if cl.isPod() && a.e.isSubject(&p.Spec.Subject, cl.members[0].pod[0]) {
			subjects = append(subjects, cl.members[0].pod[0])
		}
	}
	if len(subjects) == 0 {
		text := "its subject has no field"
		if p.Spec.Subject.Namespaces != nil || p.Spec.Subject.Pods != nil {
			text = "no " + podsOf(p.Spec.Subject.Namespaces, p.Spec.Subject.Pods)
		}
		a.add(path, SelectsNothing, "%s", text)
		return
	}
	for _, d := range []Direction{Ingress, Egress} {
		for i, r := range clusterRules(p, d) {
			at := fmt.Sprintf("%s.spec.%s[%d]", path, strings.ToLower(string(d)), i)
			switch {
			case r.readable():
				a.clusterRule(at, d, r, subjects)
			case r.action == Accept:
				a.add(at, FailsClosed, "something in it cannot be read, and so it accepts nothing")
			default:
				a.add(at, FailsClosed, "something in it cannot be read, and so it denies everything")
			}
		}
	}
}

func (a *analysis) clusterRule(path string, d Direction, r clusterRule, subjects []*Pod) {
	side := map[Direction]string{Ingress: "from", Egress: "to"}[d]
	some := false
	receivers := subjects
	if d == Egress {
		receivers = nil
	}
	for j := range r.peers {
		here := false
		for _, cl := range a.all {
			addr := cl.address()
			q := query{e: a.e, d: d, peer: addr, peers: a.e.pods[addr]}
			if !q.clusterPeer(&r.peers[j], r.action) {
				continue
			}
			if here = true; cl.isPod() && d == Egress {
				receivers = append(receivers, cl.members[0].pod[0])
			}
		}
		some = some || here
		if p := &r.peers[j]; !here {
			text := "no address of it is known"
			switch {
			case p.Namespaces != nil || p.Pods != nil:
				text = "no " + podsOf(p.Namespaces, p.Pods)
			case p.Nodes != nil:
				text = fmt.Sprintf("no node has %s", p.Nodes)
			}
			a.add(fmt.Sprintf("%s.%s[%d]", path, side, j), MatchesNothing, "%s", text)
		}
	}
	if !some {
		a.add(path, MatchesNothing, "none of its peers is there")
		return
	}
	for j, p := range r.protocols {
		if p.DestinationNamedPort == "" {
			continue
		}
		has := false
		for _, pod := range receivers {
			for _, proto := range portProtocols {
				_, ok := pod.port(p.DestinationNamedPort, proto)
				has = has || ok
			}
		}
		if !has {
			a.add(fmt.Sprintf("%s.protocols[%d]", path, j), MatchesNothing, "none of the pods has a port named %q", p.DestinationNamedPort)
		}
	}
}

func podsOf(namespaces *Selector, pods *NamespacedPod) string {
	if pods != nil {
		return fmt.Sprintf("pod with %s is in a namespace with %s", &pods.PodSelector, &pods.NamespaceSelector)
	}
	return fmt.Sprintf("pod is in a namespace with %s", namespaces)
}
