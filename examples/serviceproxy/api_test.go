package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// api is an API server that lists and watches a few resources, over HTTP, with everything that watches go through in a real
// one: selectors, bookmarks, streams that end, histories that are cut (410 Gone), and times at which nobody answers.
type api struct {
	mu      sync.Mutex
	changed chan struct{} // closed at every change
	version int
	oldest  int // watches from before are gone
	streams int // number of the present generation of streams; those of earlier ones end
	down    bool
	now     map[string]map[string]metav1.Object // by path, then by namespace/name
	history []change
	counts  map[string]int // requests, as "list /api/v1/services" and "watch ..."
	// plainLists refuses to stream the list in a watch, as servers before 1.34 do.
	plainLists bool
}

type change struct {
	path     string
	version  int
	old, now metav1.Object
}

const (
	servicesPath = "/api/v1/services"
	nodesPath    = "/api/v1/nodes"
	slicesPath   = "/apis/discovery.k8s.io/v1/endpointslices"
	rangesPath   = "/apis/networking.k8s.io/v1/servicecidrs"
)

var kinds = map[string][2]string{
	servicesPath: {"v1", "Service"}, nodesPath: {"v1", "Node"}, slicesPath: {"discovery.k8s.io/v1", "EndpointSlice"}, rangesPath: {"networking.k8s.io/v1", "ServiceCIDR"},
}

func newAPI() *api {
	a := &api{changed: make(chan struct{}), version: 1, now: map[string]map[string]metav1.Object{}, counts: map[string]int{}}
	for path := range kinds {
		a.now[path] = map[string]metav1.Object{}
	}
	return a
}

func pathOf(o metav1.Object) string {
	switch o.(type) {
	case *corev1.Service:
		return servicesPath
	case *corev1.Node:
		return nodesPath
	case *discoveryv1.EndpointSlice:
		return slicesPath
	case *networkingv1.ServiceCIDR:
		return rangesPath
	}
	panic(fmt.Sprintf("%T", o))
}

// set adds or changes objects. They are the server's from then on.
func (a *api) set(list ...metav1.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range list {
		path, key := pathOf(o), o.GetNamespace()+"/"+o.GetName()
		a.version++
		o.SetResourceVersion(strconv.Itoa(a.version))
		kind := kinds[path]
		o.(runtime.Object).GetObjectKind().SetGroupVersionKind(schema.FromAPIVersionAndKind(kind[0], kind[1]))
		a.history = append(a.history, change{path, a.version, a.now[path][key], o})
		a.now[path][key] = o
	}
	a.tell()
}

func (a *api) drop(list ...metav1.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, o := range list {
		path, key := pathOf(o), o.GetNamespace()+"/"+o.GetName()
		a.version++
		a.history = append(a.history, change{path, a.version, a.now[path][key], nil})
		delete(a.now[path], key)
	}
	a.tell()
}

func (a *api) tell() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// cut ends all streams and forgets the history: whoever watched has to list again.
func (a *api) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.version++
	a.oldest, a.history = a.version, nil
	a.streams++
	a.tell()
}

// outage ends all streams and answers nobody, or ends that.
func (a *api) outage(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
	a.streams++
	a.tell()
}

func (a *api) count(what string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.counts[what]
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	down := a.down
	a.mu.Unlock()
	if down {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
		return
	}
	query := r.URL.Query()
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/apis/networking.k8s.io/v1" {
		_ = json.NewEncoder(w).Encode(metav1.APIResourceList{APIResources: []metav1.APIResource{{Name: "servicecidrs", Kind: "ServiceCIDR"}}})
		return
	}
	if kinds[r.URL.Path][0] == "" {
		http.NotFound(w, r)
		return
	}
	selector, err := newSelection(query.Get("labelSelector"), query.Get("fieldSelector"))
	if err != nil {
		status(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	watch := query.Get("watch") == "true" || query.Get("watch") == "1"
	streamed := query.Get("sendInitialEvents") == "true"
	a.mu.Lock()
	a.counts[map[bool]string{true: "watch ", false: "list "}[watch]+r.URL.Path]++
	plain := a.plainLists
	a.mu.Unlock()
	switch {
	case watch && streamed && plain:
		status(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid)
	case watch:
		a.watch(w, r, selector, query.Get("resourceVersion"), streamed)
	default:
		a.list(w, r.URL.Path, selector)
	}
}

func status(w http.ResponseWriter, code int32, reason metav1.StatusReason) {
	w.WriteHeader(int(code))
	_ = json.NewEncoder(w).Encode(failure(code, reason))
}

func failure(code int32, reason metav1.StatusReason) *metav1.Status {
	return &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: code, Reason: reason, Message: string(reason)}
}

// selection is the objects that a client asks for.
type selection struct {
	labels labels.Selector
	fields fields.Selector
}

func newSelection(l, f string) (selection, error) {
	byLabel, err := labels.Parse(l)
	if err != nil {
		return selection{}, err
	}
	byField, err := fields.ParseSelector(f)
	return selection{byLabel, byField}, err
}

func (s selection) has(o metav1.Object) bool {
	return o != nil && s.labels.Matches(labels.Set(o.GetLabels())) && s.fields.Matches(fields.Set{"metadata.name": o.GetName()})
}

func (a *api) list(w http.ResponseWriter, path string, selected selection) {
	a.mu.Lock()
	defer a.mu.Unlock()
	items := []metav1.Object{}
	for _, o := range a.now[path] {
		if selected.has(o) {
			items = append(items, o)
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"apiVersion": kinds[path][0], "kind": kinds[path][1] + "List", "items": items,
		"metadata": map[string]string{"resourceVersion": strconv.Itoa(a.version)},
	})
}

func (a *api) watch(w http.ResponseWriter, r *http.Request, selected selection, from string, initial bool) {
	path := r.URL.Path
	encoder := json.NewEncoder(w)
	send := func(kind string, object any) { _ = encoder.Encode(map[string]any{"type": kind, "object": object}) }
	bookmark := func(version int, annotations map[string]string) {
		send("BOOKMARK", map[string]any{"apiVersion": kinds[path][0], "kind": kinds[path][1], "metadata": map[string]any{
			"resourceVersion": strconv.Itoa(version), "annotations": annotations, "creationTimestamp": nil,
		}})
	}
	a.mu.Lock()
	stream, at := a.streams, a.version
	if initial {
		for _, o := range a.now[path] {
			if selected.has(o) {
				send("ADDED", o)
			}
		}
		bookmark(at, map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	} else {
		at, _ = strconv.Atoi(from)
		if at < a.oldest {
			a.mu.Unlock()
			send("ERROR", failure(http.StatusGone, metav1.StatusReasonExpired))
			return
		}
	}
	a.mu.Unlock()
	for {
		a.mu.Lock()
		wait := a.changed
		if a.streams != stream || a.down {
			a.mu.Unlock()
			return
		}
		i, _ := slices.BinarySearchFunc(a.history, at, func(c change, at int) int { return c.version - at - 1 })
		for _, c := range a.history[i:] {
			at = c.version
			if c.path != path {
				continue
			}
			switch was, is := selected.has(c.old), selected.has(c.now); {
			case was && is:
				send("MODIFIED", c.now)
			case is:
				send("ADDED", c.now)
			case was:
				send("DELETED", c.old)
			}
		}
		if at > 0 {
			bookmark(at, nil)
		}
		a.mu.Unlock()
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-wait:
		}
	}
}

// serve starts the server where the listener is, and returns its URL.
func (a *api) serve(t testing.TB, listener net.Listener) string {
	t.Helper()
	server := &http.Server{Handler: a, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return "http://" + listener.Addr().String()
}
