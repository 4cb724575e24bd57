package agent

import (
	"context"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/podplumb/podplumb/examples/dns/records"
	"github.com/podplumb/podplumb/examples/internal/source"
)

// follow keeps the Store as the objects are.
func follow(ctx context.Context, objects source.Source, store *records.Store, log *slog.Logger) error {
	kinds := []source.Kind{
		{Object: &corev1.Namespace{}, Resource: "namespaces"},
		{Object: &corev1.Service{}, Resource: "services", Namespaced: true},
		{Object: &discoveryv1.EndpointSlice{}, Resource: "endpointslices", Namespaced: true},
	}
	if _, ok := objects.(source.Directory); ok { // nobody makes EndpointSlices of the pods there
		kinds = append(kinds, source.Kind{Object: &corev1.Pod{}, Resource: "pods", Namespaced: true})
	}
	return objects.Run(ctx, scheme.Scheme, kinds, source.Receiver{
		Changed: func(changes []source.Change) {
			store.Update(func(e *records.Edit) {
				for _, c := range changes {
					if c.New != nil {
						set(e, c.New)
					} else {
						drop(e, c.Old)
					}
				}
			})
		},
		Fault: func(err error) { log.Error("the last good state counts", "fault", err) },
	})
}

func set(e *records.Edit, object runtime.Object) {
	switch o := object.(type) {
	case *corev1.Namespace:
		e.SetNamespace(o.Name)
	case *corev1.Service:
		e.SetService(o)
	case *discoveryv1.EndpointSlice:
		e.SetSlice(o)
	case *corev1.Pod:
		e.SetPod(o)
	}
}

func drop(e *records.Edit, object runtime.Object) {
	switch o := object.(type) {
	case *corev1.Namespace:
		e.DropNamespace(o.Name)
	case *corev1.Service:
		e.DropService(o.Namespace, o.Name)
	case *discoveryv1.EndpointSlice:
		e.DropSlice(o.Namespace, o.Name)
	case *corev1.Pod:
		e.DropPod(o.Namespace, o.Name)
	}
}
