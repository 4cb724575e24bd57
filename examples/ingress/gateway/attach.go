package gateway

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/podplumb/podplumb/examples/internal/httproute"
)

// hostnameConflict is the reason for a route whose hostnames another kind of route has.
const hostnameConflict = "HostnameConflict"

// routeState is a route and how it fares at its parents of ours.
type routeState struct {
	http       *gatewayv1.HTTPRoute // either
	grpc       *gatewayv1.GRPCRoute // or
	meta       *metav1.ObjectMeta
	compiled   *httproute.Route
	parentRefs []gatewayv1.ParentReference
	parents    []parentState
}

type parentState struct {
	ref     gatewayv1.ParentReference
	refused *refusal // not accepted
}

func (m *Model) attach(objects *Objects) {
	resolve := httproute.References{Service: objects.Service, Grants: objects.Grants}.Resolve
	for _, r := range objects.HTTPRoutes {
		m.routes = append(m.routes, &routeState{http: r, meta: &r.ObjectMeta, parentRefs: r.Spec.ParentRefs})
	}
	for _, r := range objects.GRPCRoutes {
		m.routes = append(m.routes, &routeState{grpc: r, meta: &r.ObjectMeta, parentRefs: r.Spec.ParentRefs})
	}
	slices.SortFunc(m.routes, func(a, b *routeState) int {
		return cmp.Or(byAge(a.meta, b.meta), strings.Compare(a.kind(), b.kind()))
	})
	gateways := map[string]*gateway{}
	for _, g := range m.gateways {
		gateways[g.Namespace+"/"+g.Name] = g
	}
	for _, r := range m.routes {
		seen := map[*listener]bool{}
		for _, ref := range r.parentRefs {
			g := gateways[parentName(r.meta.Namespace, &ref)]
			if g == nil {
				continue
			}
			if r.compiled == nil {
				r.compile(resolve)
			}
			r.parents = append(r.parents, parentState{ref, r.attachTo(g, &ref, seen)})
		}
	}
}

// kind is that of the object.
func (r *routeState) kind() string {
	if r.http != nil {
		return string(httpRoute)
	}
	return string(grpcRoute)
}

func (r *routeState) compile(resolve httproute.Resolver) {
	if r.http != nil {
		r.compiled = httproute.FromHTTP(r.http, resolve)
	} else {
		r.compiled = httproute.FromGRPC(r.grpc, resolve)
	}
}

// parentName is the namespace and name of a reference to a Gateway, and empty for one to something else.
func parentName(namespace string, ref *gatewayv1.ParentReference) string {
	if ref.Group != nil && *ref.Group != gatewayv1.GroupName || ref.Kind != nil && *ref.Kind != "Gateway" {
		return ""
	}
	if ref.Namespace != nil && *ref.Namespace != "" {
		namespace = string(*ref.Namespace)
	}
	return namespace + "/" + string(ref.Name)
}

// attachTo attaches the route to the listeners that a reference means and that let it in. It returns why there is none.
func (r *routeState) attachTo(g *gateway, ref *gatewayv1.ParentReference, seen map[*listener]bool) *refusal {
	if !r.compiled.Accepted() {
		first := r.compiled.Left[0]
		return &refusal{string(first.Reason), joined(r.compiled.Left)}
	}
	// The reason is that of the listener at which the route came furthest.
	reasons := []*refusal{{string(gatewayv1.RouteReasonNoMatchingParent), "the Gateway has no such listener"}}
	furthest := func(step int, reason, format string, args ...any) {
		for len(reasons) <= step {
			reasons = append(reasons, nil)
		}
		reasons[step] = &refusal{reason, fmt.Sprintf(format, args...)}
	}
	attached := false
	for _, l := range g.listeners {
		if ref.SectionName != nil && *ref.SectionName != "" && *ref.SectionName != l.Name || ref.Port != nil && *ref.Port != l.Port {
			continue
		}
		if l.refused != nil || l.conflict != nil || !l.allows(r.kind()) || !l.namespaces(r.meta.Namespace) {
			furthest(1, string(gatewayv1.RouteReasonNotAllowedByListeners), "listener %s lets no %s of namespace %s in", l.Name, r.kind(), r.meta.Namespace)
			continue
		}
		hostnames := httproute.Intersect(l.hostname, r.compiled.Hostnames)
		if len(hostnames) == 0 {
			furthest(2, string(gatewayv1.RouteReasonNoMatchingListenerHostname), "the hostname of listener %s and those of the route have nothing in common", l.Name)
			continue
		}
		if l.hasOther(r.kind(), hostnames) {
			furthest(3, hostnameConflict, "an older route of another kind has a hostname at listener %s", l.Name)
			continue
		}
		attached = true
		if !seen[l] {
			seen[l] = true
			l.count++
			l.attached = append(l.attached, httproute.Attachment{Route: r.compiled, Hostnames: hostnames})
			l.hostnames[r.kind()] = append(l.hostnames[r.kind()], hostnames...)
		}
	}
	if attached {
		return nil
	}
	return reasons[len(reasons)-1]
}

// hasOther says whether a route of another kind has one of the hostnames.
func (l *listener) hasOther(kind string, hostnames []string) bool {
	for other, theirs := range l.hostnames {
		if other == kind {
			continue
		}
		for _, name := range hostnames {
			if len(httproute.Intersect(name, theirs)) > 0 {
				return true
			}
		}
	}
	return false
}

func joined(faults []httproute.Fault) string {
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "; ")
}
