package routes

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/podplumb/podplumb/examples/internal/httproute"
	"github.com/podplumb/podplumb/examples/mesh/stream"
)

// Objects are what a Table is made of.
type Objects struct {
	Services   []*corev1.Service
	HTTPRoutes []*gatewayv1.HTTPRoute
	GRPCRoutes []*gatewayv1.GRPCRoute
}

// Table knows which routes count for a request. It is immutable; the zero Table and nil have none.
type Table struct {
	attached map[place]*httproute.Table
	methods  map[string]map[string]bool // that the matches of a rule name, by its Origin
	parents  []Parent

	services map[*corev1.Service]bool // that it was made of, for the next one
	compiled map[any]*httproute.Route // by the object
}

// place is where routes are attached: for all clients, or for those of one namespace.
type place struct {
	namespace, service string
	port               uint16
	client             string
}

// Parent is what became of one parentRef of a route, for its status.
type Parent struct {
	Kind, Namespace, Name string
	Ref                   gatewayv1.ParentReference
	Accepted              gatewayv1.RouteConditionReason // RouteReasonAccepted, or why not
	Resolved              gatewayv1.RouteConditionReason // RouteReasonResolvedRefs, or what is wrong with the backends
	Message               string
}

// Err returns what is wrong, or nil.
func (p *Parent) Err() error {
	if p.Message == "" {
		return nil
	}
	return fmt.Errorf("%s %s/%s: %s", p.Kind, p.Namespace, p.Name, p.Message)
}

// compiled is a route and where its object wants to be attached.
type compiled struct {
	*httproute.Route
	refs []gatewayv1.ParentReference
}

// New makes a Table. What old has of the same objects is used again.
func New(old *Table, o Objects) *Table {
	t := &Table{
		attached: map[place]*httproute.Table{}, methods: map[string]map[string]bool{}, services: map[*corev1.Service]bool{}, compiled: map[any]*httproute.Route{},
	}
	byName := map[[2]string]*corev1.Service{}
	for _, s := range o.Services {
		t.services[s] = true
		byName[[2]string{s.Namespace, s.Name}] = s
	}
	service := func(namespace, name string) *corev1.Service { return byName[[2]string{namespace, name}] }
	resolve := func(from httproute.From, ref *gatewayv1.BackendObjectReference) (httproute.Target, error) {
		if ref.Namespace != nil && *ref.Namespace != "" {
			from.Namespace = string(*ref.Namespace) // a mesh exposes nothing that was not exposed: no grant is needed
		}
		return httproute.References{Service: service}.Resolve(from, ref)
	}
	if old != nil && !maps.Equal(old.services, t.services) {
		old = nil
	}
	var all []compiled
	for _, r := range o.GRPCRoutes {
		all = append(all, compiled{t.compile(old, r, func() *httproute.Route { return httproute.FromGRPC(r, resolve) }), r.Spec.ParentRefs})
	}
	for _, r := range o.HTTPRoutes {
		route := t.compile(old, r, func() *httproute.Route { return httproute.FromHTTP(r, resolve) })
		all = append(all, compiled{route, r.Spec.ParentRefs})
		t.noteMethods(r)
	}
	t.attach(all, service)
	return t
}

func (t *Table) compile(old *Table, object any, compile func() *httproute.Route) *httproute.Route {
	var r *httproute.Route
	if old != nil {
		r = old.compiled[object]
	}
	if r == nil {
		r = compile()
	}
	t.compiled[object] = r
	return r
}

// noteMethods remembers which methods a rule is for in so many words.
func (t *Table) noteMethods(r *gatewayv1.HTTPRoute) {
	for i := range r.Spec.Rules {
		for _, m := range r.Spec.Rules[i].Matches {
			if m.Method == nil {
				continue
			}
			origin := fmt.Sprintf("HTTPRoute %s/%s: spec.rules[%d]", r.Namespace, r.Name, i)
			if t.methods[origin] == nil {
				t.methods[origin] = map[string]bool{}
			}
			t.methods[origin][string(*m.Method)] = true
		}
	}
}

func (t *Table) attach(all []compiled, service func(namespace, name string) *corev1.Service) {
	at, grpc := map[place][]httproute.Attachment{}, map[place]bool{}
	for _, c := range all { // GRPCRoutes first
		for _, ref := range c.refs {
			if ref.Group == nil || *ref.Group != "" && *ref.Group != "core" || deref(ref.Kind) != "Service" {
				continue // a gateway's, as it is when nothing is said
			}
			p := Parent{
				Kind: c.Kind, Namespace: c.Namespace, Name: c.Name, Ref: ref,
				Accepted: gatewayv1.RouteReasonAccepted, Resolved: gatewayv1.RouteReasonResolvedRefs,
			}
			places, err := placesOf(c, ref, service)
			switch {
			case err != nil:
				p.Accepted, p.Message = gatewayv1.RouteReasonNoMatchingParent, err.Error()
			case !c.Route.Accepted():
				p.Accepted, p.Message = gatewayv1.RouteReasonUnsupportedValue, faults(c.Left)
			default:
				if len(c.Unresolved) > 0 {
					p.Resolved = c.Unresolved[0].Reason
				}
				p.Message = faults(slices.Concat(c.Left, c.Unresolved))
				for _, place := range places {
					if c.Kind != "GRPCRoute" && grpc[place] {
						p.Accepted, p.Message = "Conflicted", "a GRPCRoute is attached to the same port, and counts"
						continue
					}
					grpc[place] = grpc[place] || c.Kind == "GRPCRoute"
					at[place] = append(at[place], httproute.Attachment{Route: c.Route})
				}
			}
			t.parents = append(t.parents, p)
		}
	}
	for place, attachments := range at {
		t.attached[place] = httproute.New(attachments)
	}
}

func placesOf(c compiled, ref gatewayv1.ParentReference, service func(namespace, name string) *corev1.Service) ([]place, error) {
	namespace := cmp.Or(string(deref(ref.Namespace)), c.Namespace)
	s := service(namespace, string(ref.Name))
	if s == nil {
		return nil, fmt.Errorf("there is no Service %s/%s", namespace, ref.Name)
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return nil, fmt.Errorf("a route cannot be attached to Service %s/%s of type ExternalName", namespace, ref.Name)
	}
	client := ""
	if namespace != c.Namespace {
		client = c.Namespace
	}
	var places []place
	for _, p := range s.Spec.Ports {
		if (ref.Port == nil || *ref.Port == p.Port) && (ref.SectionName == nil || string(*ref.SectionName) == p.Name) {
			places = append(places, place{namespace, s.Name, uint16(p.Port), client})
		}
	}
	if len(places) == 0 {
		return nil, fmt.Errorf("Service %s/%s has no such port", namespace, ref.Name)
	}
	return places, nil
}

func faults(list []httproute.Fault) string {
	var all []error
	for _, f := range list {
		all = append(all, f)
	}
	if err := errors.Join(all...); err != nil {
		return err.Error()
	}
	return ""
}

func deref[T ~string](p *T) T {
	if p == nil {
		return ""
	}
	return *p
}

// Find returns the routes that count for clients of a namespace at a Service's port; nil if there are none, and requests
// go to the Service's own endpoints.
func (t *Table) Find(client string, service *stream.Service, port uint16) *httproute.Table {
	if t == nil || len(t.attached) == 0 {
		return nil
	}
	if r := t.attached[place{service.Namespace, service.Name, port, client}]; r != nil && client != service.Namespace {
		return r
	}
	return t.attached[place{service.Namespace, service.Name, port, ""}]
}

// Names says whether a rule is for a method in so many words, so that its owner knows what is done twice when it is tried
// again.
func (t *Table) Names(rule *httproute.Rule, method string) bool {
	return t != nil && t.methods[rule.Origin][method]
}

// Parents returns what became of each parentRef that is a Service.
func (t *Table) Parents() []Parent { return t.parents }
