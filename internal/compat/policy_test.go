package compat_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/randfill"

	"github.com/podplumb/podplumb/policy"
)

func TestNetworkPolicyThereAndBack(t *testing.T) {
	whole[networkingv1.NetworkPolicy, policy.NetworkPolicy](t)
}

func TestNamespaceThereAndBack(t *testing.T) { projected[corev1.Namespace, policy.Namespace](t) }

func TestPolicyNodeThereAndBack(t *testing.T) { projected[corev1.Node, policy.Node](t) }

// withoutStatus drops a status that says nothing, which Kubernetes writes and we do not.
func withoutStatus(p []byte) string {
	return strings.Replace(string(p), `,"status":{"conditions":null}`, "", 1)
}

func TestClusterNetworkPolicyThereAndBack(t *testing.T) {
	t.Parallel()
	fill := filler()
	for range rounds {
		var theirs, back policyv1alpha2.ClusterNetworkPolicy
		var ours policy.ClusterNetworkPolicy
		fill.Fill(&theirs)
		first := withoutStatus(encode(t, theirs))
		require.NoError(t, json.Unmarshal([]byte(first), &ours))
		require.JSONEq(t, first, withoutStatus(encode(t, ours)))
		require.NoError(t, json.Unmarshal(encode(t, ours), &back))
		require.JSONEq(t, first, withoutStatus(encode(t, back)))
	}
}

func TestPolicyPodThereAndBack(t *testing.T) {
	t.Parallel()
	fill := filler().Funcs(func(p *corev1.ContainerPort, c randfill.Continue) {
		*p = corev1.ContainerPort{Name: c.String(8), ContainerPort: c.Int31n(65536), Protocol: corev1.Protocol(c.String(4))}
	})
	for range rounds {
		var theirs corev1.Pod
		var ours policy.Pod
		fill.Fill(&theirs)
		require.NoError(t, json.Unmarshal(encode(t, theirs), &ours))
		within(t, "", tree(t, encode(t, ours)), tree(t, encode(t, theirs)))
	}
}

const networkPolicySeed = `{"kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v1","metadata":{"name":"x","namespace":"default","managedFields":[{"manager":"kubectl","operation":"Apply","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{}}}]},
"spec":{"podSelector":{"matchLabels":{"app":"db"},"matchExpressions":[{"key":"a","operator":"NotIn","values":["","x"]}]},"policyTypes":["Ingress","Egress"],
"ingress":[{"from":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}},{"namespaceSelector":{},"podSelector":{"matchLabels":{"a":"b"}}}],"ports":[{"port":"http"},{"protocol":"UDP","port":53,"endPort":60}]},{}],
"egress":[{"to":[{"podSelector":{}}]}]}}`

const clusterPolicySeed = `{"kind":"ClusterNetworkPolicy","apiVersion":"policy.networking.k8s.io/v1alpha2","metadata":{"name":"x"},"spec":{"tier":"Admin","priority":10,
"subject":{"pods":{"namespaceSelector":{"matchLabels":{"a":"b"}},"podSelector":{}}},
"ingress":[{"name":"n","action":"Pass","from":[{"namespaces":{}},{"pods":{"namespaceSelector":{},"podSelector":{}}}],"protocols":[{"tcp":{"destinationPort":{"number":80}}},{"udp":{"destinationPort":{"range":{"start":1,"end":9}}}},{"destinationNamedPort":"http"}]}],
"egress":[{"action":"Accept","to":[{"networks":["10.0.0.0/8","fd00::/8"]},{"nodes":{"matchExpressions":[{"key":"zone","operator":"Exists"}]}},{"domainNames":["*.example.com"]}],"protocols":[{"sctp":{"destinationPort":{"number":9}}}]}]},
"status":{"conditions":[{"type":"Accepted","status":"True","lastTransitionTime":"2026-01-02T03:04:05Z","reason":"r","message":"m","observedGeneration":3}]}}`

func FuzzNetworkPolicy(f *testing.F) {
	f.Add([]byte(networkPolicySeed))
	f.Add([]byte(`{"spec":{"policyTypes":[],"ingress":[{"from":[],"ports":[]},null],"egress":null}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzed[networkingv1.NetworkPolicy, policy.NetworkPolicy](t, data, func(p *networkingv1.NetworkPolicy) {
			number := func(ports []networkingv1.NetworkPolicyPort) {
				for i := range ports { // an empty name is as wrong as 0
					if at := ports[i].Port; at != nil && at.Type == intstr.String && at.StrVal == "" {
						*at = intstr.FromInt32(0)
					}
				}
			}
			for i := range p.Spec.Ingress {
				number(p.Spec.Ingress[i].Ports)
			}
			for i := range p.Spec.Egress {
				number(p.Spec.Egress[i].Ports)
			}
		})
	})
}

func FuzzClusterNetworkPolicy(f *testing.F) {
	f.Add([]byte(clusterPolicySeed))
	f.Fuzz(func(t *testing.T, data []byte) {
		var theirs, again policyv1alpha2.ClusterNetworkPolicy
		if json.Unmarshal(data, &theirs) != nil {
			return
		}
		first, err := json.Marshal(theirs)
		if err != nil || json.Unmarshal(first, &again) != nil {
			return
		}
		var ours policy.ClusterNetworkPolicy
		require.NoError(t, json.Unmarshal(first, &ours), "%s", first)
		require.JSONEq(t, withoutStatus(first), withoutStatus(encode(t, ours)))
	})
}

// TestStrict: a decoder that knows nothing but our fields reads all that Kubernetes writes, and no slip of the pen.
func TestStrict(t *testing.T) {
	t.Parallel()
	strict := func(into any, text string) error {
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		return d.Decode(into)
	}
	require.NoError(t, strict(new(policy.NetworkPolicy), networkPolicySeed))
	require.NoError(t, strict(new(policy.ClusterNetworkPolicy), clusterPolicySeed))
	for _, field := range []string{"podSelector", "policyTypes", "from", "ipBlock", "except", "namespaceSelector", "ports", "endPort", "egress", "matchExpressions", "values"} {
		slip := strings.Replace(networkPolicySeed, `"`+field+`"`, `"`+field+`s"`, 1)
		require.ErrorContains(t, strict(new(policy.NetworkPolicy), slip), field+"s")
	}
	for _, field := range []string{"tier", "priority", "subject", "action", "protocols", "destinationPort", "networks", "domainNames", "range", "conditions"} {
		slip := strings.Replace(clusterPolicySeed, `"`+field+`"`, `"`+field+`x"`, 1)
		require.ErrorContains(t, strict(new(policy.ClusterNetworkPolicy), slip), field+"x")
	}
}
