package main

import (
	"fmt"
	"strings"

	"github.com/podplumb/podplumb/policy"
)

// explain says for each family what becomes of a connection, and why.
func explain(o *options, from, to string) error {
	w, err := load(o.manifests)
	if err != nil {
		return err
	}
	cut := strings.LastIndex(to, ":")
	if cut < 0 {
		return fmt.Errorf("%q has no port: TO:PORT", to)
	}
	receiver := strings.Trim(to[:cut], "[]")
	sources, err := w.addrs(from)
	if err != nil {
		return err
	}
	targets, err := w.addrs(receiver)
	if err != nil {
		return err
	}
	proto, port, err := w.port(receiver, to[cut+1:])
	if err != nil {
		return err
	}
	evaluator := policy.NewEvaluator(w.state)
	asked, denied := 0, 0
	for _, src := range sources {
		for _, dst := range targets {
			if src.Is4() != dst.Is4() {
				continue
			}
			p := policy.Packet{Protocol: proto, Src: src, Dst: dst, Port: port}
			v := evaluator.Evaluate(p)
			asked++
			if !v.Allowed {
				denied++
			}
			o.out.Line("%s", p)
			o.out.Line("  %s", v)
			for _, d := range []policy.Decision{v.Egress, v.Ingress} {
				if d.Reason == policy.NoPod || d.Direction == "" || d.String() == v.By.String() {
					continue
				}
				o.out.Line("  %s: %s", strings.ToLower(string(d.Direction)), d)
			}
		}
	}
	if asked == 0 {
		return fmt.Errorf("%s and %s have no address of one family", from, receiver)
	}
	if denied > 0 {
		return errFound
	}
	return nil
}

// lint names what in the policies has no effect.
func lint(o *options) error {
	w, err := load(o.manifests)
	if err != nil {
		return err
	}
	if err := w.state.Validate(); err != nil {
		return err
	}
	for _, warning := range w.layout.Warnings {
		o.out.Line("note: %s", warning)
	}
	findings, complete := policy.Analyze(w.state)
	for _, f := range findings {
		o.out.Line("%s", f)
	}
	if !complete {
		o.out.Line("note: there is too much to look at all connections one by one")
	}
	o.out.Line("%d policies, %d findings", len(w.state.Policies)+len(w.state.ClusterPolicies), len(findings))
	if len(findings) > 0 {
		return errFound
	}
	return nil
}

// diff tells what a change of the manifests opens and closes. A side without pods is about those of -f.
func diff(o *options, before, after string) error {
	base, err := read(o.manifests)
	if err != nil {
		return err
	}
	var worlds [2]*world
	for i, path := range []string{before, after} {
		set, err := read(path)
		if err != nil {
			return err
		}
		if len(set.Pods)+len(set.Deployments) == 0 {
			set.Namespaces, set.Nodes, set.Pods, set.Deployments = base.Namespaces, base.Nodes, base.Pods, base.Deployments
		}
		if worlds[i], err = arrange(set); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	flows, complete := policy.Flows(worlds[0].state, worlds[1].state)
	for _, f := range flows {
		o.out.Line("%s", f)
	}
	if !complete {
		o.out.Line("note: there is more that changes than was looked at")
	}
	o.out.Line("%d changes", len(flows))
	return nil
}
