package policy_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/policy"
)

func TestAnalyze(t *testing.T) {
	t.Parallel()
	np := func(namespace, name, spec string) string {
		return `{"metadata":{"namespace":"` + namespace + `","name":"` + name + `"},"spec":` + spec + `}`
	}
	cnp := func(name, spec string) string { return `{"metadata":{"name":"` + name + `"},"spec":` + spec + `}` }
	tests := []struct {
		name     string
		policies []string
		cluster  []string
		want     string
	}{
		{name: "a sound policy", policies: []string{np("db", "x", `{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"team":"front"}}}],"ports":[{"port":"sql"}]}]}`)}},
		{name: "policies for no pod", policies: []string{
			np("db", "typo", `{"podSelector":{"matchLabels":{"app":"postgres"}}}`), np("ops", "host", `{"podSelector":{}}`), np("nowhere", "x", `{"podSelector":{}}`),
		}, cluster: []string{cnp("x", `{"tier":"Admin","priority":1,"subject":{"namespaces":{"matchLabels":{"no":"such"}}}}`)}, want: `
clusterPolicies[x]: selects nothing: no pod is in a namespace with no=such
policies[db/typo]: selects nothing: no pod of namespace "db" has app=postgres
policies[nowhere/x]: selects nothing: there is no namespace "nowhere"
policies[ops/host]: selects nothing: namespace "ops" has no pod
`},
		{name: "peers that are nobody", policies: []string{np("db", "x", `{"podSelector":{},"ingress":[
			{"from":[{"podSelector":{"matchLabels":{"app":"front"}}},{"podSelector":{}}]},
			{"from":[{"namespaceSelector":{"matchLabels":{"team":"frnt"}}},{"ipBlock":{"cidr":"10.1.0.0/16","except":["10.1.0.0/17","10.1.128.0/17"]}}]}]}`)}, want: `
policies[db/x].spec.ingress[0].from[0]: matches nothing: no pod of namespace "db" has app=front
policies[db/x].spec.ingress[1]: matches nothing: none of its peers is there
policies[db/x].spec.ingress[1].from[0]: matches nothing: no pod is in a namespace with team=frnt
policies[db/x].spec.ingress[1].from[1]: matches nothing: the exceptions leave nothing of 10.1.0.0/16
`},
		{name: "named ports that nobody has", policies: []string{np("db", "x", `{"podSelector":{},"ingress":[{"ports":[{"port":"sql"},{"port":"sql","protocol":"UDP"}]},{"ports":[{"port":"http"}]}]}`)}, want: `
policies[db/x].spec.ingress[0].ports[1]: matches nothing: none of the pods has a UDP port named "sql"
policies[db/x].spec.ingress[1]: matches nothing: no connection between its peers and the pods that it is for has such a port
policies[db/x].spec.ingress[1].ports[0]: matches nothing: none of the pods has a TCP port named "http"
`},
		{name: "rules without their direction", policies: []string{np("db", "x", `{"podSelector":{},"policyTypes":["Egress"],"ingress":[{}]}`)}, want: `
policies[db/x].spec.ingress: ignored: policyTypes does not have Ingress
`},
		{name: "rules that others make superfluous", policies: []string{
			np("db", "all", `{"podSelector":{},"ingress":[{"ports":[{"port":100,"endPort":200}]}]}`),
			np("db", "some", `{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{}}],"ports":[{"port":150},{"port":150}]},{"ports":[{"port":200,"endPort":201}]}]}`),
			np("db", "twin", `{"podSelector":{},"ingress":[{"ports":[{"port":100,"endPort":200}]}]}`),
		}, want: `
policies[db/some].spec.ingress[0]: redundant: what it allows is allowed by others too: policies[db/all].spec.ingress[0]
policies[db/some].spec.ingress[0].ports[1]: redundant: it is the same as ports[0]
policies[db/twin].spec.ingress[0]: redundant: what it allows is allowed by others too: policies[db/all].spec.ingress[0]
`},
		{name: "rules below others", policies: []string{np("db", "x", `{"podSelector":{},"ingress":[{"from":[{"namespaceSelector":{"matchLabels":{"team":"front"}}}]},{"from":[{"podSelector":{}}]}]}`)}, cluster: []string{
			cnp("a", `{"tier":"Admin","priority":1,"subject":{"namespaces":{"matchLabels":{"team":"back"}}},"ingress":[
				{"action":"Deny","from":[{"namespaces":{"matchLabels":{"team":"front"}}}]},{"action":"Accept","from":[{"pods":{"namespaceSelector":{},"podSelector":{"matchLabels":{"app":"front"}}}}]},
				{"action":"Accept","from":[{}]}]}`),
			cnp("b", `{"tier":"Baseline","priority":1,"subject":{"namespaces":{"matchLabels":{"team":"back"}}},"ingress":[{"action":"Accept","from":[{"namespaces":{}}]}]}`),
		}, want: `
clusterPolicies[a].spec.ingress[1]: shadowed: wherever it matches, others decide before: clusterPolicies[a].spec.ingress[0]
clusterPolicies[a].spec.ingress[2]: fails closed: something in it cannot be read, and so it accepts nothing
clusterPolicies[b].spec.ingress[0]: shadowed: wherever it matches, NetworkPolicies decide before, as for db/pg-0, or others: clusterPolicies[a].spec.ingress[0]
policies[db/x].spec.ingress[0]: shadowed: wherever it matches, others decide before: clusterPolicies[a].spec.ingress[0]
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := world(t)
			for _, text := range tt.policies {
				var p policy.NetworkPolicy
				parse(t, &p, text)
				s.Policies = append(s.Policies, p)
			}
			for _, text := range tt.cluster {
				var p policy.ClusterNetworkPolicy
				parse(t, &p, text)
				s.ClusterPolicies = append(s.ClusterPolicies, p)
			}
			findings, complete := policy.Analyze(s)
			require.True(t, complete)
			require.Equal(t, strings.TrimPrefix(tt.want, "\n"), lines(findings))
		})
	}
}

var rulePath = regexp.MustCompile(`^(policies|clusterPolicies)\[([^\]]*)\]\.spec\.(ingress|egress)\[(\d+)\]$`)

// TestFindingsHaveNoEffect takes all the rules that Analyze finds fault with out of random worlds and requires that every verdict stays.
func TestFindingsHaveNoEffect(t *testing.T) {
	t.Parallel()
	deadline := time.Now().Add(*oracleTime)
	taken := map[policy.FindingKind]int{}
	for seed := uint64(0); seed < 20 || time.Now().Before(deadline); seed++ {
		before := newDice(seed, seed%4 == 3).state(6, 4, int(seed%3)*2)
		findings, complete := policy.Analyze(before)
		require.True(t, complete)
		after := before
		after.Policies, after.ClusterPolicies = slices.Clone(before.Policies), slices.Clone(before.ClusterPolicies)
		kinds := map[string]policy.FindingKind{}
		for _, f := range findings {
			if rulePath.MatchString(f.Path) && f.Kind != policy.FailsClosed {
				kinds[f.Path] = f.Kind
			}
		}
		for path, kind := range kinds {
			taken[kind]++
			remove(&after, path)
		}
		was, is := policy.NewEvaluator(before), policy.NewEvaluator(after)
		o := newOracle(before)
		for _, src := range o.peers {
			for _, dst := range o.peers {
				if len(o.pods(src)) > 1 || len(o.pods(dst)) > 1 {
					continue // two pods that share an address are not looked at as one end of a connection to each other
				}
				for _, proto := range worldProtocols {
					for _, port := range []uint16{1, 53, 80, 81, 100, 65534, 65535} {
						p := policy.Packet{Protocol: proto, Src: src, Dst: dst, Port: port}
						if a, b := was.Evaluate(p), is.Evaluate(p); a.Allowed != b.Allowed && src.Is4() == dst.Is4() {
							t.Fatalf("world %d: %s: %s, and without what Analyze finds: %s\n%s\n%s", seed, p, a, b, lines(findings), dump(before))
						}
					}
				}
			}
		}
	}
	for _, kind := range []policy.FindingKind{policy.MatchesNothing, policy.Shadowed, policy.Redundant} {
		require.Positive(t, taken[kind], kind)
	}
	t.Log(taken)
}

// remove empties the rule at the path so that it matches nothing; its index is to stay.
func remove(s *policy.State, path string) {
	m := rulePath.FindStringSubmatch(path)
	i, _ := strconv.Atoi(m[4])
	never := []policy.Port{{EndPort: new(int32)}}
	for j := range s.Policies {
		p := &s.Policies[j]
		if m[1] != "policies" || p.Meta.Key().String() != m[2] {
			continue
		}
		if m[3] == "ingress" {
			p.Spec.Ingress = slices.Clone(p.Spec.Ingress)
			p.Spec.Ingress[i] = policy.IngressRule{Ports: never}
		} else {
			p.Spec.Egress = slices.Clone(p.Spec.Egress)
			p.Spec.Egress[i] = policy.EgressRule{Ports: never}
		}
	}
	for j := range s.ClusterPolicies {
		p := &s.ClusterPolicies[j]
		if m[1] != "clusterPolicies" || p.Meta.Name != m[2] {
			continue
		}
		if m[3] == "ingress" {
			p.Spec.Ingress = slices.Clone(p.Spec.Ingress)
			p.Spec.Ingress[i] = policy.ClusterIngressRule{Action: policy.Accept}
		} else {
			p.Spec.Egress = slices.Clone(p.Spec.Egress)
			p.Spec.Egress[i] = policy.ClusterEgressRule{Action: policy.Accept}
		}
	}
}
