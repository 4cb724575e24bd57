package apiserver

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Resource is a kind of objects that a Server has.
type Resource struct {
	Group      string
	Versions   []string // the first is preferred; all are the same but for the name
	Name       string   // in URLs, such as services
	Kind       string
	Namespaced bool
	Status     bool // has a status subresource, so that a change elsewhere leaves the status alone

	// Default adds the defaults to an object. May be nil.
	Default func(object map[string]any)
}

// Server is an API server. Make it with New.
type Server struct {
	// Logs returns what a pod has printed since a moment. May be nil; set it before requests come.
	Logs func(namespace, pod string, since time.Time) string

	mu        sync.Mutex
	changed   *sync.Cond
	resources []*Resource
	objects   map[key]map[string]any
	events    []event
	version   uint64 // of the last event
	closed    bool
}

type key struct {
	resource        *Resource
	namespace, name string
}

// event is a change; its resource version is its place in the list, from 1.
type event struct {
	kind   string // ADDED, MODIFIED or DELETED
	key    key
	object map[string]any
}

// New returns a Server with the built-in kinds that tests use.
func New() *Server {
	s := &Server{objects: map[key]map[string]any{}}
	s.changed = sync.NewCond(&s.mu)
	for _, r := range []Resource{
		{Versions: []string{"v1"}, Name: "namespaces", Kind: "Namespace", Status: true},
		{Versions: []string{"v1"}, Name: "pods", Kind: "Pod", Namespaced: true, Status: true},
		{Versions: []string{"v1"}, Name: "services", Kind: "Service", Namespaced: true, Status: true},
		{Versions: []string{"v1"}, Name: "serviceaccounts", Kind: "ServiceAccount", Namespaced: true},
		{Versions: []string{"v1"}, Name: "configmaps", Kind: "ConfigMap", Namespaced: true},
		{Versions: []string{"v1"}, Name: "secrets", Kind: "Secret", Namespaced: true},
		{Group: "apps", Versions: []string{"v1"}, Name: "deployments", Kind: "Deployment", Namespaced: true, Status: true},
		{Group: "discovery.k8s.io", Versions: []string{"v1"}, Name: "endpointslices", Kind: "EndpointSlice", Namespaced: true},
		{Group: "networking.k8s.io", Versions: []string{"v1"}, Name: "ingresses", Kind: "Ingress", Namespaced: true, Status: true},
		{Group: "networking.k8s.io", Versions: []string{"v1"}, Name: "ingressclasses", Kind: "IngressClass"},
		{Group: "apiextensions.k8s.io", Versions: []string{"v1"}, Name: "customresourcedefinitions", Kind: "CustomResourceDefinition", Status: true},
	} {
		s.Add(r)
	}
	return s
}

// Add adds a kind.
func (s *Server) Add(r Resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resources = append(s.resources, &r)
}

// Close ends all watches.
func (s *Server) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed.Broadcast()
}

// call is a request that is understood.
type call struct {
	resource        *Resource
	version         string
	namespace, name string
	sub             string
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if s.discover(w, path) {
		return
	}
	c, ok := s.understand(path)
	if !ok {
		tell(w, nil, apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{}, "", r.URL.Path, 0, true))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	query := r.URL.Query()
	switch {
	case c.sub == "log":
		since, _ := time.Parse(time.RFC3339, query.Get("sinceTime"))
		if s.Logs != nil {
			_, _ = io.WriteString(w, s.Logs(c.namespace, c.name, since))
		}
	case r.Method == http.MethodGet && c.name == "" && (query.Get("watch") == "true" || query.Get("watch") == "1"):
		s.watch(w, r, c)
	case r.Method == http.MethodGet && c.name == "":
		list, err := s.list(c, query)
		tell(w, list, err)
	default:
		object, err := s.do(r, c, body)
		if err == nil && r.Method == http.MethodPost {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
		}
		tell(w, object, err)
	}
}

// understand finds the kind and the object of a path.
func (s *Server) understand(path []string) (call, bool) {
	c := call{}
	group := ""
	switch {
	case len(path) > 2 && path[0] == "api":
		c.version, path = path[1], path[2:]
	case len(path) > 3 && path[0] == "apis":
		group, c.version, path = path[1], path[2], path[3:]
	default:
		return c, false
	}
	if path[0] == "namespaces" && len(path) > 2 && path[2] != "status" {
		c.namespace, path = path[1], path[2:]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.resources {
		if r.Group == group && r.Name == path[0] && slices.Contains(r.Versions, c.version) {
			c.resource = r
		}
	}
	if len(path) > 1 {
		c.name = path[1]
	}
	if len(path) > 2 {
		c.sub = path[2]
	}
	return c, c.resource != nil
}

// tell answers with an object, or with an error.
func tell(w http.ResponseWriter, object any, err error) {
	w.Header().Set("Content-Type", "application/json")
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		st := status.Status()
		st.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		w.WriteHeader(int(st.Code))
		object = st
	} else if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(object)
}
