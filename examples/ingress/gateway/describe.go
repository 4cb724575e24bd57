package gateway

import (
	"fmt"
	"net/netip"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Describe tells the status that objects should have if every port can be opened: a line for each, with a line below for
// every condition that is not as it is when all is well.
func (m *Model) Describe() string {
	var b strings.Builder
	m.each(func(netip.AddrPort) error { return nil }, metav1.Now(), func(_, want runtime.Object) {
		switch o := want.(type) {
		case *gatewayv1.GatewayClass:
			describe(&b, "GatewayClass "+o.Name, "", o.Status.Conditions)
		case *gatewayv1.Gateway:
			var addresses []string
			for _, a := range o.Status.Addresses {
				addresses = append(addresses, a.Value)
			}
			describe(&b, fmt.Sprintf("Gateway %s/%s", o.Namespace, o.Name), strings.Join(addresses, ", "), o.Status.Conditions)
			for i, l := range o.Status.Listeners {
				spec := &o.Spec.Listeners[i]
				hostname := ""
				if spec.Hostname != nil {
					hostname = " for " + string(*spec.Hostname)
				}
				describe(&b, fmt.Sprintf("  listener %s", l.Name), fmt.Sprintf("%s at port %d%s, routes: %d", spec.Protocol, spec.Port, hostname, l.AttachedRoutes), l.Conditions)
			}
		case *gatewayv1.HTTPRoute:
			m.describeParents(&b, fmt.Sprintf("HTTPRoute %s/%s", o.Namespace, o.Name), o.Status.Parents)
		case *gatewayv1.GRPCRoute:
			m.describeParents(&b, fmt.Sprintf("GRPCRoute %s/%s", o.Namespace, o.Name), o.Status.Parents)
		}
	})
	return b.String()
}

func (m *Model) describeParents(b *strings.Builder, what string, parents []gatewayv1.RouteParentStatus) {
	for i := range parents {
		p := &parents[i]
		if p.ControllerName != m.controller {
			continue
		}
		at := "at Gateway " + string(p.ParentRef.Name)
		if p.ParentRef.SectionName != nil {
			at += ", listener " + string(*p.ParentRef.SectionName)
		}
		describe(b, what, at, p.Conditions)
	}
}

func describe(b *strings.Builder, what, more string, conditions []metav1.Condition) {
	if more != "" {
		what += ": " + more
	}
	fmt.Fprintln(b, what)
	indent := what[:len(what)-len(strings.TrimLeft(what, " "))] + "  "
	for _, c := range conditions {
		negative := c.Type == string(gatewayv1.ListenerConditionConflicted) || c.Type == string(gatewayv1.RouteConditionPartiallyInvalid)
		if negative == (c.Status == metav1.ConditionTrue) || c.Reason == string(gatewayv1.GatewayReasonListenersNotValid) {
			fmt.Fprintf(b, "%s%s %s (%s): %s\n", indent, c.Type, c.Status, c.Reason, c.Message)
		}
	}
}
