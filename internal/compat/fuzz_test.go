package compat_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/podplumb/podplumb/service"
)

const serviceSeed = `{"kind":"Service","apiVersion":"v1","metadata":{"name":"web","namespace":"default","uid":"7b","resourceVersion":"12","creationTimestamp":"2026-01-02T03:04:05Z",
"labels":{"app":"web"},"managedFields":[{"manager":"kubectl","operation":"Apply","time":"2026-01-02T03:04:05Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:ports":{}}}}]},
"spec":{"type":"LoadBalancer","selector":{"app":"web"},"clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1","fd00::1"],"ipFamilies":["IPv4","IPv6"],"ipFamilyPolicy":"PreferDualStack",
"ports":[{"name":"http","port":80,"targetPort":"http","nodePort":30080,"appProtocol":"h2c"},{"name":"dns","protocol":"UDP","port":53,"targetPort":5353}],
"externalTrafficPolicy":"Local","internalTrafficPolicy":"Cluster","sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":60}},"healthCheckNodePort":31000,
"allocateLoadBalancerNodePorts":false,"loadBalancerSourceRanges":["10.0.0.0/8"],"loadBalancerClass":"a/b","trafficDistribution":"PreferClose","externalIPs":["192.0.2.1"]},
"status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.1","ipMode":"VIP","ports":[{"port":80,"protocol":"TCP","error":"x"}]},{"hostname":"lb"}]},
"conditions":[{"type":"Ready","status":"True","lastTransitionTime":null,"reason":"r","message":"m"}]}}`

const sliceSeed = `{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"name":"web-1","namespace":"default","labels":{"kubernetes.io/service-name":"web"}},
"addressType":"IPv4","endpoints":[{"addresses":["10.244.0.1"],"conditions":{"ready":true,"serving":true,"terminating":false},"hostname":"h","nodeName":"a","zone":"z",
"targetRef":{"kind":"Pod","namespace":"default","name":"p","uid":"1"},"hints":{"forZones":[{"name":"z"}],"forNodes":[{"name":"a"}]},"deprecatedTopology":{"k":"v"}}],
"ports":[{"name":"http","protocol":"TCP","port":8080,"appProtocol":"http"},{"port":null}]}`

func FuzzService(f *testing.F) {
	f.Add([]byte(serviceSeed))
	f.Add([]byte(`{"spec":{"ports":[{"targetPort":"80"},{"targetPort":80},{"targetPort":null}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzed[corev1.Service, service.Service](t, data, func(s *corev1.Service) {
			for i := range s.Spec.Ports { // an empty name is "not given", as 0 is
				if p := &s.Spec.Ports[i].TargetPort; p.Type == intstr.String && p.StrVal == "" {
					*p = intstr.FromInt32(0)
				}
			}
		})
	})
}

func FuzzEndpointSlice(f *testing.F) {
	f.Add([]byte(sliceSeed))
	f.Add([]byte(`{"endpoints":null,"ports":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzed[discoveryv1.EndpointSlice, service.EndpointSlice](t, data, func(*discoveryv1.EndpointSlice) {})
	})
}

// fuzzed takes any bytes that Kubernetes can read, as Kubernetes then writes them, and requires that ours reads and writes them the same.
func fuzzed[Theirs, Ours any](t *testing.T, data []byte, settle func(*Theirs)) {
	var theirs, again Theirs
	if json.Unmarshal(data, &theirs) != nil {
		return
	}
	settle(&theirs)
	first, err := json.Marshal(theirs)
	if err != nil || json.Unmarshal(first, &again) != nil {
		return // a year beyond 9999, say: Kubernetes itself cannot read what it wrote
	}
	var ours Ours
	require.NoError(t, json.Unmarshal(first, &ours), "%s", first)
	require.JSONEq(t, string(first), string(encode(t, ours)))
}

// FuzzNames holds the name rules that State.Validate applies against those of Kubernetes.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"web", "1web", "web-", "a.b", "A", "http", "a--b", "-", "1", "example.com/x", "/x", "x/", "a_b", "..", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" {
			return
		}
		s := service.Service{Meta: service.Meta{Name: name, Namespace: name, Labels: map[string]string{name: "v", "k": name}}}
		s.Spec.ClusterIP = "None"
		s.Spec.Ports = []service.Port{{Name: name, Port: 1, TargetPort: service.PortRef{Name: name}}}
		faults := ""
		if err := (service.State{Services: []service.Service{s}}).Validate(); err != nil {
			faults = err.Error()
		}
		check := func(field string, bad []string) {
			require.Equal(t, len(bad) > 0, strings.Contains(faults, field), "%s %q: %v\n%s", field, name, bad, faults)
		}
		check(".metadata.name: ", validation.IsDNS1035Label(name))
		check(".metadata.namespace: ", validation.IsDNS1123Label(name))
		check(" is not a label key", validation.IsQualifiedName(name))
		check(` is not a label value (of "k")`, validation.IsValidLabelValue(name))
		check(".spec.ports[0].name: ", validation.IsDNS1123Label(name))
		check(".spec.ports[0].targetPort: ", validation.IsValidPortName(name))
		p := service.Pod{Meta: service.Meta{Name: name, Namespace: "default"}}
		bad := (service.State{Pods: []service.Pod{p}}).Validate() != nil
		require.Equal(t, len(validation.IsDNS1123Subdomain(name)) > 0, bad, "%q", name)
	})
}
