package world

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/podplumb/podplumb/examples/internal/source"
	"github.com/podplumb/podplumb/examples/mesh/stream"
)

// together is how long changes are waited for, so that a thousand at once are
// one snapshot.
const together = 5 * time.Millisecond

// World is the cluster as it is now.
type World struct {
	domain spiffeid.TrustDomain
	failed func(error)

	now   atomic.Pointer[Snapshot]
	dirty chan struct{} // holds one token while there is something new

	mu         sync.Mutex
	changed    chan struct{}
	told       string
	namespaces map[name]*corev1.Namespace
	nodes      map[name]*corev1.Node
	pods       map[name]*corev1.Pod
	services   map[name]*corev1.Service
	slices     map[name]*discoveryv1.EndpointSlice
}

type name struct{ namespace, name string }

var _ stream.Resolver = (*World)(nil)

// New makes a World that knows nothing yet. failed is told what is wrong with
// objects.
func New(domain spiffeid.TrustDomain, failed func(error)) *World {
	w := &World{
		domain: domain, failed: failed, dirty: make(chan struct{}, 1), changed: make(chan struct{}),
		namespaces: map[name]*corev1.Namespace{}, nodes: map[name]*corev1.Node{}, pods: map[name]*corev1.Pod{},
		services: map[name]*corev1.Service{}, slices: map[name]*discoveryv1.EndpointSlice{},
	}
	w.now.Store(&Snapshot{})
	return w
}

// Follow takes the objects of a source in until ctx ends.
func (w *World) Follow(ctx context.Context, objects source.Source) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); w.publish(ctx) }()
	defer func() { cancel(); <-done }()
	return objects.Run(ctx, scheme.Scheme, []source.Kind{
		{Object: &corev1.Namespace{}, Resource: "namespaces"},
		{Object: &corev1.Node{}, Resource: "nodes"},
		{Object: &corev1.Pod{}, Resource: "pods", Namespaced: true},
		{Object: &corev1.Service{}, Resource: "services", Namespaced: true},
		{Object: &discoveryv1.EndpointSlice{}, Resource: "endpointslices", Namespaced: true},
	}, source.Receiver{Changed: w.take, Fault: w.failed})
}

func (w *World) take(changes []source.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range changes {
		switch o := cmp.Or(c.New, c.Old).(type) {
		case *corev1.Namespace:
			put(w.namespaces, name{"", o.Name}, o, c)
		case *corev1.Node:
			put(w.nodes, name{"", o.Name}, o, c)
		case *corev1.Pod:
			put(w.pods, name{o.Namespace, o.Name}, o, c)
		case *corev1.Service:
			put(w.services, name{o.Namespace, o.Name}, o, c)
		case *discoveryv1.EndpointSlice:
			put(w.slices, name{o.Namespace, o.Name}, o, c)
		}
	}
	select {
	case w.dirty <- struct{}{}:
	default:
	}
}

func put[T runtime.Object](to map[name]T, at name, object T, c source.Change) {
	if c.New == nil {
		delete(to, at)
	} else {
		to[at] = object
	}
}

// Set makes the World know these objects and no others, at once.
func (w *World) Set(objects ...runtime.Object) {
	w.mu.Lock()
	clear(w.namespaces)
	clear(w.nodes)
	clear(w.pods)
	clear(w.services)
	clear(w.slices)
	w.mu.Unlock()
	var changes []source.Change
	for _, o := range objects {
		changes = append(changes, source.Change{New: o})
	}
	w.take(changes)
	w.make()
}

func (w *World) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.dirty:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(together):
		}
		select { // what came meanwhile is in it
		case <-w.dirty:
		default:
		}
		w.make()
	}
}

func (w *World) make() {
	w.mu.Lock()
	s, faults := w.snapshot()
	w.now.Store(s)
	close(w.changed)
	w.changed = make(chan struct{})
	text := ""
	if faults != nil {
		text = faults.Error()
	}
	tell := text != w.told && text != ""
	w.told = text
	w.mu.Unlock()
	if tell {
		w.failed(faults)
	}
}

// Snapshot is what is known now, and a channel that is closed when there is
// more. Before anything is known, Snapshot.Known is false.
func (w *World) Snapshot() (*Snapshot, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now.Load(), w.changed
}

// Resolve implements stream.Resolver.
func (w *World) Resolve(to netip.AddrPort) stream.Backend { return w.now.Load().Resolve(to) }

// Service implements stream.Resolver.
func (w *World) Service(namespace, name string, port uint16, like netip.Addr) (stream.Backend, bool) {
	return w.now.Load().Service(namespace, name, port, like)
}

func sorted[T any](m map[name]T) []T {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b name) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	list := make([]T, len(keys))
	for i, k := range keys {
		list[i] = m[k]
	}
	return list
}
