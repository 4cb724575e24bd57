package manifest_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPolicies(t *testing.T) {
	t.Parallel()
	set, err := read("a.yaml", `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicyList
items:
- metadata: {name: allow, namespace: web}
  spec:
    podSelector: {matchLabels: {app: web}}
    ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: http}, {port: 80, endPort: 90, protocol: UDP}]}]
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: admin}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  egress: [{action: Deny, to: [{networks: [192.0.2.0/24]}]}]
`)
	require.NoError(t, err)
	require.Len(t, set.NetworkPolicies, 2)
	require.Equal(t, "default", set.NetworkPolicies[0].Namespace)
	require.Equal(t, "10.1.0.0/16", set.NetworkPolicies[1].Spec.Ingress[0].From[0].IPBlock.Except[0])
	require.Len(t, set.ClusterNetworkPolicies, 1)
	require.Empty(t, set.ClusterNetworkPolicies[0].Namespace)
	require.Equal(t, []string{`a.yaml: document 2 (line 6): items[0]: NetworkPolicy web/allow: no document declares the namespace "web"; it is assumed to exist`}, set.Warnings)
}

func TestMalformedPolicies(t *testing.T) {
	t.Parallel()
	_, err := read("a.yaml", `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: x, labels: {"": v}}
spec:
  podSelector: {matchExpressions: [{key: a, operator: In}]}
  policyTypes: [Sideways]
  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}, podSelector: {}}], ports: [{port: 0}], form: []}]
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: tier, namespace: space}
spec: {tier: Middle, priority: 1, subject: {}}
`)
	for _, want := range []string{
		`a.yaml: document 1 (line 1): NetworkPolicy default/x: spec.ingress[0].form: unknown field`,
		`NetworkPolicy default/x: metadata.labels[""]: `,
		`NetworkPolicy default/x: spec.podSelector.matchExpressions[0].values: operator In needs values`,
		`NetworkPolicy default/x: spec.policyTypes[0]: "Sideways" is neither`,
		`NetworkPolicy default/x: spec.ingress[0].from[0]: has an ipBlock beside a selector`,
		`NetworkPolicy default/x: spec.ingress[0].from[0].ipBlock.except[0]: 11.0.0.0/8 is not a part of`,
		`NetworkPolicy default/x: spec.ingress[0].ports[0].port: 0 is no port`,
		`document 2 (line 9): ClusterNetworkPolicy space/tier: metadata.namespace: must not be set`,
		`ClusterNetworkPolicy space/tier: spec.tier: "Middle" is neither`,
		`ClusterNetworkPolicy space/tier: spec.subject: has 0 fields set`,
	} {
		require.ErrorContains(t, err, want)
	}
}
