package gateway_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/podplumb/podplumb/examples/ingress/gateway"
)

const class = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: podplumb}
spec: {controllerName: example.com/gateway}
`

// world has objects by kind, as manifests give them; age is in their order, the first the oldest.
func world(t *testing.T, documents ...string) *gateway.Objects {
	t.Helper()
	known := runtime.NewScheme()
	require.NoError(t, scheme.AddToScheme(known))
	require.NoError(t, gatewayv1.Install(known))
	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()
	o := &gateway.Objects{}
	namespaces, services, secrets := map[string]*corev1.Namespace{}, map[string]*corev1.Service{}, map[string]*corev1.Secret{}
	for i, text := range strings.Split(class+"---"+strings.Join(documents, "\n---"), "---") {
		object, _, err := decoder.Decode([]byte(text), nil, nil)
		require.NoError(t, err, text)
		about := object.(metav1.Object)
		about.SetCreationTimestamp(metav1.NewTime(time.Unix(int64(i), 0)))
		about.SetGeneration(7)
		switch x := object.(type) {
		case *gatewayv1.GatewayClass:
			o.Classes = append(o.Classes, x)
		case *gatewayv1.Gateway:
			o.Gateways = append(o.Gateways, x)
		case *gatewayv1.HTTPRoute:
			o.HTTPRoutes = append(o.HTTPRoutes, x)
		case *gatewayv1.GRPCRoute:
			o.GRPCRoutes = append(o.GRPCRoutes, x)
		case *gatewayv1.ReferenceGrant:
			o.Grants = append(o.Grants, x)
		case *corev1.Namespace:
			namespaces[x.Name] = x
		case *corev1.Service:
			services[x.Namespace+"/"+x.Name] = x
		case *corev1.Secret:
			secrets[x.Namespace+"/"+x.Name] = x
		}
	}
	o.Namespace = func(name string) *corev1.Namespace { return namespaces[name] }
	o.Service = func(namespace, name string) *corev1.Service { return services[namespace+"/"+name] }
	o.Secret = func(namespace, name string) *corev1.Secret { return secrets[namespace+"/"+name] }
	o.Certificate = func(s *corev1.Secret) (*tls.Certificate, error) {
		if s.Name == "bad" {
			return nil, errors.New("no PEM")
		}
		return &tls.Certificate{Certificate: [][]byte{[]byte(s.Name)}}, nil
	}
	return o
}

var config = gateway.Config{Controller: "example.com/gateway", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/29"), netip.MustParsePrefix("2001:db8::/126")}}

func object(kind, namespace, name, spec string) string {
	return fmt.Sprintf("\napiVersion: gateway.networking.k8s.io/v1\nkind: %s\nmetadata: {namespace: %s, name: %s}\nspec: %s\n", kind, namespace, name, spec)
}

func gatewayOf(name string, listeners ...string) string {
	return object("Gateway", "infra", name, "{gatewayClassName: podplumb, listeners: ["+strings.Join(listeners, ", ")+"]}")
}

func open(netip.AddrPort) error { return nil }

// told are the conditions that a model has told, a line for each object, listener or parent: those that are as they are when
// all is well are left out.
func told(m *gateway.Model, closed func(netip.AddrPort) error) string {
	var lines []string
	add := func(what string, conditions []metav1.Condition) {
		line := what
		for _, c := range conditions {
			if well := c.Type != "Conflicted" && c.Type != "PartiallyInvalid"; well != (c.Status == metav1.ConditionTrue) || c.Reason == string(gatewayv1.GatewayReasonListenersNotValid) {
				line += fmt.Sprintf(" %s=%s/%s", c.Type, c.Status, c.Reason)
			}
			if c.ObservedGeneration != 7 {
				line += " of another generation"
			}
		}
		lines = append(lines, line)
	}
	for _, o := range m.Status(closed, metav1.NewTime(time.Unix(1e9, 0))) {
		switch x := o.(type) {
		case *gatewayv1.Gateway:
			var addresses []string
			for _, a := range x.Status.Addresses {
				addresses = append(addresses, a.Value)
			}
			add(fmt.Sprintf("%s %v", x.Name, addresses), x.Status.Conditions)
			for _, l := range x.Status.Listeners {
				var kinds []string
				for _, k := range l.SupportedKinds {
					kinds = append(kinds, string(k.Kind[:4]))
				}
				add(fmt.Sprintf("  %s %s %d", l.Name, strings.Join(kinds, "+"), l.AttachedRoutes), l.Conditions)
			}
		case *gatewayv1.HTTPRoute:
			for _, p := range x.Status.Parents {
				add(x.Name+"@"+string(p.ParentRef.Name), p.Conditions)
			}
		case *gatewayv1.GRPCRoute:
			for _, p := range x.Status.Parents {
				add(x.Name+"@"+string(p.ParentRef.Name), p.Conditions)
			}
		}
	}
	return strings.Join(lines, "\n")
}

const service = "\napiVersion: v1\nkind: Service\nmetadata: {namespace: shop, name: web}\nspec: {ports: [{port: 80}]}\n"

func secret(namespace, name string) string {
	return fmt.Sprintf("\napiVersion: v1\nkind: Secret\nmetadata: {namespace: %s, name: %s}\n", namespace, name)
}

func TestListeners(t *testing.T) {
	t.Parallel()
	cert := func(ref string) string { return ", tls: {certificateRefs: [" + ref + "]}}" }
	m := gateway.Compile(config, world(t, secret("infra", "good"), secret("infra", "bad"), secret("far", "far"), secret("far", "granted"),
		object("ReferenceGrant", "far", "g", `{from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: infra}], to: [{group: "", kind: Secret, name: granted}]}`),
		gatewayOf("mixed",
			`{name: http, port: 80, protocol: HTTP}`, `{name: https, port: 443, protocol: HTTPS`+cert(`{name: good}`), `{name: same, port: 443, protocol: HTTPS, hostname: a.b`+cert(`{name: good}`),
			`{name: bad, port: 444, protocol: HTTPS`+cert(`{name: bad}`), `{name: none, port: 445, protocol: HTTPS`+cert(`{name: none}`), `{name: kind, port: 446, protocol: HTTPS`+cert(`{kind: X, name: good}`),
			`{name: far, port: 447, protocol: HTTPS`+cert(`{name: far, namespace: far}`), `{name: granted, port: 448, protocol: HTTPS`+cert(`{name: granted, namespace: far}`), `{name: half, port: 449, protocol: HTTPS`+cert(`{name: good}, {name: bad}`),
			`{name: bare, port: 450, protocol: HTTPS}`, `{name: tcp, port: 9000, protocol: TCP}`,
			`{name: wrongkind, port: 81, protocol: HTTP, allowedRoutes: {kinds: [{kind: TLSRoute}]}}`, `{name: onekind, port: 82, protocol: HTTP, allowedRoutes: {kinds: [{kind: TLSRoute}, {kind: GRPCRoute}]}}`,
			`{name: selector, port: 83, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: a, operator: Odd}]}}}}`,
			`{name: twin1, port: 90, protocol: HTTP, hostname: x.y}`, `{name: twin2, port: 90, protocol: HTTP, hostname: X.Y}`, `{name: single, port: 90, protocol: HTTP}`,
			`{name: http91, port: 91, protocol: HTTP}`, `{name: https91, port: 91, protocol: HTTPS, hostname: a.b`+cert(`{name: good}`),
		),
		gatewayOf("hopeless", `{name: udp, port: 53, protocol: UDP}`),
		object("Gateway", "infra", "foreign", `{gatewayClassName: other, listeners: [{name: http, port: 80, protocol: HTTP}]}`),
		object("Gateway", "infra", "parameters", `{gatewayClassName: podplumb, infrastructure: {parametersRef: {group: a, kind: B, name: c}}, listeners: [{name: http, port: 80, protocol: HTTP}]}`),
	), nil)
	require.Equal(t, strings.TrimSpace(`
mixed [192.0.2.1 2001:db8::1] Accepted=True/ListenersNotValid
  http HTTP+GRPC 0
  https HTTP+GRPC 0
  same HTTP+GRPC 0
  bad HTTP+GRPC 0 ResolvedRefs=False/InvalidCertificateRef Programmed=False/Invalid
  none HTTP+GRPC 0 ResolvedRefs=False/InvalidCertificateRef Programmed=False/Invalid
  kind HTTP+GRPC 0 ResolvedRefs=False/InvalidCertificateRef Programmed=False/Invalid
  far HTTP+GRPC 0 ResolvedRefs=False/RefNotPermitted Programmed=False/Invalid
  granted HTTP+GRPC 0
  half HTTP+GRPC 0 ResolvedRefs=False/InvalidCertificateRef
  bare HTTP+GRPC 0 ResolvedRefs=False/InvalidCertificateRef Programmed=False/Invalid
  tcp  0 Accepted=False/UnsupportedProtocol Programmed=False/Invalid
  wrongkind  0 ResolvedRefs=False/InvalidRouteKinds Programmed=False/Invalid
  onekind GRPC 0 ResolvedRefs=False/InvalidRouteKinds
  selector HTTP+GRPC 0 Accepted=False/UnsupportedValue Programmed=False/Invalid
  twin1 HTTP+GRPC 0 Accepted=False/HostnameConflict Conflicted=True/HostnameConflict Programmed=False/Invalid
  twin2 HTTP+GRPC 0 Accepted=False/HostnameConflict Conflicted=True/HostnameConflict Programmed=False/Invalid
  single HTTP+GRPC 0
  http91 HTTP+GRPC 0 Accepted=False/ProtocolConflict Conflicted=True/ProtocolConflict Programmed=False/Invalid
  https91 HTTP+GRPC 0 Accepted=False/ProtocolConflict Conflicted=True/ProtocolConflict Programmed=False/Invalid
hopeless [] Accepted=False/ListenersNotValid Programmed=False/Invalid
  udp  0 Accepted=False/UnsupportedProtocol Programmed=False/Invalid
parameters [] Accepted=False/InvalidParameters Programmed=False/Invalid
  http HTTP+GRPC 0 Programmed=False/Invalid`), told(m, open))
	var ports []string
	for at, p := range m.Ports {
		if at.Addr().Is4() {
			ports = append(ports, fmt.Sprintf("%s %t", at, p.TLS))
		}
		require.Same(t, m.Ports[netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), at.Port())], p, "the families are served alike")
	}
	slices.Sort(ports)
	require.Equal(t, []string{"192.0.2.1:443 true", "192.0.2.1:448 true", "192.0.2.1:449 true", "192.0.2.1:80 false", "192.0.2.1:82 false", "192.0.2.1:90 false"}, ports)
	l, ok := m.Ports[netip.MustParseAddrPort("192.0.2.1:443")].Listeners.Find("a.b")
	require.True(t, ok)
	require.Equal(t, "same", l.Name)
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	const http = `{name: http, port: 80, protocol: HTTP}`
	asks := func(name, addresses, port string) string {
		return object("Gateway", "infra", name, "{gatewayClassName: podplumb, addresses: ["+addresses+"], listeners: [{name: http, port: "+port+", protocol: HTTP}]}")
	}
	documents := []string{gatewayOf("a", http), gatewayOf("b", http), asks("static", "{value: 192.0.2.0}", "80"), asks("shared", "{type: IPAddress, value: 192.0.2.0}", "81"), asks("clash", "{value: 192.0.2.0}", "80"),
		asks("foreign", "{value: 198.51.100.1}", "80"), asks("type", "{type: Hostname, value: a.b}", "80"), asks("text", "{value: zero}", "80"), asks("any", "{type: IPAddress}", "80"), gatewayOf("late", http)}
	o := world(t, documents...)
	m := gateway.Compile(config, o, nil)
	require.Equal(t, strings.TrimSpace(`
a [192.0.2.1 2001:db8::1]
  http HTTP+GRPC 0
b [192.0.2.2 2001:db8::2]
  http HTTP+GRPC 0
static [192.0.2.0]
  http HTTP+GRPC 0
shared [192.0.2.0]
  http HTTP+GRPC 0
clash [192.0.2.0] Programmed=False/Invalid
  http HTTP+GRPC 0 Accepted=False/PortUnavailable Programmed=False/PortUnavailable
foreign [] Programmed=False/AddressNotUsable
  http HTTP+GRPC 0 Programmed=False/Pending
type [] Accepted=False/UnsupportedAddress Programmed=False/Invalid
  http HTTP+GRPC 0 Programmed=False/Invalid
text [] Accepted=False/UnsupportedAddress Programmed=False/Invalid
  http HTTP+GRPC 0 Programmed=False/Invalid
any [192.0.2.3 2001:db8::3]
  http HTTP+GRPC 0
late [192.0.2.4]
  http HTTP+GRPC 0`), told(m, open))

	full := gateway.Config{Controller: config.Controller, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/32")}}
	require.Contains(t, told(gateway.Compile(full, world(t, gatewayOf("a", http), gatewayOf("b", http)), nil), open), "b [] Programmed=False/AddressNotAssigned")

	// What a Gateway has it keeps, from one model to the next and over a restart, in which the status is what is left.
	o.Gateways = o.Gateways[1:]
	m = gateway.Compile(config, o, m)
	require.Contains(t, told(m, open), "b [192.0.2.2 2001:db8::2]")
	for _, changed := range m.Status(open, metav1.Now()) {
		if g, ok := changed.(*gatewayv1.Gateway); ok {
			o.Gateways[slices.IndexFunc(o.Gateways, func(old *gatewayv1.Gateway) bool { return old.Name == g.Name })] = g
		}
	}
	m = gateway.Compile(config, o, nil)
	require.Empty(t, told(m, open), "the status is as it should be")
	require.Contains(t, m.Ports, netip.MustParseAddrPort("192.0.2.2:80"))
	require.Contains(t, told(m, func(at netip.AddrPort) error {
		if at == netip.MustParseAddrPort("192.0.2.2:80") {
			return errors.New("address already in use")
		}
		return nil
	}), "b [192.0.2.2 2001:db8::2] Programmed=False/Invalid\n  http HTTP+GRPC 0 Programmed=False/PortUnavailable")
}

func TestAttachment(t *testing.T) {
	t.Parallel()
	route := func(kind, namespace, name, spec string) string {
		if spec != "" {
			spec = ", " + spec
		}
		return object(kind, namespace, name, "{parentRefs: [{name: g, namespace: infra}]"+spec+"}")
	}
	const to = `rules: [{backendRefs: [{name: web, port: 80}]}]`
	m := gateway.Compile(config, world(t, service, "\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {a: b}}\n",
		gatewayOf("g",
			`{name: all, port: 80, protocol: HTTP, hostname: "*.all.example", allowedRoutes: {namespaces: {from: All}}}`,
			`{name: same, port: 81, protocol: HTTP}`,
			`{name: label, port: 82, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}, kinds: [{kind: HTTPRoute}]}}`,
			`{name: named, port: 83, protocol: HTTP, hostname: n.example, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: other}}}}}`),
		route("HTTPRoute", "shop", "everywhere", to), // all and label
		route("HTTPRoute", "infra", "near", to[:len("rules: []")-1]+`{}]`),
		route("HTTPRoute", "other", "bynamespace", `hostnames: [N.example]`),
		object("HTTPRoute", "shop", "section", `{parentRefs: [{name: g, namespace: infra, sectionName: label}, {name: g, namespace: infra, sectionName: same}, {name: g, namespace: infra, port: 82}, {name: g, namespace: infra, port: 99}, {name: unknown}, {kind: Service, group: "", name: web}]}`),
		object("HTTPRoute", "shop", "hostname", `{parentRefs: [{name: g, namespace: infra, sectionName: all}], hostnames: [all.example, b.example]}`),
		route("GRPCRoute", "shop", "overlap", `hostnames: [x.all.example]`),
		route("HTTPRoute", "shop", "unresolved", `rules: [{backendRefs: [{name: none, port: 80}]}]`),
		route("HTTPRoute", "shop", "invalid", `rules: [{filters: [{type: Odd}]}]`),
		route("HTTPRoute", "shop", "partly", `rules: [{filters: [{type: Odd}]}, {}]`),
		object("HTTPRoute", "shop", "orphan", `{rules: [{}]}`),
	), nil)
	require.Equal(t, strings.TrimSpace(`
g [192.0.2.1 2001:db8::1]
  all HTTP+GRPC 4
  same HTTP+GRPC 1
  label HTTP 4
  named HTTP+GRPC 1
everywhere@g
near@g
bynamespace@g
section@g
section@g Accepted=False/NotAllowedByListeners
section@g
section@g Accepted=False/NoMatchingParent
hostname@g Accepted=False/NoMatchingListenerHostname
overlap@g Accepted=False/HostnameConflict
unresolved@g ResolvedRefs=False/BackendNotFound
invalid@g Accepted=False/UnsupportedValue
partly@g PartiallyInvalid=True/UnsupportedValue`), told(m, open))
}

// What other controllers have written of a route stays; what we have written of a parent that is gone goes.
func TestForeignStatus(t *testing.T) {
	t.Parallel()
	o := world(t, gatewayOf("g", `{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}`),
		object("HTTPRoute", "shop", "r", `{parentRefs: [{name: g, namespace: infra}, {name: theirs}], rules: [{}]}`))
	theirs := gatewayv1.RouteParentStatus{ParentRef: gatewayv1.ParentReference{Name: "theirs"}, ControllerName: "example.com/other"}
	o.HTTPRoutes[0].Status.Parents = []gatewayv1.RouteParentStatus{theirs, {ParentRef: gatewayv1.ParentReference{Name: "gone"}, ControllerName: config.Controller}}
	parents := func() []gatewayv1.RouteParentStatus {
		for _, changed := range gateway.Compile(config, o, nil).Status(open, metav1.Now()) {
			if r, ok := changed.(*gatewayv1.HTTPRoute); ok {
				return r.Status.Parents
			}
		}
		return nil
	}
	got := parents()
	require.Len(t, got, 2)
	require.Equal(t, theirs, got[0])
	require.Equal(t, gatewayv1.ObjectName("g"), got[1].ParentRef.Name)
	o.HTTPRoutes[0].Status.Parents = got
	require.Nil(t, parents())
	o.HTTPRoutes[0].Spec.ParentRefs = nil
	require.Equal(t, []gatewayv1.RouteParentStatus{theirs}, parents())
}

func TestClasses(t *testing.T) {
	t.Parallel()
	o := world(t, "\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: parameters}\nspec: {controllerName: example.com/gateway, parametersRef: {group: a, kind: B, name: c}}\n",
		"\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: theirs}\nspec: {controllerName: example.com/other}\n",
		object("Gateway", "infra", "g", `{gatewayClassName: parameters, listeners: [{name: http, port: 80, protocol: HTTP}]}`))
	m := gateway.Compile(config, o, nil)
	require.Empty(t, m.Ports)
	var lines []string
	for _, changed := range m.Status(open, metav1.Now()) {
		c := changed.(*gatewayv1.GatewayClass)
		lines = append(lines, fmt.Sprint(c.Name, " ", c.Status.Conditions[0].Status, " ", c.Status.Conditions[0].Reason))
		require.Len(t, c.Status.SupportedFeatures, len(gateway.Features()))
	}
	require.Equal(t, []string{"parameters False InvalidParameters", "podplumb True Accepted"}, lines)
}
