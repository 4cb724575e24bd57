package source

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// APIServer is a Kubernetes API server. Its watches begin again by themselves whatever becomes of connections.
type APIServer struct {
	Config *rest.Config
}

// Run implements Source.
func (a APIServer) Run(ctx context.Context, scheme *runtime.Scheme, list []Kind, to Receiver) error {
	wanted, err := indexKinds(scheme, list)
	if err != nil {
		return err
	}
	b := &batches{to: to, first: true}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var synced []cache.InformerSynced
	for gvk, kind := range wanted {
		client, err := a.client(scheme, gvk.GroupVersion())
		if err != nil {
			return err
		}
		informer := cache.NewSharedInformer(cache.NewListWatchFromClient(client, kind.Resource, "", fields.Everything()), kind.Object, 0)
		if err := informer.SetTransform(strip); err != nil {
			return err
		}
		if err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			if !kind.Optional || !apierrors.IsNotFound(err) {
				to.Fault(fmt.Errorf("%s: %w", kind.Resource, err))
			}
		}); err != nil {
			return err
		}
		registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(object any) { b.add(Change{New: object.(runtime.Object)}) },
			UpdateFunc: func(old, object any) { b.add(Change{Old: old.(runtime.Object), New: object.(runtime.Object)}) },
			DeleteFunc: func(object any) {
				if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
					object = tombstone.Obj
				}
				if last, ok := object.(runtime.Object); ok {
					b.add(Change{Old: last})
				}
			},
		})
		if err != nil {
			return err
		}
		if !kind.Optional || has(ctx, client, kind.Resource) {
			synced = append(synced, registration.HasSynced)
		}
		running.Go(func() { informer.RunWithContext(ctx) })
	}
	if cache.WaitForCacheSync(ctx.Done(), synced...) {
		b.begin()
	}
	<-ctx.Done()
	return nil
}

func (a APIServer) client(scheme *runtime.Scheme, version schema.GroupVersion) (*rest.RESTClient, error) {
	config := rest.CopyConfig(a.Config)
	config.GroupVersion, config.APIPath = &version, "/apis"
	if version.Group == "" {
		config.APIPath = "/api"
	}
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	return rest.RESTClientFor(config)
}

// has says whether the server has a kind. If it cannot be asked, it has: the informer will know.
func has(ctx context.Context, client rest.Interface, resource string) bool {
	_, err := client.Get().Resource(resource).VersionedParams(&metav1.ListOptions{Limit: 1}, metav1.ParameterCodec).DoRaw(ctx)
	return !apierrors.IsNotFound(err)
}

// strip drops what nobody reads and what is often bigger than the rest.
func strip(object any) (any, error) {
	if about, err := meta.Accessor(object); err == nil {
		about.SetManagedFields(nil)
	}
	return object, nil
}

// batches holds changes back until everything is known.
type batches struct {
	mu    sync.Mutex
	to    Receiver
	first bool
	held  []Change
}

func (b *batches) add(c Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.first {
		b.held = append(b.held, c)
		return
	}
	b.to.Changed([]Change{c})
}

func (b *batches) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.to.Changed(b.held)
	b.first, b.held = false, nil
}
