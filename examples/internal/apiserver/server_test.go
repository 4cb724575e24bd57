package apiserver_test

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/podplumb/podplumb/examples/internal/apiserver"
)

func start(t *testing.T) (*apiserver.Server, *rest.Config, kubernetes.Interface) {
	t.Helper()
	s := apiserver.New()
	front := httptest.NewServer(s)
	t.Cleanup(func() { s.Close(); front.CloseClientConnections(); front.Close() })
	config := &rest.Config{Host: front.URL, QPS: -1}
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return s, config, client
}

func TestObjects(t *testing.T) {
	t.Parallel()
	_, _, client := start(t)
	ctx := t.Context()
	services := client.CoreV1().Services("shop")
	made, err := services.Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"a": "b"}}, Status: corev1.ServiceStatus{Conditions: []metav1.Condition{{Type: "Early"}}}}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.Equal(t, "shop", made.Namespace)
	require.NotEmpty(t, made.UID)
	require.WithinDuration(t, time.Now(), made.CreationTimestamp.Time, time.Minute)
	require.EqualValues(t, 1, made.Generation)
	require.Empty(t, made.Status.Conditions, "a status is written by itself")
	_, err = services.Create(ctx, made, metav1.CreateOptions{})
	require.True(t, apierrors.IsAlreadyExists(err), err)

	told := made.DeepCopy()
	told.Status.Conditions, told.Spec.ExternalName = []metav1.Condition{{Type: "Ready"}}, "ignored"
	told, err = services.UpdateStatus(ctx, told, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.Len(t, told.Status.Conditions, 1)
	require.Empty(t, told.Spec.ExternalName)
	require.EqualValues(t, 1, told.Generation)

	_, err = services.Update(ctx, made, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "the resource version is old: %v", err)
	told.Spec.ExternalName, told.Status.Conditions = "new", nil
	changed, err := services.Update(ctx, told, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 2, changed.Generation)
	require.Len(t, changed.Status.Conditions, 1)
	same, err := services.Update(ctx, changed, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.Equal(t, changed.ResourceVersion, same.ResourceVersion, "nothing has changed")

	patched, err := services.Patch(ctx, "web", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":null,"c":"d"}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"c": "d"}, patched.Labels)
	require.EqualValues(t, 2, patched.Generation)
	_, err = services.Patch(ctx, "web", types.JSONPatchType, []byte(`[]`), metav1.PatchOptions{})
	require.True(t, apierrors.IsUnsupportedMediaType(err), err)

	for selector, want := range map[string]int{"c=d": 1, "c=e": 0, "": 1} {
		list, err := client.CoreV1().Services("").List(ctx, metav1.ListOptions{LabelSelector: selector})
		require.NoError(t, err)
		require.Len(t, list.Items, want, selector)
	}
	_, err = client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, client.CoreV1().Namespaces().Delete(ctx, "shop", metav1.DeleteOptions{}))
	_, err = services.Get(ctx, "web", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "a namespace takes along what is in it: %v", err)
}

// Informers, which list by watching or list first, see every change in order.
func TestWatch(t *testing.T) {
	t.Parallel()
	_, _, client := start(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	maps := client.CoreV1().ConfigMaps("a")
	_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "first"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	seen := make(chan string, 10)
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace("a"))
	informer := factory.Core().V1().ConfigMaps().Informer()
	_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { seen <- "+" + o.(*corev1.ConfigMap).Name },
		UpdateFunc: func(_, o any) { seen <- "~" + o.(*corev1.ConfigMap).Name + o.(*corev1.ConfigMap).Data["k"] },
		DeleteFunc: func(o any) { seen <- "-" + o.(*corev1.ConfigMap).Name },
	})
	require.NoError(t, err)
	factory.Start(ctx.Done())
	require.True(t, cache.WaitForCacheSync(ctx.Done(), informer.HasSynced))
	second, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "second"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = client.CoreV1().ConfigMaps("b").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "elsewhere"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	second.Data = map[string]string{"k": "v"}
	_, err = maps.Update(ctx, second, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, maps.Delete(ctx, "first", metav1.DeleteOptions{}))
	for _, want := range []string{"+first", "+second", "~secondv", "-first"} {
		select {
		case got := <-seen:
			require.Equal(t, want, got)
		case <-time.After(20 * time.Second):
			t.Fatalf("no %s", want)
		}
	}
	cancel()
	factory.Shutdown()
}

func TestDefinitions(t *testing.T) {
	t.Parallel()
	s, config, client := start(t)
	require.NoError(t, s.AddDefinition([]byte(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: things, kind: Thing}
  versions:
  - name: v1
    served: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          status: {type: object, default: {phase: Waiting}}
          spec:
            type: object
            properties:
              size: {type: integer, default: 3}
              list: {type: array, items: {type: object, properties: {kind: {type: string, default: K}}}}
              byName: {type: object, additionalProperties: {type: object, properties: {set: {type: boolean, default: true}}}}
              nested: {type: object, default: {}, properties: {name: {type: string, default: inner}}}
  - {name: v1beta1, served: true, schema: {openAPIV3Schema: {type: object}}}
  - {name: v1alpha1, served: false, schema: {openAPIV3Schema: {type: object}}}
`)))
	dyn, err := dynamic.NewForConfig(config)
	require.NoError(t, err)
	things := func(version string) dynamic.ResourceInterface {
		return dyn.Resource(schema.GroupVersionResource{Group: "example.com", Version: version, Resource: "things"}).Namespace("n")
	}
	made, err := things("v1").Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.com/v1", "kind": "Thing", "metadata": map[string]any{"name": "t"},
		"spec": map[string]any{"list": []any{map[string]any{}, map[string]any{"kind": "own"}}, "byName": map[string]any{"a": map[string]any{}}},
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"size": int64(3), "list": []any{map[string]any{"kind": "K"}, map[string]any{"kind": "own"}}, "byName": map[string]any{"a": map[string]any{"set": true}}, "nested": map[string]any{"name": "inner"},
	}, made.Object["spec"])
	require.Equal(t, map[string]any{"phase": "Waiting"}, made.Object["status"])
	beta, err := things("v1beta1").Get(t.Context(), "t", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, "example.com/v1beta1", beta.GetAPIVersion())
	_, err = things("v1alpha1").Get(t.Context(), "t", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), err)
	lists, err := client.Discovery().ServerResourcesForGroupVersion("example.com/v1")
	require.NoError(t, err)
	require.Equal(t, []string{"things", "things/status"}, []string{lists.APIResources[0].Name, lists.APIResources[1].Name})
}
