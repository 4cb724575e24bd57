package gateway

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Status returns the objects whose status is not as it should be, as copies with the status that they should have. Closed
// tells why a port could not be opened, and returns nil for one that is open.
func (m *Model) Status(closed func(netip.AddrPort) error, now metav1.Time) []runtime.Object {
	var wrong []runtime.Object
	m.each(closed, now, func(have, want runtime.Object) {
		if !equality.Semantic.DeepEqual(have, want) {
			wrong = append(wrong, want)
		}
	})
	return wrong
}

// each calls f with every object and its copy with the status that it should have.
func (m *Model) each(closed func(netip.AddrPort) error, now metav1.Time, f func(have, want runtime.Object)) {
	for _, c := range m.classes {
		next := c.DeepCopy()
		next.Status = m.classStatus(c, now)
		f(c, next)
	}
	for _, g := range m.gateways {
		next := g.DeepCopy()
		next.Status = g.status(closed, now)
		f(g.Gateway, next)
	}
	for _, r := range m.routes {
		if r.http != nil {
			next := r.http.DeepCopy()
			next.Status.Parents = m.parents(r, r.http.Status.Parents, now)
			f(r.http, next)
			continue
		}
		next := r.grpc.DeepCopy()
		next.Status.Parents = m.parents(r, r.grpc.Status.Parents, now)
		f(r.grpc, next)
	}
}

// conditions are made anew with every look; those that have not turned keep the time at which they did.
type conditions struct {
	before     []metav1.Condition
	generation int64
	now        metav1.Time
	list       []metav1.Condition
}

func (c *conditions) set(kind string, is bool, reason, message string) {
	status := metav1.ConditionFalse
	if is {
		status = metav1.ConditionTrue
	}
	const limit = 32768 // of the API, in characters
	message = message[:min(len(message), limit)]
	next := metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: c.generation, LastTransitionTime: c.now}
	for _, old := range c.before {
		if old.Type == kind && old.Status == status {
			next.LastTransitionTime = old.LastTransitionTime
		}
	}
	c.list = append(c.list, next)
}

// unless sets a condition that is true if there is no refusal.
func (c *conditions) unless(r *refusal, kind, reason string) {
	if r != nil {
		c.set(kind, false, r.reason, r.message)
	} else {
		c.set(kind, true, reason, "")
	}
}

func (m *Model) classStatus(class *gatewayv1.GatewayClass, now metav1.Time) gatewayv1.GatewayClassStatus {
	c := conditions{before: class.Status.Conditions, generation: class.Generation, now: now}
	var refused *refusal
	if class.Spec.ParametersRef != nil {
		refused = &refusal{string(gatewayv1.GatewayClassReasonInvalidParameters), "spec.parametersRef: no parameters are known"}
	}
	c.unless(refused, string(gatewayv1.GatewayClassConditionStatusAccepted), string(gatewayv1.GatewayClassReasonAccepted))
	status := gatewayv1.GatewayClassStatus{Conditions: c.list}
	for _, f := range Features() {
		status.SupportedFeatures = append(status.SupportedFeatures, gatewayv1.SupportedFeature{Name: gatewayv1.FeatureName(f)})
	}
	return status
}

func (g *gateway) status(closed func(netip.AddrPort) error, now metav1.Time) gatewayv1.GatewayStatus {
	status := gatewayv1.GatewayStatus{AttachedListenerSets: g.Status.AttachedListenerSets}
	invalid, programmed := []string(nil), 0
	for _, l := range g.listeners {
		notOpen := g.notOpen(l, closed)
		if l.refused != nil || l.conflict != nil {
			invalid = append(invalid, string(l.Name))
		}
		if notOpen == nil {
			programmed++
		}
		status.Listeners = append(status.Listeners, g.listenerStatus(l, notOpen, now))
	}
	c := conditions{before: g.Gateway.Status.Conditions, generation: g.Generation, now: now}
	accepted := string(gatewayv1.GatewayConditionAccepted)
	switch {
	case g.refused != nil:
		c.set(accepted, false, g.refused.reason, g.refused.message)
	case len(invalid) > 0:
		c.set(accepted, true, string(gatewayv1.GatewayReasonListenersNotValid), "not served: listeners "+strings.Join(invalid, ", "))
	default:
		c.set(accepted, true, string(gatewayv1.GatewayReasonAccepted), "")
	}
	refused := cmp.Or(g.unusable)
	switch {
	case g.refused != nil:
		refused = &refusal{string(gatewayv1.GatewayReasonInvalid), "it is not accepted"}
	case g.unusable == nil && programmed == 0:
		refused = &refusal{string(gatewayv1.GatewayReasonInvalid), "no listener is served"}
	}
	c.unless(refused, string(gatewayv1.GatewayConditionProgrammed), string(gatewayv1.GatewayReasonProgrammed))
	status.Conditions = c.list
	if g.refused == nil {
		ip := gatewayv1.IPAddressType
		for _, a := range g.addresses {
			status.Addresses = append(status.Addresses, gatewayv1.GatewayStatusAddress{Type: &ip, Value: a.String()})
		}
	}
	return status
}

// notOpen says why a listener is not served, and nil for one that is.
func (g *gateway) notOpen(l *listener, closed func(netip.AddrPort) error) *refusal {
	invalid := string(gatewayv1.ListenerReasonInvalid)
	switch {
	case g.refused != nil:
		return &refusal{invalid, "the Gateway is not accepted"}
	case g.unusable != nil:
		return &refusal{string(gatewayv1.ListenerReasonPending), "the Gateway's addresses cannot be served"}
	case l.taken != nil:
		return l.taken
	case l.port == nil:
		return &refusal{invalid, "it is not accepted or what it refers to is missing"}
	}
	for _, a := range g.addresses {
		at := netip.AddrPortFrom(a, uint16(l.Port))
		if err := closed(at); err != nil {
			return &refusal{string(gatewayv1.ListenerReasonPortUnavailable), fmt.Sprintf("%s: %v", at, err)}
		}
	}
	return nil
}

func (g *gateway) listenerStatus(l *listener, notOpen *refusal, now metav1.Time) gatewayv1.ListenerStatus {
	c := conditions{generation: g.Generation, now: now}
	for _, old := range g.Gateway.Status.Listeners {
		if old.Name == l.Name {
			c.before = old.Conditions
		}
	}
	c.unless(cmp.Or(l.refused, l.conflict, l.taken), string(gatewayv1.ListenerConditionAccepted), string(gatewayv1.ListenerReasonAccepted))
	if l.conflict != nil {
		c.set(string(gatewayv1.ListenerConditionConflicted), true, l.conflict.reason, l.conflict.message)
	} else {
		c.set(string(gatewayv1.ListenerConditionConflicted), false, string(gatewayv1.ListenerReasonNoConflicts), "")
	}
	c.unless(l.unresolved, string(gatewayv1.ListenerConditionResolvedRefs), string(gatewayv1.ListenerReasonResolvedRefs))
	c.unless(notOpen, string(gatewayv1.ListenerConditionProgrammed), string(gatewayv1.ListenerReasonProgrammed))
	kinds := l.kinds
	if kinds == nil {
		kinds = []gatewayv1.RouteGroupKind{} // the API has the field always
	}
	return gatewayv1.ListenerStatus{Name: l.Name, SupportedKinds: kinds, AttachedRoutes: l.count, Conditions: c.list}
}

// parents returns the status of a route at all its parents. What other controllers have written stays.
func (m *Model) parents(r *routeState, before []gatewayv1.RouteParentStatus, now metav1.Time) []gatewayv1.RouteParentStatus {
	var all []gatewayv1.RouteParentStatus
	for _, b := range before {
		if b.ControllerName != m.controller {
			all = append(all, b)
		}
	}
	for _, p := range r.parents {
		c := conditions{generation: r.meta.Generation, now: now}
		for _, b := range before {
			if b.ControllerName == m.controller && equality.Semantic.DeepEqual(b.ParentRef, p.ref) {
				c.before = b.Conditions
			}
		}
		c.unless(p.refused, string(gatewayv1.RouteConditionAccepted), string(gatewayv1.RouteReasonAccepted))
		if un := r.compiled.Unresolved; len(un) > 0 {
			c.set(string(gatewayv1.RouteConditionResolvedRefs), false, string(un[0].Reason), joined(un))
		} else {
			c.set(string(gatewayv1.RouteConditionResolvedRefs), true, string(gatewayv1.RouteReasonResolvedRefs), "")
		}
		if left := r.compiled.Left; len(left) > 0 && p.refused == nil {
			c.set(string(gatewayv1.RouteConditionPartiallyInvalid), true, string(left[0].Reason), "Dropped Rule: "+joined(left))
		}
		all = append(all, gatewayv1.RouteParentStatus{ParentRef: p.ref, ControllerName: m.controller, Conditions: c.list})
	}
	// In the order in which they are there already, so that two controllers do not turn it again and again.
	slices.SortStableFunc(all, func(a, b gatewayv1.RouteParentStatus) int {
		return cmp.Compare(position(before, &a), position(before, &b))
	})
	return all
}

func position(in []gatewayv1.RouteParentStatus, of *gatewayv1.RouteParentStatus) int {
	i := slices.IndexFunc(in, func(s gatewayv1.RouteParentStatus) bool {
		return s.ControllerName == of.ControllerName && equality.Semantic.DeepEqual(s.ParentRef, of.ParentRef)
	})
	if i < 0 {
		return len(in)
	}
	return i
}
