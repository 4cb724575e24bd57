package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/podplumb/podplumb/service"
)

// apiServer is a source of the objects of a Kubernetes cluster. It goes on with what it knows while the server is away.
type apiServer struct {
	log     *slog.Logger
	options options
	health  *health
	started time.Time

	services, slices, nodes cache.SharedIndexInformer
	known                   chan struct{}

	config *rest.Config
	codecs serializer.CodecFactory

	mu     sync.Mutex
	ranges []netip.Prefix // of ServiceCIDR objects
}

func newAPIServer(o options, h *health, log *slog.Logger) (*apiServer, error) {
	config, err := restConfig(o)
	if err != nil {
		return nil, err
	}
	away := new(atomic.Bool)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &reachable{log: log, next: next, away: away} })
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	a := &apiServer{log: log, options: o, health: h, started: time.Now(), known: make(chan struct{}), config: config, codecs: serializer.NewCodecFactory(scheme)}
	// Kubernetes' own rule for what a proxy leaves alone: headless Services, and those of another proxy.
	meant := "!" + service.LabelProxyName
	if o.proxyName != "" {
		meant = service.LabelProxyName + "=" + o.proxyName
	}
	selector := "!" + corev1.IsHeadlessService + "," + meant
	for _, watched := range []struct {
		informer *cache.SharedIndexInformer
		group    schema.GroupVersion
		resource string
		object   runtime.Object
		narrow   func(*metav1.ListOptions)
	}{
		{&a.services, corev1.SchemeGroupVersion, "services", &corev1.Service{}, func(l *metav1.ListOptions) { l.LabelSelector = selector }},
		{&a.slices, discoveryv1.SchemeGroupVersion, "endpointslices", &discoveryv1.EndpointSlice{}, func(l *metav1.ListOptions) { l.LabelSelector = selector }},
		{&a.nodes, corev1.SchemeGroupVersion, "nodes", &corev1.Node{}, func(l *metav1.ListOptions) {
			l.FieldSelector = fields.OneTermEqualSelector("metadata.name", o.node).String()
		}},
	} {
		if *watched.informer, err = a.informer(watched.group, watched.resource, watched.object, watched.narrow); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func restConfig(o options) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if o.kubeconfig == "" && o.master == "" {
		config, err = rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, usage("where do the objects come from? --kubeconfig, --master or --manifests says so, and this is no pod: %w", err)
		}
	} else {
		config, err = clientcmd.BuildConfigFromFlags(o.master, o.kubeconfig)
	}
	if err != nil {
		return nil, usage("%w", err)
	}
	config.UserAgent = "podplumb-serviceproxy"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.ContentType = "application/vnd.kubernetes.protobuf"
	return config, nil
}

// client returns a client for one group of the API.
func (a *apiServer) client(group schema.GroupVersion) (*rest.RESTClient, error) {
	config := rest.CopyConfig(a.config)
	config.GroupVersion, config.APIPath = &group, "/apis"
	if group.Group == "" {
		config.APIPath = "/api"
	}
	config.NegotiatedSerializer = a.codecs.WithoutConversion()
	return rest.RESTClientFor(config)
}

func (a *apiServer) informer(group schema.GroupVersion, resource string, object runtime.Object, narrow func(*metav1.ListOptions)) (cache.SharedIndexInformer, error) {
	client, err := a.client(group)
	if err != nil {
		return nil, err
	}
	lw := cache.NewFilteredListWatchFromClient(client, resource, metav1.NamespaceAll, narrow)
	informer := cache.NewSharedIndexInformerWithOptions(lw, object, cache.SharedIndexInformerOptions{ObjectDescription: resource})
	if err := informer.SetTransform(lean); err != nil {
		return nil, err
	}
	return informer, informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || errors.Is(err, io.EOF) {
			a.log.Debug("watched anew", "resource", resource, "err", err) // servers end watches every few minutes
			return
		}
		a.log.Warn("the API server refuses: the objects count as they were", "resource", resource, "err", err)
	})
}

// lean drops from an object what takes room and nobody looks at.
func lean(o any) (any, error) {
	if m, ok := o.(metav1.ObjectMetaAccessor); ok {
		m.GetObjectMeta().SetManagedFields(nil)
	}
	if n, ok := o.(*corev1.Node); ok {
		n.Status.Images = nil
	}
	return o, nil
}

func (a *apiServer) ready() <-chan struct{} { return a.known }

func (a *apiServer) state() service.State {
	var s service.State
	for _, o := range a.services.GetStore().List() {
		s.Services = append(s.Services, *serviceFrom(o.(*corev1.Service)))
	}
	for _, o := range a.slices.GetStore().List() {
		s.EndpointSlices = append(s.EndpointSlices, *sliceFrom(o.(*discoveryv1.EndpointSlice)))
	}
	for _, o := range a.nodes.GetStore().List() {
		s.Nodes = append(s.Nodes, *nodeFrom(o.(*corev1.Node)))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.ServiceRanges = slices.Clone(a.ranges)
	return s
}

func (a *apiServer) node() service.Node {
	if o, ok, _ := a.nodes.GetStore().GetByKey(a.options.node); ok {
		return *nodeFrom(o.(*corev1.Node))
	}
	return service.Node{Meta: service.Meta{Name: a.options.node}}
}

func (a *apiServer) run(ctx context.Context, in *inbox) error {
	name := func(m *metav1.ObjectMeta) service.Name { return service.Name{Namespace: m.Namespace, Name: m.Name} }
	synced := make([]cache.InformerSynced, 0, 3)
	follow := func(informer cache.SharedIndexInformer, handler cache.ResourceEventHandler) error {
		registration, err := informer.AddEventHandler(handler)
		synced = append(synced, registration.HasSynced)
		return err
	}
	err := errors.Join(
		follow(a.services, handler(func(_, s *corev1.Service) {
			in.put(func(b *batch) { b.services[name(&s.ObjectMeta)] = serviceFrom(s) })
		}, func(s *corev1.Service) { in.put(func(b *batch) { b.services[name(&s.ObjectMeta)] = nil }) })),
		follow(a.slices, handler(func(old, s *discoveryv1.EndpointSlice) {
			at := trigger(s)
			if at.Before(a.started) || old != nil && trigger(old).Equal(at) {
				at = time.Time{} // nobody waits for that
			}
			in.put(func(b *batch) {
				b.slices[name(&s.ObjectMeta)] = sliceFrom(s)
				if !at.IsZero() {
					b.triggers = append(b.triggers, at)
				}
			})
		}, func(s *discoveryv1.EndpointSlice) { in.put(func(b *batch) { b.slices[name(&s.ObjectMeta)] = nil }) })),
		follow(a.nodes, handler(func(old, n *corev1.Node) {
			a.health.eligible(staying(n))
			to := nodeFrom(n)
			if old != nil && sameNode(nodeFrom(old), to) {
				return // a kubelet says every few seconds that it lives
			}
			in.put(func(b *batch) { b.nodes[n.Name] = to })
		}, func(*corev1.Node) { a.health.eligible(false) })), // what is known of the node goes on to count
	)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	defer group.Wait()
	for _, informer := range []cache.SharedIndexInformer{a.services, a.slices, a.nodes} {
		group.Go(func() { informer.RunWithContext(ctx) })
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return ctx.Err()
	}
	close(a.known)
	if len(a.options.serviceCIDRs) == 0 {
		group.Go(func() { a.followRanges(ctx, in) })
	}
	<-ctx.Done()
	return ctx.Err()
}

// handler leads the events of one kind of object to two functions. old is nil for an object that is new.
func handler[T any](set func(old, now *T), gone func(*T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { set(nil, o.(*T)) },
		UpdateFunc: func(old, o any) { set(old.(*T), o.(*T)) },
		DeleteFunc: func(o any) {
			if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			if o, ok := o.(*T); ok {
				gone(o)
			}
		},
	}
}

func sameNode(a, b *service.Node) bool {
	return a.Labels[service.LabelZone] == b.Labels[service.LabelZone] && slices.Equal(a.Status.Addresses, b.Status.Addresses)
}

// followRanges follows the ServiceCIDR objects, on servers that have them and let us see them.
func (a *apiServer) followRanges(ctx context.Context, in *inbox) {
	client, err := a.client(networkingv1.SchemeGroupVersion)
	if err != nil {
		a.log.Error("ServiceCIDR objects", "err", err)
		return
	}
	again := backoff{first: time.Second, most: time.Minute}
	for {
		served, err := serves(ctx, client, "servicecidrs")
		switch {
		case ctx.Err() != nil || err == nil && !served:
			return
		case err == nil:
			a.watchRanges(ctx, in)
			return
		}
		a.log.Debug("ServiceCIDR objects", "err", err)
		sleep(ctx, again.next())
	}
}

// serves asks whether the group has a resource.
func serves(ctx context.Context, client *rest.RESTClient, resource string) (bool, error) {
	raw, err := client.Get().AbsPath("/apis/networking.k8s.io/v1").SetHeader("Accept", "application/json").DoRaw(ctx)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var list metav1.APIResourceList
	if err := json.Unmarshal(raw, &list); err != nil {
		return false, err
	}
	return slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == resource }), nil
}

func (a *apiServer) watchRanges(ctx context.Context, in *inbox) {
	informer, err := a.informer(networkingv1.SchemeGroupVersion, "servicecidrs", &networkingv1.ServiceCIDR{}, func(*metav1.ListOptions) {})
	if err != nil {
		a.log.Error("ServiceCIDR objects", "err", err)
		return
	}
	changed := func(*networkingv1.ServiceCIDR) {
		var ranges []netip.Prefix
		for _, o := range informer.GetStore().List() {
			list, _ := parsePrefixes(o.(*networkingv1.ServiceCIDR).Spec.CIDRs) // the API server has checked them
			ranges = append(ranges, list...)
		}
		slices.SortFunc(ranges, netip.Prefix.Compare)
		ranges = slices.Compact(ranges)
		a.mu.Lock()
		same := slices.Equal(a.ranges, ranges)
		a.ranges = ranges
		a.mu.Unlock()
		if !same {
			in.put(func(b *batch) { b.anew = true })
		}
	}
	if _, err := informer.AddEventHandler(handler(func(_, c *networkingv1.ServiceCIDR) { changed(c) }, changed)); err != nil {
		a.log.Error("ServiceCIDR objects", "err", err)
		return
	}
	informer.RunWithContext(ctx)
}
