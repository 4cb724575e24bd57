package compat_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	"github.com/podplumb/podplumb/service"
)

const rounds = 300

// filler makes random objects of such values as JSON can carry.
func filler() *randfill.Filler {
	return randfill.New().NilChance(0.3).NumElements(0, 3).Funcs(
		func(t *metav1.Time, c randfill.Continue) { *t = metav1.Unix(c.Int63n(1<<33), 0) },
		func(p *intstr.IntOrString, c randfill.Continue) {
			*p = intstr.FromInt32(c.Int31())
			if c.Bool() {
				*p = intstr.FromString("n" + c.String(8))
			}
		},
		func(f *metav1.FieldsV1, c randfill.Continue) { f.SetRawString(`{"f:metadata":{"f:labels":{".":{}}}}`) },
	)
}

func TestServiceThereAndBack(t *testing.T) { whole[corev1.Service, service.Service](t) }

func TestEndpointSliceThereAndBack(t *testing.T) {
	whole[discoveryv1.EndpointSlice, service.EndpointSlice](t)
}

func TestPodThereAndBack(t *testing.T) { projected[corev1.Pod, service.Pod](t) }

func TestNodeThereAndBack(t *testing.T) { projected[corev1.Node, service.Node](t) }

// whole requires that nothing of a random object is lost or altered on its way through ours.
func whole[Theirs, Ours any](t *testing.T) {
	t.Parallel()
	fill := filler()
	for range rounds {
		var theirs, back Theirs
		var ours Ours
		fill.Fill(&theirs)
		first := encode(t, theirs)
		require.NoError(t, json.Unmarshal(first, &ours))
		second := encode(t, ours)
		require.JSONEq(t, string(first), string(second))
		require.NoError(t, json.Unmarshal(second, &back))
		require.JSONEq(t, string(first), string(encode(t, back)))
	}
}

// projected requires that what ours keeps of a random object is the same in theirs, and the same again after a way back.
func projected[Theirs, Ours any](t *testing.T) {
	t.Parallel()
	fill := filler()
	for range rounds {
		var theirs, back Theirs
		var ours, again Ours
		fill.Fill(&theirs)
		first := encode(t, theirs)
		require.NoError(t, json.Unmarshal(first, &ours))
		second := encode(t, ours)
		within(t, "", tree(t, second), tree(t, first))
		require.NoError(t, json.Unmarshal(second, &back))
		require.NoError(t, json.Unmarshal(encode(t, back), &again))
		require.Equal(t, ours, again)
	}
}

// within requires that every value of part is in all, at the same place.
func within(t *testing.T, path string, part, all any) {
	t.Helper()
	switch p := part.(type) {
	case map[string]any:
		a, ok := all.(map[string]any)
		require.True(t, ok, path)
		for k, v := range p {
			require.Contains(t, a, k, path)
			within(t, path+"."+k, v, a[k])
		}
	case []any:
		a, ok := all.([]any)
		require.True(t, ok, path)
		require.Len(t, a, len(p), path)
		for i := range p {
			within(t, path, p[i], a[i])
		}
	default:
		require.Equal(t, all, part, path)
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return b
}

func tree(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal(b, &v))
	return v
}

// TestTimes pins how the times of an object are written: whole seconds in UTC, left out or null when there is none.
func TestTimes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	theirs := corev1.Service{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: at}}, Status: corev1.ServiceStatus{Conditions: []metav1.Condition{{}}}}
	var ours service.Service
	require.NoError(t, json.Unmarshal(encode(t, theirs), &ours))
	require.True(t, at.Equal(*ours.DeletionTimestamp))
	require.True(t, ours.CreationTimestamp.IsZero())
	require.Nil(t, ours.Status.Conditions[0].LastTransitionTime)
	require.JSONEq(t, string(encode(t, theirs)), string(encode(t, ours)))
}
