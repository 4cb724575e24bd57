package policy_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/policy"
)

// turn throws a change to a world: objects come, go and change, and keep their names.
func (d dice) turn(s *policy.State) policy.Change {
	var c policy.Change
	for range 1 + d.IntN(3) {
		switch d.IntN(9) {
		case 0, 1, 2:
			d.turnPod(s, &c)
		case 3:
			name := pick(d, worldNamespaces)
			s.Namespaces = lacking(s.Namespaces, func(n policy.Namespace) bool { return n.Meta.Name == name })
			if d.oneIn(4) {
				c.Drop.Namespaces = append(c.Drop.Namespaces, name)
				c.Set.Namespaces = lacking(c.Set.Namespaces, func(n policy.Namespace) bool { return n.Meta.Name == name })
				continue
			}
			n := policy.Namespace{Meta: policy.Meta{Name: name, Labels: d.labels()}}
			s.Namespaces, c.Set.Namespaces = append(s.Namespaces, n), append(c.Set.Namespaces, n)
		case 4, 5:
			p := d.networkPolicy(fmt.Sprintf("p%d", d.IntN(5)))
			same := func(o policy.NetworkPolicy) bool { return o.Meta.Key() == p.Meta.Key() }
			s.Policies, c.Set.Policies = lacking(s.Policies, same), lacking(c.Set.Policies, same)
			if d.oneIn(2) {
				c.Drop.Policies = append(c.Drop.Policies, p.Meta.Key())
				continue
			}
			s.Policies, c.Set.Policies = append(s.Policies, p), append(c.Set.Policies, p)
		case 6:
			p := d.clusterPolicy(fmt.Sprintf("c%d", d.IntN(4)))
			same := func(o policy.ClusterNetworkPolicy) bool { return o.Meta.Name == p.Meta.Name }
			s.ClusterPolicies, c.Set.ClusterPolicies = lacking(s.ClusterPolicies, same), lacking(c.Set.ClusterPolicies, same)
			if d.oneIn(2) {
				c.Drop.ClusterPolicies = append(c.Drop.ClusterPolicies, p.Meta.Name)
				continue
			}
			s.ClusterPolicies, c.Set.ClusterPolicies = append(s.ClusterPolicies, p), append(c.Set.ClusterPolicies, p)
		case 7:
			n := policy.Node{Meta: policy.Meta{Name: fmt.Sprintf("node%d", d.IntN(2)), Labels: d.labels()}}
			for range d.IntN(3) {
				n.Status.Addresses = append(n.Status.Addresses, policy.NodeAddress{Address: pick(d, []string{"10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"})})
			}
			same := func(o policy.Node) bool { return o.Meta.Name == n.Meta.Name }
			s.Nodes, c.Set.Nodes = lacking(s.Nodes, same), lacking(c.Set.Nodes, same)
			if d.oneIn(3) {
				c.Drop.Nodes = append(c.Drop.Nodes, n.Meta.Name)
				continue
			}
			s.Nodes, c.Set.Nodes = append(s.Nodes, n), append(c.Set.Nodes, n)
		case 8:
			name := pick(d, []string{"a.example.com", "example.com", "b.a.example.com"})
			domains := map[string][]netip.Addr{}
			for k, v := range s.Domains {
				domains[k] = v
			}
			delete(domains, name)
			delete(c.Set.Domains, name)
			if d.oneIn(3) {
				c.Drop.Domains = append(c.Drop.Domains, name)
			} else {
				domains[name] = append(some(d, 2, func() netip.Addr { return pick(d, worldOutside) }), pick(d, worldOutside))
				if c.Set.Domains == nil {
					c.Set.Domains = map[string][]netip.Addr{}
				}
				c.Set.Domains[name] = domains[name]
			}
			s.Domains = domains
		}
	}
	return c
}

func (d dice) turnPod(s *policy.State, c *policy.Change) {
	p := d.pod(d.IntN(6))
	if d.oneIn(2) && len(s.Pods) > 0 {
		p = pick(d, s.Pods)
		p.Meta.Labels = d.labels()
	}
	same := func(o policy.Pod) bool { return o.Meta.Key() == p.Meta.Key() }
	s.Pods, c.Set.Pods = lacking(s.Pods, same), lacking(c.Set.Pods, same)
	if d.oneIn(4) {
		c.Drop.Pods = append(c.Drop.Pods, p.Meta.Key())
		return
	}
	s.Pods, c.Set.Pods = append(s.Pods, p), append(c.Set.Pods, p)
}

func lacking[T any](list []T, gone func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(list), gone)
}

// A sequence of changes ends byte for byte where a fresh compile of the State begins, the plans lead there one by one, and the Evaluator
// that goes along answers as a new one.
func FuzzChange(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed, seed%3 == 0)
	}
	f.Fuzz(func(t *testing.T, seed uint64, faulty bool) {
		d := newDice(seed, faulty)
		c := policy.Config{Node: pick(d, []string{"", "node0"}), KeepLive: d.oneIn(2), Mark: pick(d, []uint32{0, 0xff000000})}
		if d.oneIn(2) {
			c.Local = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:244::/64")}
		}
		s := d.state(1+d.IntN(5), 4, 3)
		numbers := pick(d, []uint32{0, 100})
		w := policy.NarrowWorld(c, numbers)
		kernel := policy.CompileAnyway(c, policy.State{})
		steps := []policy.Change{{Set: s}}
		for range 8 {
			steps = append(steps, d.turn(&s))
		}
		// s is where it ends; on the way, what the world is must be compiled from the steps.
		var at policy.State
		for i, step := range steps {
			p := w.Change(step)
			require.True(t, policy.Fits(p, kernel), "step %d does not begin where the one before ended:\n%s", i, p)
			kernel = policy.Applied(p, kernel)
			at = after(at, step)
			fresh := policy.CompileNarrow(c, numbers, at)
			sameText(t, fresh.String(), w.Ruleset().String(), "step %d", i)
			sameText(t, fresh.String(), kernel.String(), "the plan of step %d:\n%s", i, p)
			require.Empty(t, policy.Diff(kernel, fresh).String())
		}
		sameText(t, policy.CompileNarrow(c, numbers, s).String(), w.Ruleset().String(), "the end")
		e := policy.NewEvaluator(s)
		all := ends(s)
		for range 200 {
			p := policy.Packet{Protocol: pick(d, worldProtocols), Src: pick(d, all), Dst: pick(d, all), Port: pick(d, worldPorts)}
			require.Equal(t, e.Evaluate(p).Allowed, w.Evaluator().Evaluate(p).Allowed, p)
		}
		last := w.Change(policy.Change{Drop: everything(s)})
		require.True(t, w.Ruleset().Empty(), "%s\n%s", last, w.Ruleset())
	})
}

// sameText shows where two texts begin to differ.
func sameText(t *testing.T, want, got, format string, args ...any) {
	t.Helper()
	if want == got {
		return
	}
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	t.Fatalf(format+"\nwant: %s\ngot:  %s", append(args, strings.Join(a[i:min(i+4, len(a))], "\n"), strings.Join(b[i:min(i+4, len(b))], "\n"))...)
}

// after returns s after a change, done in the plainest way.
func after(s policy.State, c policy.Change) policy.State {
	var out policy.State
	out.Namespaces = merge(s.Namespaces, c.Set.Namespaces, func(n *policy.Namespace) string { return n.Meta.Name }, c.Drop.Namespaces)
	out.Nodes = merge(s.Nodes, c.Set.Nodes, func(n *policy.Node) string { return n.Meta.Name }, c.Drop.Nodes)
	out.Pods = merge(s.Pods, c.Set.Pods, func(p *policy.Pod) policy.Name { return p.Meta.Key() }, c.Drop.Pods)
	out.Policies = merge(s.Policies, c.Set.Policies, func(p *policy.NetworkPolicy) policy.Name { return p.Meta.Key() }, c.Drop.Policies)
	out.ClusterPolicies = merge(s.ClusterPolicies, c.Set.ClusterPolicies, func(p *policy.ClusterNetworkPolicy) string { return p.Meta.Name }, c.Drop.ClusterPolicies)
	out.Domains = map[string][]netip.Addr{}
	for k, v := range s.Domains {
		if !slices.Contains(c.Drop.Domains, k) {
			out.Domains[k] = v
		}
	}
	for k, v := range c.Set.Domains {
		out.Domains[k] = v
	}
	return out
}

func merge[T any, K comparable](have, set []T, key func(*T) K, drop []K) []T {
	var out []T
	for i := range have {
		k := key(&have[i])
		if !slices.Contains(drop, k) && !slices.ContainsFunc(set, func(o T) bool { return key(&o) == k }) {
			out = append(out, have[i])
		}
	}
	return append(out, set...)
}

// everything names all that is in s.
func everything(s policy.State) policy.Drop {
	var d policy.Drop
	for i := range s.Namespaces {
		d.Namespaces = append(d.Namespaces, s.Namespaces[i].Meta.Name)
	}
	for i := range s.Nodes {
		d.Nodes = append(d.Nodes, s.Nodes[i].Meta.Name)
	}
	for i := range s.Pods {
		d.Pods = append(d.Pods, s.Pods[i].Meta.Key())
	}
	for i := range s.Policies {
		d.Policies = append(d.Policies, s.Policies[i].Meta.Key())
	}
	for i := range s.ClusterPolicies {
		d.ClusterPolicies = append(d.ClusterPolicies, s.ClusterPolicies[i].Meta.Name)
	}
	d.Domains = sortedKeys(s.Domains)
	return d
}
