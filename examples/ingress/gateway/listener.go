package gateway

import (
	"fmt"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/podplumb/podplumb/examples/internal/httproute"
)

const (
	httpRoute gatewayv1.Kind = "HTTPRoute"
	grpcRoute gatewayv1.Kind = "GRPCRoute"
)

func newGateway(object *gatewayv1.Gateway, objects *Objects) *gateway {
	g := &gateway{Gateway: object}
	if object.Spec.Infrastructure != nil && object.Spec.Infrastructure.ParametersRef != nil {
		g.refused = &refusal{string(gatewayv1.GatewayReasonInvalidParameters), "spec.infrastructure.parametersRef: no parameters are known"}
	}
	for i := range object.Spec.Listeners {
		g.listeners = append(g.listeners, newListener(object, &object.Spec.Listeners[i], objects))
	}
	g.conflicts()
	accepted := 0
	for _, l := range g.listeners {
		if l.refused == nil && l.conflict == nil {
			accepted++
		}
	}
	if accepted == 0 && g.refused == nil {
		g.refused = &refusal{string(gatewayv1.GatewayReasonListenersNotValid), "no listener can be served"}
	}
	return g
}

func newListener(g *gatewayv1.Gateway, spec *gatewayv1.Listener, objects *Objects) *listener {
	l := &listener{Listener: spec, hostnames: map[string][]string{}}
	if spec.Hostname != nil {
		l.hostname = strings.ToLower(string(*spec.Hostname))
	}
	switch spec.Protocol {
	case gatewayv1.HTTPProtocolType:
	case gatewayv1.HTTPSProtocolType:
		l.loadCertificates(g, objects)
	default:
		l.refused = &refusal{string(gatewayv1.ListenerReasonUnsupportedProtocol), fmt.Sprintf("protocol %s is neither HTTP nor HTTPS", spec.Protocol)}
		return l
	}
	l.setKinds()
	var err error
	if l.namespaces, err = selected(spec.AllowedRoutes, g.Namespace, objects.Namespace); err != nil {
		l.refused = &refusal{string(gatewayv1.ListenerReasonUnsupportedValue), "allowedRoutes.namespaces.selector: " + err.Error()}
	}
	return l
}

// setKinds takes the kinds of routes that are both allowed and known.
func (l *listener) setKinds() {
	group := gatewayv1.Group(gatewayv1.GroupName)
	known := []gatewayv1.RouteGroupKind{{Group: &group, Kind: httpRoute}, {Group: &group, Kind: grpcRoute}}
	if l.AllowedRoutes == nil || len(l.AllowedRoutes.Kinds) == 0 {
		l.kinds = known
		return
	}
	for _, k := range l.AllowedRoutes.Kinds {
		if (k.Group == nil || *k.Group == group) && (k.Kind == httpRoute || k.Kind == grpcRoute) {
			l.kinds = append(l.kinds, gatewayv1.RouteGroupKind{Group: &group, Kind: k.Kind})
		} else {
			l.unresolved = &refusal{string(gatewayv1.ListenerReasonInvalidRouteKinds), fmt.Sprintf("allowedRoutes.kinds: %s is neither HTTPRoute nor GRPCRoute", k.Kind)}
		}
	}
}

func (l *listener) allows(kind string) bool {
	for _, k := range l.kinds {
		if string(k.Kind) == kind {
			return true
		}
	}
	return false
}

// loadCertificates takes those that can be used; of several the last fault is told.
func (l *listener) loadCertificates(g *gatewayv1.Gateway, objects *Objects) {
	invalid := func(i int, reason gatewayv1.ListenerConditionReason, format string, args ...any) {
		l.unresolved = &refusal{string(reason), fmt.Sprintf("tls.certificateRefs[%d]: %s", i, fmt.Sprintf(format, args...))}
	}
	if l.TLS == nil || len(l.TLS.CertificateRefs) == 0 {
		l.unresolved = &refusal{string(gatewayv1.ListenerReasonInvalidCertificateRef), "tls.certificateRefs: one is needed"}
		return
	}
	if l.TLS.Mode != nil && *l.TLS.Mode != "" && *l.TLS.Mode != gatewayv1.TLSModeTerminate {
		l.refused = &refusal{string(gatewayv1.ListenerReasonUnsupportedValue), fmt.Sprintf("tls.mode: %s is not supported, only Terminate is", *l.TLS.Mode)}
		return
	}
	for i, ref := range l.TLS.CertificateRefs {
		if ref.Group != nil && *ref.Group != "" || ref.Kind != nil && *ref.Kind != "Secret" {
			invalid(i, gatewayv1.ListenerReasonInvalidCertificateRef, "only a Secret can be a certificate")
			continue
		}
		namespace := g.Namespace
		if ref.Namespace != nil && *ref.Namespace != "" {
			namespace = string(*ref.Namespace)
		}
		name := string(ref.Name)
		if !httproute.Granted(objects.Grants, httproute.From{Kind: "Gateway", Namespace: g.Namespace}, httproute.To{Kind: "Secret", Namespace: namespace, Name: name}) {
			invalid(i, gatewayv1.ListenerReasonRefNotPermitted, "no ReferenceGrant in namespace %s lets a Gateway of namespace %s refer to Secret %q", namespace, g.Namespace, name)
			continue
		}
		secret := objects.Secret(namespace, name)
		if secret == nil {
			invalid(i, gatewayv1.ListenerReasonInvalidCertificateRef, "there is no Secret %s/%s", namespace, name)
			continue
		}
		certificate, err := objects.Certificate(secret)
		if err != nil {
			invalid(i, gatewayv1.ListenerReasonInvalidCertificateRef, "Secret %s/%s: %v", namespace, name, err)
			continue
		}
		l.certificates = append(l.certificates, certificate)
	}
}

// conflicts finds listeners that a connection or request cannot tell apart; none of them counts.
func (g *gateway) conflicts() {
	for i, a := range g.listeners {
		for _, b := range g.listeners[i+1:] {
			if a.Port != b.Port || a.refused != nil || b.refused != nil {
				continue
			}
			var reason gatewayv1.ListenerConditionReason
			var same string
			switch {
			case a.Protocol != b.Protocol:
				reason, same = gatewayv1.ListenerReasonProtocolConflict, "port and another protocol"
			case a.hostname == b.hostname:
				reason, same = gatewayv1.ListenerReasonHostnameConflict, "port and hostname"
			default:
				continue
			}
			a.conflict = &refusal{string(reason), fmt.Sprintf("listener %s has the same %s", b.Name, same)}
			b.conflict = &refusal{string(reason), fmt.Sprintf("listener %s has the same %s", a.Name, same)}
		}
	}
}
