package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"

	"github.com/podplumb/podplumb/service"
)

// The short way leads to what the long one through JSON leads to, in all that decides what is served.
func TestConversion(t *testing.T) {
	t.Parallel()
	fill := randfill.NewWithSeed(1).NilChance(0.3).NumElements(0, 3).Funcs(
		func(at *metav1.Time, c randfill.Continue) { at.Time = time.Unix(int64(c.Int31()), 0).UTC() },
		func(f *metav1.FieldsV1, _ randfill.Continue) { f.SetRawString("{}") },
	)
	for range 60 {
		var s corev1.Service
		fill.Fill(&s)
		through := via[service.Service](t, &s)
		through.Status.Conditions, through.Kind, through.APIVersion = nil, "", ""
		for i := range through.Status.LoadBalancer.Ingress {
			through.Status.LoadBalancer.Ingress[i].Ports = nil
		}
		bare(&through.Meta)
		same(t, through, *serviceFrom(&s))

		var e discoveryv1.EndpointSlice
		fill.Fill(&e)
		slice := via[service.EndpointSlice](t, &e)
		slice.Kind, slice.APIVersion = "", ""
		if slice.Ports == nil {
			slice.Ports = []service.SlicePort{}
		}
		if slice.Endpoints == nil {
			slice.Endpoints = []service.SliceEndpoint{}
		}
		for i := range slice.Endpoints {
			p := &slice.Endpoints[i]
			p.Hostname, p.TargetRef, p.DeprecatedTopology = nil, nil, nil
		}
		bare(&slice.Meta)
		same(t, slice, *sliceFrom(&e))

		var n corev1.Node
		fill.Fill(&n)
		node := via[service.Node](t, &n)
		node.Kind, node.APIVersion = "", ""
		bare(&node.Meta)
		same(t, node, *nodeFrom(&n))
	}
}

func via[T any](t *testing.T, object any) T {
	t.Helper()
	data, err := json.Marshal(object)
	require.NoError(t, err)
	var to T
	require.NoError(t, json.Unmarshal(data, &to))
	return to
}

// bare leaves of the metadata what a proxy looks at.
func bare(m *service.Meta) {
	*m = service.Meta{Name: m.Name, Namespace: m.Namespace, Labels: m.Labels, CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp}
}

// same compares as JSON: an empty list is as good as none.
func same(t *testing.T, want, got any) {
	t.Helper()
	w, err := json.Marshal(want)
	require.NoError(t, err)
	g, err := json.Marshal(got)
	require.NoError(t, err)
	require.JSONEq(t, string(w), string(g))
}

func TestTrigger(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: at.Format(time.RFC3339Nano)}}}
	require.True(t, trigger(s).Equal(at))
	require.True(t, trigger(&discoveryv1.EndpointSlice{}).IsZero())
}
