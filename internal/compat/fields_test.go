package compat_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/podplumb/podplumb/policy"
	"github.com/podplumb/podplumb/service"
)

// parts are the types of ours that leave fields out on purpose. Every other type has to have all.
var parts = map[reflect.Type]bool{
	reflect.TypeFor[service.PodSpec]():      true,
	reflect.TypeFor[service.Container]():    true,
	reflect.TypeFor[service.PodStatus]():    true,
	reflect.TypeFor[service.PodCondition](): true,
	reflect.TypeFor[service.NodeSpec]():     true,
	reflect.TypeFor[service.NodeStatus]():   true,
	reflect.TypeFor[policy.Namespace]():     true,
	reflect.TypeFor[policy.Node]():          true,
	reflect.TypeFor[policy.NodeStatus]():    true,
	reflect.TypeFor[policy.Pod]():           true,
	reflect.TypeFor[policy.PodSpec]():       true,
	reflect.TypeFor[policy.PodStatus]():     true,
	reflect.TypeFor[policy.Container]():     true,
	reflect.TypeFor[policy.ContainerPort](): true,
}

// leaves are types that differ in Go and are the same in JSON.
var leaves = map[reflect.Type]reflect.Type{
	reflect.TypeFor[time.Time]():       reflect.TypeFor[metav1.Time](),
	reflect.TypeFor[service.PortRef](): reflect.TypeFor[intstr.IntOrString](),
	reflect.TypeFor[json.RawMessage](): reflect.TypeFor[metav1.FieldsV1](),
	reflect.TypeFor[policy.PortRef]():  reflect.TypeFor[intstr.IntOrString](),
	reflect.TypeFor[uint16]():          reflect.TypeFor[int32](), // a port of a container
}

// optional are types of ours that are left out where Kubernetes writes that there is nothing.
var optional = map[reflect.Type]bool{
	reflect.TypeFor[policy.ClusterPolicyStatus](): true,
}

func TestFields(t *testing.T) {
	t.Parallel()
	for _, pair := range []struct{ ours, theirs reflect.Type }{
		{reflect.TypeFor[service.Service](), reflect.TypeFor[corev1.Service]()},
		{reflect.TypeFor[service.EndpointSlice](), reflect.TypeFor[discoveryv1.EndpointSlice]()},
		{reflect.TypeFor[service.Pod](), reflect.TypeFor[corev1.Pod]()},
		{reflect.TypeFor[service.Node](), reflect.TypeFor[corev1.Node]()},
		{reflect.TypeFor[policy.NetworkPolicy](), reflect.TypeFor[networkingv1.NetworkPolicy]()},
		{reflect.TypeFor[policy.ClusterNetworkPolicy](), reflect.TypeFor[policyv1alpha2.ClusterNetworkPolicy]()},
		{reflect.TypeFor[policy.Namespace](), reflect.TypeFor[corev1.Namespace]()},
		{reflect.TypeFor[policy.Node](), reflect.TypeFor[corev1.Node]()},
	} {
		t.Run(pair.ours.String(), func(t *testing.T) {
			t.Parallel()
			same(t, pair.ours.Name(), pair.ours, pair.theirs)
		})
	}
}

// same requires that a value of theirs, written as JSON, means the same to ours.
func same(t *testing.T, path string, ours, theirs reflect.Type) {
	t.Helper()
	if ours == reflect.TypeFor[json.RawMessage]() && theirs == reflect.TypeFor[metav1.ManagedFieldsEntry]() {
		return // carried as they are
	}
	if want, ok := leaves[ours]; ok {
		if theirs.Kind() == reflect.Pointer {
			theirs = theirs.Elem()
		}
		require.Equal(t, want, theirs, path)
		return
	}
	if ours.Kind() == reflect.Pointer && leaves[ours.Elem()] == theirs && theirs != nil {
		return // a time that is always written, null when there is none
	}
	require.Equal(t, theirs.Kind().String(), ours.Kind().String(), path)
	switch ours.Kind() {
	case reflect.Pointer, reflect.Slice:
		same(t, path, ours.Elem(), theirs.Elem())
	case reflect.Map:
		same(t, path+" key", ours.Key(), theirs.Key())
		same(t, path+" value", ours.Elem(), theirs.Elem())
	case reflect.Struct:
		have, want := fields(ours), fields(theirs)
		for name, f := range have {
			require.Contains(t, want, name, "%s: Kubernetes has no such field", path)
			if !optional[f.Type] {
				require.Equal(t, omits(want[name]), omits(f), "%s.%s: left out when empty", path, name)
			}
			same(t, path+"."+name, f.Type, want[name].Type)
		}
		if !parts[ours] {
			for name := range want {
				require.Contains(t, have, name, "%s: %s is missing", path, name)
			}
		}
	}
}

// fields returns the fields of a struct by their JSON name, with inlined structs opened.
func fields(t reflect.Type) map[string]reflect.StructField {
	out := map[string]reflect.StructField{}
	for f := range typeFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" && f.Anonymous {
			for k, v := range fields(f.Type) {
				out[k] = v
			}
			continue
		}
		out[name] = f
	}
	return out
}

func typeFields(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && !yield(f) {
				return
			}
		}
	}
}

// omits reports whether an empty value of the field is left out: for a struct that takes omitzero, for the rest either option does.
func omits(f reflect.StructField) bool {
	_, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	if f.Type.Kind() == reflect.Struct {
		return strings.Contains(options, "omitzero")
	}
	return strings.Contains(options, "omit")
}
