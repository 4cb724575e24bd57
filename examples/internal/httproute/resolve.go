package httproute

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Resolver says which port of which Service a reference in a route leads to. An error is a Fault without a field.
type Resolver func(from From, ref *gatewayv1.BackendObjectReference) (Target, error)

// From is the object that a reference is in.
type From struct {
	Kind      string // of the group gateway.networking.k8s.io
	Namespace string
}

// References resolves references to Services.
type References struct {
	Service func(namespace, name string) *corev1.Service // nil: there is none
	Grants  []*gatewayv1.ReferenceGrant
}

// Resolve is a Resolver.
func (r References) Resolve(from From, ref *gatewayv1.BackendObjectReference) (Target, error) {
	group, kind := "", "Service"
	if ref.Group != nil {
		group = string(*ref.Group)
	}
	if ref.Kind != nil {
		kind = string(*ref.Kind)
	}
	fault := func(reason gatewayv1.RouteConditionReason, format string, args ...any) (Target, error) {
		return Target{}, Fault{Reason: reason, Message: fmt.Sprintf(format, args...)}
	}
	if group != "" && group != "core" || kind != "Service" {
		return fault(gatewayv1.RouteReasonInvalidKind, "%s %q cannot be a backend, only a Service can", cmp.Or(group, "core")+"/"+kind, ref.Name)
	}
	namespace := from.Namespace
	if ref.Namespace != nil && *ref.Namespace != "" {
		namespace = string(*ref.Namespace)
	}
	if !Granted(r.Grants, from, To{Kind: "Service", Namespace: namespace, Name: string(ref.Name)}) {
		return fault(gatewayv1.RouteReasonRefNotPermitted, "no ReferenceGrant in namespace %s lets a %s of namespace %s refer to Service %q", namespace, from.Kind, from.Namespace, ref.Name)
	}
	service := r.Service(namespace, string(ref.Name))
	if service == nil {
		return fault(gatewayv1.RouteReasonBackendNotFound, "there is no Service %s/%s", namespace, ref.Name)
	}
	if ref.Port == nil {
		return fault(gatewayv1.RouteReasonBackendNotFound, "the port of Service %s/%s is missing", namespace, ref.Name)
	}
	for i := range service.Spec.Ports {
		p := &service.Spec.Ports[i]
		if p.Port == *ref.Port && (p.Protocol == corev1.ProtocolTCP || p.Protocol == "") {
			return Target{namespace, string(ref.Name), uint16(p.Port)}, nil
		}
	}
	return fault(gatewayv1.RouteReasonBackendNotFound, "Service %s/%s has no TCP port %d", namespace, ref.Name, *ref.Port)
}

// To is the object that a reference leads to.
type To struct{ Group, Kind, Namespace, Name string }

// Granted says whether a reference is allowed: inside a namespace always, and otherwise by a ReferenceGrant in the namespace
// that it leads to.
func Granted(grants []*gatewayv1.ReferenceGrant, from From, to To) bool {
	if from.Namespace == to.Namespace {
		return true
	}
	for _, g := range grants {
		if g.Namespace == to.Namespace && allows(g, from, to) {
			return true
		}
	}
	return false
}

func allows(g *gatewayv1.ReferenceGrant, from From, to To) bool {
	lets := false
	for _, f := range g.Spec.From {
		lets = lets || f.Group == gatewayv1.GroupName && string(f.Kind) == from.Kind && string(f.Namespace) == from.Namespace
	}
	if !lets {
		return false
	}
	for _, t := range g.Spec.To {
		if string(t.Group) == to.Group && string(t.Kind) == to.Kind && (t.Name == nil || *t.Name == "" || string(*t.Name) == to.Name) {
			return true
		}
	}
	return false
}
