package policy_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/policy"
)

func TestValidateNamesEveryFault(t *testing.T) {
	t.Parallel()
	s := world(t)
	require.NoError(t, s.Validate())
	require.NoError(t, policy.State{}.Validate())

	s.Policies = make([]policy.NetworkPolicy, 1)
	parse(t, &s.Policies[0], `{"metadata":{"namespace":"db","name":"x"},"spec":{
		"podSelector":{"matchLabels":{"-":"ok"},"matchExpressions":[{"key":"a","operator":"In"},{"key":"a","operator":"Exists","values":["x"]},{"key":"a","operator":"Near","values":["a b"]}]},
		"policyTypes":["Ingress","Sideways"],
		"ingress":[{"from":[{},{"ipBlock":{"cidr":"10.0.0.0/8","except":["11.0.0.0/16","10.0.0.0/8","x"]}},{"ipBlock":{"cidr":"nope"},"podSelector":{}}],
		  "ports":[{"port":0},{"port":"UPPER"},{"port":"a--b"},{"port":"123"},{"protocol":"ICMP"},{"endPort":5},{"port":"web","endPort":5},{"port":9,"endPort":5},{"port":9,"endPort":70000}]}],
		"egress":[{"to":[{"ipBlock":{"cidr":""}}]}]}}`)
	err := s.Validate()
	require.Error(t, err)
	for _, want := range []string{
		"podSelector.matchLabels: ", "matchExpressions[0].values: operator In needs values", "matchExpressions[1].values: operator Exists takes no values",
		`matchExpressions[2].operator: "Near"`, "matchExpressions[2].values[0]", `policyTypes[1]: "Sideways"`,
		"ingress[0].from[0]: needs", "from[1].ipBlock.except[0]: 11.0.0.0/16", "except[1]: 10.0.0.0/8", "except[2]: \"x\"",
		"from[2]: has an ipBlock beside a selector", "from[2].ipBlock.cidr: \"nope\"",
		"ports[0].port: 0 is no port", "ports[1].port", "ports[2].port", "ports[3].port", `ports[4].protocol: "ICMP"`,
		"ports[5].endPort: needs a port", `ports[6].endPort: needs a port that is a number, not "web"`, "ports[7].endPort: 5 is less than port 9", "ports[8].endPort: 70000",
		"policies[db/x].spec.egress[0].to[0].ipBlock.cidr: is required",
	} {
		require.ErrorContains(t, err, want)
	}
	joined, ok := err.(interface{ Unwrap() []error })
	require.True(t, ok)
	require.Len(t, joined.Unwrap(), 22)
	var field *policy.FieldError
	require.ErrorAs(t, joined.Unwrap()[0], &field)

	s = world(t)
	s.Pods = append(s.Pods, s.Pods[0])
	require.ErrorIs(t, s.Validate(), policy.ErrConflict)
}

func TestValidateClusterPolicies(t *testing.T) {
	t.Parallel()
	var s policy.State
	s.ClusterPolicies = make([]policy.ClusterNetworkPolicy, 1)
	parse(t, &s.ClusterPolicies[0], `{"metadata":{"name":"x"},"spec":{"tier":"Middle","priority":1001,"subject":{},
		"ingress":[{"action":"Maybe","from":[]},{"action":"Accept","from":[{}],"protocols":[{},{"tcp":{}},{"udp":{"destinationPort":{}}},{"sctp":{"destinationPort":{"range":{"start":9,"end":9}}}}]}],
		"egress":[{"action":"Deny","to":[{"domainNames":["a..b"]}]},{"action":"Accept","to":[{"networks":["x"]}],"protocols":[{"destinationNamedPort":"web"}]}]}}`)
	err := s.Validate()
	for _, want := range []string{
		`spec.tier: "Middle"`, "spec.priority: 1001", "spec.subject: has 0 fields", `ingress[0].action: "Maybe"`, "ingress[0].from: has 0 items",
		"ingress[1].from[0]: has 0 fields", "protocols[0]: has 0 fields", "protocols[1].tcp.destinationPort: is required", "protocols[2].udp.destinationPort: has 0",
		"protocols[3].sctp.destinationPort.range: start 9", "egress[0].to[0].domainNames: can only be accepted", `domainNames[0]: "a..b"`,
		"egress[1].to[0]: is no pod", `egress[1].to[0].networks[0]: "x"`,
	} {
		require.ErrorContains(t, err, want)
	}
}
