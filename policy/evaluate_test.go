package policy_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/policy"
)

// world has three namespaces, two nodes and pods of all kinds. Addresses are 10.244.<node>.<n> and fd00:244:<node>::<n>.
func world(t *testing.T) policy.State {
	t.Helper()
	var s policy.State
	parse(t, &s.Namespaces, `[
		{"metadata":{"name":"web","labels":{"team":"front"}}},
		{"metadata":{"name":"db","labels":{"team":"back","env":""}}},
		{"metadata":{"name":"ops"}}]`)
	parse(t, &s.Nodes, `[
		{"metadata":{"name":"a","labels":{"zone":"1"}},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.1"},{"type":"InternalIP","address":"fd00:0::1"},{"type":"Hostname","address":"a"}]}},
		{"metadata":{"name":"b"},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.2"}]}}]`)
	parse(t, &s.Pods, `[
		{"metadata":{"namespace":"web","name":"front","labels":{"app":"front","tier":""}},"spec":{"nodeName":"a"},
		 "status":{"podIPs":[{"ip":"10.244.1.5"},{"ip":"fd00:244:1::5"}]}},
		{"metadata":{"namespace":"web","name":"other","labels":{"app":"other"}},"spec":{"nodeName":"b"},
		 "status":{"podIP":"10.244.2.6","podIPs":[{"ip":"10.244.2.6"},{"ip":"fd00:244:2::6"}]}},
		{"metadata":{"namespace":"db","name":"pg-0","labels":{"app":"pg"}},"spec":{"nodeName":"a","containers":[{"name":"c","ports":[{"name":"sql","containerPort":5432}]}]},
		 "status":{"podIPs":[{"ip":"10.244.1.7"},{"ip":"fd00:244:1::7"}]}},
		{"metadata":{"namespace":"db","name":"pg-1","labels":{"app":"pg"}},"spec":{"nodeName":"b","containers":[{"name":"c","ports":[{"name":"sql","containerPort":6432}]}],
		 "initContainers":[{"name":"once","ports":[{"name":"setup","containerPort":1}]},{"name":"side","restartPolicy":"Always","ports":[{"name":"metrics","containerPort":9187}]}]},
		 "status":{"podIPs":[{"ip":"10.244.2.8"},{"ip":"fd00:244:2::8"}]}},
		{"metadata":{"namespace":"ops","name":"agent","labels":{"app":"front"}},"spec":{"nodeName":"a","hostNetwork":true},"status":{"podIPs":[{"ip":"10.0.0.1"}]}},
		{"metadata":{"namespace":"db","name":"done","labels":{"app":"pg"}},"spec":{"nodeName":"b"},"status":{"phase":"Succeeded","podIPs":[{"ip":"10.244.2.6"}]}}]`)
	return s
}

func parse(t *testing.T, into any, text string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(into))
}

var addresses = map[string][2]string{
	"front": {"10.244.1.5", "fd00:244:1::5"}, "other": {"10.244.2.6", "fd00:244:2::6"},
	"pg-0": {"10.244.1.7", "fd00:244:1::7"}, "pg-1": {"10.244.2.8", "fd00:244:2::8"},
	"node-a": {"10.0.0.1", "fd00:0::1"}, "node-b": {"10.0.0.2", ""}, "outside": {"192.0.2.9", "2001:db8::9"},
}

type probe struct {
	from, to string
	port     uint16
	allowed  bool
	by       string // part of the verdict's text
}

func packet(src, dst string, port uint16) policy.Packet {
	return policy.Packet{Protocol: policy.TCP, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Port: port}
}

// check asks each probe over both families where both ends have one.
func check(t *testing.T, s policy.State, proto policy.Protocol, probes []probe) {
	t.Helper()
	for _, p := range probes {
		for family := range 2 {
			src, dst := addresses[p.from][family], addresses[p.to][family]
			if src == "" || dst == "" {
				continue
			}
			v := policy.Evaluate(s, policy.Packet{Protocol: proto, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Port: p.port})
			require.Equal(t, p.allowed, v.Allowed, "%s -> %s:%d: %s", p.from, p.to, p.port, v)
			require.Contains(t, v.String(), p.by, "%s -> %s:%d", p.from, p.to, p.port)
		}
	}
}

func TestNetworkPolicies(t *testing.T) {
	t.Parallel()
	const denyAll = `{"metadata":{"namespace":"db","name":"deny"},"spec":{"podSelector":{},"policyTypes":["Ingress","Egress"]}}`
	ingress := func(rules string) string {
		return `{"metadata":{"namespace":"db","name":"allow"},"spec":{"podSelector":{"matchLabels":{"app":"pg"}},"ingress":` + rules + `}}`
	}
	egress := func(rules string) string {
		return `{"metadata":{"namespace":"web","name":"out"},"spec":{"podSelector":{},"policyTypes":["Egress"],"egress":` + rules + `}}`
	}
	tests := []struct {
		name     string
		policies []string
		proto    policy.Protocol
		probes   []probe
	}{
		{name: "no policy allows all", probes: []probe{
			{"front", "pg-0", 5432, true, "no policy"}, {"outside", "pg-0", 1, true, "no policy"}, {"pg-0", "outside", 1, true, "no policy"},
			{"outside", "node-a", 1, true, "pods only"},
		}},
		{name: "default deny", policies: []string{denyAll}, probes: []probe{
			{"front", "pg-0", 5432, false, "db/pg-0 is isolated for ingress by db/deny, which allow nothing"},
			{"pg-0", "front", 80, false, "db/pg-0 is isolated for egress by db/deny"},
			{"pg-0", "pg-1", 80, false, "egress"}, {"pg-0", "pg-0", 80, true, "itself"},
			{"node-a", "pg-0", 80, true, "own node"}, {"node-b", "pg-0", 80, false, "isolated"},
			{"pg-0", "node-a", 10250, true, "own node"}, {"pg-0", "node-b", 10250, false, "isolated"},
			{"front", "other", 80, true, "no policy"},
		}},
		{name: "denial names the nearest rule", policies: []string{denyAll, ingress(`[{"from":[{"namespaceSelector":{"matchLabels":{"team":"front"}}}],"ports":[{"port":5432}]}]`)}, probes: []probe{
			{"front", "pg-0", 5432, true, "db/allow, ingress[0], from[0]"},
			{"front", "pg-0", 5433, false, "isolated for ingress by db/allow, db/deny, no rule of db/allow matches TCP port 5433"},
			{"outside", "pg-0", 5432, false, "no rule of db/allow matches"},
		}},
		{name: "rules add up over policies", policies: []string{denyAll, ingress(`[{"ports":[{"port":1}]}]`),
			`{"metadata":{"namespace":"db","name":"allow2"},"spec":{"podSelector":{},"ingress":[{"ports":[{"port":2}]}]}}`}, probes: []probe{
			{"front", "pg-0", 1, true, "db/allow,"}, {"front", "pg-0", 2, true, "db/allow2,"}, {"front", "pg-0", 3, false, ""},
		}},
		{name: "both ends must allow", policies: []string{ingress(`[{}]`), egress(`[]`)}, probes: []probe{
			{"front", "pg-0", 5432, false, "web/front is isolated for egress"}, {"outside", "pg-0", 5432, true, "db/allow"},
		}},
		{name: "one direction's rule does not open the other", policies: []string{denyAll, ingress(`[{}]`)}, probes: []probe{
			{"front", "pg-0", 5432, true, "db/allow, ingress[0], for"}, {"pg-0", "front", 5432, false, "egress"}, {"pg-0", "pg-1", 5432, false, "egress"},
		}},
		{name: "empty peers and ports", policies: []string{ingress(`[{"from":[],"ports":[]}]`)}, probes: []probe{{"outside", "pg-0", 7, true, "allow"}}},
		{name: "empty ingress list isolates", policies: []string{ingress(`[]`)}, probes: []probe{{"front", "pg-0", 5432, false, "isolated"}, {"pg-0", "front", 1, true, "no policy"}}},
		{name: "egress rule without policyTypes isolates both", policies: []string{`{"metadata":{"namespace":"db","name":"x"},"spec":{"podSelector":{},"egress":[{}]}}`}, probes: []probe{
			{"front", "pg-0", 1, false, "ingress"}, {"pg-0", "front", 1, true, "egress[0]"},
		}},
		{name: "empty egress without policyTypes does not isolate egress", policies: []string{`{"metadata":{"namespace":"db","name":"x"},"spec":{"podSelector":{},"egress":[]}}`}, probes: []probe{
			{"front", "pg-0", 1, false, "ingress"}, {"pg-0", "front", 1, true, "no policy"},
		}},
		{name: "empty policyTypes are as good as none", policies: []string{`{"metadata":{"namespace":"db","name":"x"},"spec":{"podSelector":{},"policyTypes":[],"egress":[{"ports":[{"port":1}]}]}}`}, probes: []probe{
			{"front", "pg-0", 1, false, "ingress"}, {"pg-0", "front", 1, true, "egress[0]"}, {"pg-0", "front", 2, false, "egress"},
		}},
		{name: "NotIn without values matches nothing", policies: []string{ingress(`[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"team","operator":"NotIn"}]}},{"podSelector":{"matchExpressions":[{"key":"app","operator":"Exists","values":["x"]}]}}]}]`)}, probes: []probe{
			{"front", "pg-0", 1, false, ""}, {"pg-1", "pg-0", 1, false, ""},
		}},
		{name: "ranges as the API server still reads them", policies: []string{ingress(`[{"from":[{"ipBlock":{"cidr":"0192.000.2.77/024"}},{"ipBlock":{"cidr":"::ffff:10.244.1.5/128"}}]}]`)}, probes: []probe{
			{"node-b", "pg-0", 1, false, ""}, {"other", "pg-0", 1, false, ""},
		}},
		{name: "pod and namespace selector in one peer", policies: []string{ingress(`[{"from":[{"namespaceSelector":{"matchLabels":{"team":"front"}},"podSelector":{"matchLabels":{"app":"front"}}}]}]`)}, probes: []probe{
			{"front", "pg-0", 1, true, ""}, {"other", "pg-0", 1, false, ""}, {"node-a", "pg-1", 1, false, ""},
		}},
		{name: "pod selector alone is of the own namespace", policies: []string{ingress(`[{"from":[{"podSelector":{}}]}]`)}, probes: []probe{
			{"pg-1", "pg-0", 1, true, ""}, {"front", "pg-0", 1, false, ""},
		}},
		{name: "all namespaces are not the outside", policies: []string{ingress(`[{"from":[{"namespaceSelector":{}}]}]`)}, probes: []probe{
			{"front", "pg-0", 1, true, ""}, {"outside", "pg-0", 1, false, ""}, {"node-b", "pg-0", 1, false, ""},
		}},
		{name: "namespace by its name", policies: []string{ingress(`[{"from":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"web"}}}]}]`)}, probes: []probe{
			{"front", "pg-0", 1, true, ""}, {"pg-1", "pg-0", 1, false, ""},
		}},
		{name: "NotIn selects a missing key", policies: []string{ingress(`[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"team","operator":"NotIn","values":["front"]}]}}]}]`)}, probes: []probe{
			{"front", "pg-0", 1, false, ""}, {"pg-1", "pg-0", 1, true, ""},
		}},
		{name: "In with the empty value needs the key", policies: []string{ingress(`[{"from":[{"namespaceSelector":{},"podSelector":{"matchExpressions":[{"key":"tier","operator":"In","values":[""]}]}}]}]`)}, probes: []probe{
			{"front", "pg-0", 1, true, ""}, {"other", "pg-0", 1, false, ""},
		}},
		{name: "NotIn with the empty value selects a missing key", policies: []string{ingress(`[{"from":[{"namespaceSelector":{},"podSelector":{"matchExpressions":[{"key":"tier","operator":"NotIn","values":[""]}]}}]}]`)}, probes: []probe{
			{"front", "pg-0", 1, false, ""}, {"other", "pg-0", 1, true, ""},
		}},
		{name: "named ports may differ by pod", policies: []string{ingress(`[{"ports":[{"port":"sql"}]}]`)}, probes: []probe{
			{"front", "pg-0", 5432, true, ""}, {"front", "pg-0", 6432, false, ""}, {"front", "pg-1", 6432, true, ""}, {"front", "pg-1", 5432, false, ""},
		}},
		{name: "unresolved named port matches nothing", policies: []string{ingress(`[{"ports":[{"port":"nosuch"},{"port":"setup"}]}]`)}, probes: []probe{
			{"front", "pg-0", 5432, false, ""}, {"front", "pg-1", 1, false, ""}, {"front", "pg-0", 0, false, ""},
		}},
		{name: "named port of a sidecar", policies: []string{ingress(`[{"ports":[{"port":"metrics"}]}]`)}, probes: []probe{{"front", "pg-1", 9187, true, ""}, {"front", "pg-0", 9187, false, ""}}},
		{name: "named port on egress is the receiver's", policies: []string{egress(`[{"ports":[{"port":"sql"}]}]`)}, probes: []probe{
			{"front", "pg-0", 5432, true, ""}, {"front", "pg-1", 6432, true, ""}, {"front", "pg-1", 5432, false, ""}, {"front", "outside", 5432, false, ""},
		}},
		{name: "named port of another protocol", policies: []string{ingress(`[{"ports":[{"port":"sql","protocol":"UDP"}]}]`)}, proto: policy.UDP, probes: []probe{{"front", "pg-0", 5432, false, ""}}},
		{name: "range", policies: []string{ingress(`[{"ports":[{"port":100,"endPort":200}]}]`)}, probes: []probe{
			{"front", "pg-0", 99, false, ""}, {"front", "pg-0", 100, true, ""}, {"front", "pg-0", 200, true, ""}, {"front", "pg-0", 201, false, ""},
		}},
		{name: "protocol defaults to TCP", policies: []string{ingress(`[{"ports":[{"port":53}]}]`)}, proto: policy.UDP, probes: []probe{{"front", "pg-0", 53, false, "UDP port 53"}}},
		{name: "protocol without port", policies: []string{ingress(`[{"ports":[{"protocol":"SCTP"}]}]`)}, proto: policy.SCTP, probes: []probe{{"front", "pg-0", 53, true, ""}}},
		{name: "exceptions belong to their own block", policies: []string{ingress(`[{"from":[{"ipBlock":{"cidr":"192.0.0.0/16","except":["192.0.2.0/24"]}},{"ipBlock":{"cidr":"192.0.2.9/32"}},{"ipBlock":{"cidr":"2001:db8::/32"}}]}]`)}, probes: []probe{
			{"outside", "pg-0", 1, true, "db/allow"},
		}},
		{name: "exception", policies: []string{ingress(`[{"from":[{"ipBlock":{"cidr":"0.0.0.0/0","except":["192.0.2.0/24"]}},{"ipBlock":{"cidr":"::/0","except":["2001:db8::/32"]}}]}]`)}, probes: []probe{
			{"outside", "pg-0", 1, false, ""}, {"front", "pg-0", 1, true, ""},
		}},
		{name: "host network pods are their node", policies: []string{ingress(`[{"from":[{"podSelector":{"matchLabels":{"app":"front"}},"namespaceSelector":{}}]}]`)}, probes: []probe{
			{"node-a", "pg-1", 1, false, ""}, {"front", "pg-1", 1, true, ""}, {"node-a", "pg-0", 1, true, "own node"},
		}},
		{name: "a finished pod's address is free", policies: []string{denyAll}, probes: []probe{{"outside", "other", 1, true, "no policy is for ingress of web/other"}}},
		{name: "a peer with nothing set selects nothing", policies: []string{ingress(`[{"from":[{}]}]`)}, probes: []probe{{"front", "pg-0", 1, false, ""}}},
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
			if tt.proto == "" {
				tt.proto = policy.TCP
			}
			check(t, s, tt.proto, tt.probes)
		})
	}
}

func TestClusterPolicies(t *testing.T) {
	t.Parallel()
	const deny = `{"metadata":{"namespace":"db","name":"deny"},"spec":{"podSelector":{},"policyTypes":["Ingress","Egress"]}}`
	const open = `{"metadata":{"namespace":"db","name":"open"},"spec":{"podSelector":{},"policyTypes":["Ingress","Egress"],"ingress":[{}],"egress":[{}]}}`
	cluster := func(name, tier string, priority, rules string) string {
		return `{"metadata":{"name":"` + name + `"},"spec":{"tier":"` + tier + `","priority":` + priority + `,"subject":{"namespaces":{"matchLabels":{"team":"back"}}},` + rules + `}}`
	}
	all := `"from":[{"namespaces":{}}]`
	tests := []struct {
		name   string
		np     string
		cnp    []string
		probes []probe
	}{
		{"admin accept beats isolation", deny, []string{cluster("a", "Admin", "1", `"ingress":[{"action":"Accept",`+all+`}]`)}, []probe{
			{"front", "pg-0", 1, true, "Admin policy a, ingress[0], from[0]"}, {"outside", "pg-0", 1, false, "isolated"},
		}},
		{"admin deny beats an open policy", open, []string{cluster("a", "Admin", "1", `"ingress":[{"name":"no","action":"Deny",`+all+`}]`)}, []probe{
			{"front", "pg-0", 1, false, `Admin policy a, ingress[0] "no"`}, {"outside", "pg-0", 1, true, "db/open"}, {"pg-0", "pg-0", 1, true, "itself"},
		}},
		{"lowest number first", open, []string{
			cluster("late", "Admin", "9", `"ingress":[{"action":"Deny",`+all+`}]`), cluster("early", "Admin", "2", `"ingress":[{"action":"Accept",`+all+`}]`),
		}, []probe{{"front", "pg-0", 1, true, "early"}}},
		{"pass skips the rest of the tier", deny, []string{
			cluster("a", "Admin", "1", `"ingress":[{"action":"Pass",`+all+`},{"action":"Accept",`+all+`}]`), cluster("b", "Admin", "2", `"ingress":[{"action":"Accept",`+all+`}]`),
		}, []probe{{"front", "pg-0", 1, false, "isolated"}}},
		{"baseline applies to pods without NetworkPolicy", "", []string{cluster("a", "Baseline", "1", `"ingress":[{"action":"Deny",`+all+`}]`)}, []probe{
			{"front", "pg-0", 1, false, "Baseline policy a"}, {"outside", "pg-0", 1, true, "no policy"},
		}},
		{"NetworkPolicy beats baseline", open, []string{cluster("a", "Baseline", "1", `"ingress":[{"action":"Deny",`+all+`}]`)}, []probe{{"front", "pg-0", 1, true, "db/open"}}},
		{"protocols", "", []string{cluster("a", "Admin", "1", `"ingress":[{"action":"Deny",`+all+`,"protocols":[{"tcp":{"destinationPort":{"number":22}}},{"tcp":{"destinationPort":{"range":{"start":100,"end":200}}}},{"udp":{"destinationPort":{"number":24}}},{"destinationNamedPort":"sql"}]}]`)}, []probe{
			{"front", "pg-0", 22, false, ""}, {"front", "pg-0", 24, true, ""}, {"front", "pg-0", 150, false, ""}, {"front", "pg-0", 5432, false, ""}, {"front", "pg-1", 5432, true, ""}, {"front", "pg-1", 6432, false, ""},
		}},
		{"networks, nodes and names", "", []string{cluster("a", "Admin", "1", `"egress":[{"action":"Accept","to":[{"domainNames":["*.example.com"]}]},{"action":"Deny","to":[{"networks":["192.0.2.0/24","2001:db8::/32"]},{"nodes":{"matchLabels":{"zone":"1"}}}]}]`)}, []probe{
			{"pg-0", "outside", 1, false, "to[0]"}, {"pg-0", "node-a", 1, false, "to[1]"}, {"pg-0", "node-b", 1, true, ""}, {"pg-0", "front", 1, true, ""},
		}},
		{"an unknown peer fails closed", open, []string{cluster("a", "Admin", "1", `"ingress":[{"action":"Accept","from":[{}]},{"action":"Pass","from":[{}]}]`)}, []probe{
			{"front", "pg-0", 1, false, "Admin policy a, ingress[1]"}, {"outside", "pg-0", 1, false, ""}, {"node-a", "pg-0", 1, true, "own node"},
		}},
		{"an unknown protocol fails closed", open, []string{cluster("a", "Admin", "1", `"ingress":[{"action":"Accept",`+all+`,"protocols":[{"tcp":{}}]},{"action":"Deny",`+all+`,"protocols":[{"udp":{"destinationPort":{}}}]}]`)}, []probe{
			{"front", "pg-0", 1, false, "Admin policy a, ingress[1]"}, {"outside", "pg-0", 1, false, ""},
		}},
		{"an unreadable selector fails closed", open, []string{cluster("a", "Admin", "1", `"ingress":[{"action":"Accept","from":[{"namespaces":{"matchExpressions":[{"key":"team","operator":"NotIn"}]}}]},{"action":"Pass","from":[{"namespaces":{}},{"pods":{"namespaceSelector":{},"podSelector":{"matchExpressions":[{"key":"app","operator":"Near"}]}}}]}]`)}, []probe{
			{"front", "pg-0", 1, false, "Admin policy a, ingress[1]"},
		}},
		{"an unreadable network fails closed", open, []string{cluster("a", "Admin", "1", `"egress":[{"action":"Deny","to":[{"networks":["::ffff:10.0.0.0/104"]}]}]`)}, []probe{
			{"pg-0", "front", 1, false, "Admin policy a, egress[0]"},
		}},
		{"two fields in a peer fail closed", open, []string{cluster("a", "Admin", "1", `"egress":[{"action":"Accept","to":[{"namespaces":{},"networks":["0.0.0.0/0"]}]},{"action":"Deny","to":[{"networks":["0.0.0.0/0"],"nodes":{}}]}]`)}, []probe{
			{"pg-0", "front", 1, false, "Admin policy a, egress[1]"},
		}},
		{"names cannot deny", "", []string{cluster("a", "Admin", "1", `"egress":[{"action":"Deny","to":[{"domainNames":["example.com"]}]}]`)}, []probe{{"pg-0", "outside", 1, false, ""}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := world(t)
			if tt.np != "" {
				s.Policies = make([]policy.NetworkPolicy, 1)
				parse(t, &s.Policies[0], tt.np)
			}
			for _, text := range tt.cnp {
				var p policy.ClusterNetworkPolicy
				parse(t, &p, text)
				s.ClusterPolicies = append(s.ClusterPolicies, p)
			}
			check(t, s, policy.TCP, tt.probes)
		})
	}
}

func TestDomains(t *testing.T) {
	t.Parallel()
	s := world(t)
	s.ClusterPolicies = make([]policy.ClusterNetworkPolicy, 1)
	parse(t, &s.ClusterPolicies[0], `{"metadata":{"name":"a"},"spec":{"tier":"Admin","priority":1,"subject":{"namespaces":{}},"egress":[
		{"action":"Accept","to":[{"domainNames":["*.example.com","Exact.org."]}]},{"action":"Deny","to":[{"networks":["0.0.0.0/0","::/0"]}]}]}}`)
	out := []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")}
	for name, allowed := range map[string]bool{"a.b.example.com": true, "example.com": false, "exact.org": true, "www.exact.org": false, "notexample.com": false} {
		s.Domains = map[string][]netip.Addr{name: out}
		by := map[bool]string{true: "egress[0]", false: "egress[1]"}[allowed]
		check(t, s, policy.TCP, []probe{{"front", "outside", 443, allowed, by}})
	}
}

// Two live pods with one address: neither may lose its protection nor gain the other's rights.
func TestReusedAddress(t *testing.T) {
	t.Parallel()
	s := world(t)
	s.Pods[5].Status.Phase = "Running" // db/done now claims web/other's address
	s.Policies = make([]policy.NetworkPolicy, 2)
	parse(t, &s.Policies[0], `{"metadata":{"namespace":"db","name":"deny"},"spec":{"podSelector":{}}}`)
	parse(t, &s.Policies[1], `{"metadata":{"namespace":"db","name":"own"},"spec":{"podSelector":{},"ingress":[{"from":[{"podSelector":{}}]}]}}`)
	ask := func(src, dst string) bool {
		return policy.Evaluate(s, packet(src, dst, 1)).Allowed
	}
	require.False(t, ask("192.0.2.9", "10.244.2.6"))
	require.False(t, ask("10.244.2.6", "10.244.1.7"))
	require.True(t, ask("10.244.2.8", "10.244.1.7"))
	require.False(t, ask("10.244.2.6", "10.244.2.6"))
}

// A rule that denies is for an address as soon as one of its pods is selected, a rule that accepts only when all are.
func TestReusedAddressClosed(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]bool{"Deny": false, "Accept": false} {
		s := world(t)
		s.Pods[5].Status.Phase = "Running" // db/done now claims web/other's address
		s.Policies = make([]policy.NetworkPolicy, 1)
		parse(t, &s.Policies[0], `{"metadata":{"namespace":"db","name":"x"},"spec":{"podSelector":{},"ingress":`+map[string]string{"Deny": `[{}]`, "Accept": `[]`}[action]+`}}`)
		s.ClusterPolicies = make([]policy.ClusterNetworkPolicy, 1)
		parse(t, &s.ClusterPolicies[0], `{"metadata":{"name":"x"},"spec":{"tier":"Admin","priority":1,"subject":{"namespaces":{}},"ingress":[
			{"action":"`+action+`","from":[{"namespaces":{"matchLabels":{"team":"front"}}}]}]}}`)
		require.Equal(t, want, policy.Evaluate(s, packet("10.244.2.6", "10.244.1.7", 1)).Allowed, action)
		require.Equal(t, action == "Accept", policy.Evaluate(s, packet("10.244.1.5", "10.244.1.7", 1)).Allowed, action)
	}
}

// A node has an address of each family; without Node objects the pod's status still tells both.
func TestOwnNodeWithoutNodes(t *testing.T) {
	t.Parallel()
	s := world(t)
	s.Nodes = nil
	s.Pods[2].Status.HostIP, s.Pods[2].Status.HostIPs = "10.0.0.1", []policy.HostIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}
	s.Policies = make([]policy.NetworkPolicy, 1)
	parse(t, &s.Policies[0], `{"metadata":{"namespace":"db","name":"deny"},"spec":{"podSelector":{}}}`)
	check(t, s, policy.TCP, []probe{{"node-a", "pg-0", 1, true, "own node"}, {"node-b", "pg-0", 1, false, ""}})
}
