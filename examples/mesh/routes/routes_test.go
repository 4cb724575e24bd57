package routes_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/podplumb/podplumb/examples/internal/httproute"
	"github.com/podplumb/podplumb/examples/mesh/routes"
	"github.com/podplumb/podplumb/examples/mesh/stream"
)

func service(namespace, name string, ports ...int32) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	for i, p := range ports {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: []string{"http", "grpc"}[i], Port: p})
	}
	return s
}

func httpRoute(t *testing.T, namespace, name, spec string) *gatewayv1.HTTPRoute {
	t.Helper()
	r := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	require.NoError(t, yaml.UnmarshalStrict([]byte(spec), &r.Spec))
	return r
}

func grpcRoute(t *testing.T, namespace, name, spec string) *gatewayv1.GRPCRoute {
	t.Helper()
	r := &gatewayv1.GRPCRoute{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	require.NoError(t, yaml.UnmarshalStrict([]byte(spec), &r.Spec))
	return r
}

// first is the backend that requests of a client's namespace for a path go to: "direct" without routes, "none" if no rule matches.
func first(table *routes.Table, client string, s *stream.Service, port uint16, path string) string {
	r := table.Find(client, s, port)
	if r == nil {
		return "direct"
	}
	match := r.Find(httptest.NewRequest(http.MethodPost, path, nil), "any.host")
	if match == nil {
		return "none"
	}
	return match.Draw(func(int) int { return 0 }).Target.String()
}

func TestAttachment(t *testing.T) {
	t.Parallel()
	const parent = "parentRefs: [{group: '', kind: Service, name: cart, namespace: shop"
	o := routes.Objects{
		Services: []*corev1.Service{service("shop", "cart", 80, 9090), service("shop", "v1", 80), service("shop", "v2", 80), service("test", "fake", 80)},
		HTTPRoutes: []*gatewayv1.HTTPRoute{
			httpRoute(t, "shop", "producer", parent+", port: 80}]\nhostnames: [ignored.example]\nrules: [{matches: [{path: {type: PathPrefix, value: /a}}], backendRefs: [{name: v1, port: 80}]}]"),
			httpRoute(t, "shop", "more", parent+", sectionName: http}]\nrules: [{matches: [{path: {type: Exact, value: /a/b}}], backendRefs: [{name: v2, port: 80}]}]"),
			httpRoute(t, "test", "consumer", parent+"}]\nrules: [{backendRefs: [{name: fake, port: 80}]}]"),
			httpRoute(t, "shop", "gateway", "parentRefs: [{name: cart}]\nrules: [{backendRefs: [{name: v2, port: 80}]}]"),
		},
	}
	table := routes.New(nil, o)
	for _, p := range table.Parents() {
		require.NoError(t, p.Err())
		require.Equal(t, gatewayv1.RouteReasonAccepted, p.Accepted)
		require.Equal(t, gatewayv1.RouteReasonResolvedRefs, p.Resolved)
	}
	require.Len(t, table.Parents(), 3, "a gateway's is none of ours")
	cart := &stream.Service{Namespace: "shop", Name: "cart"}
	for _, c := range []struct {
		client string
		port   uint16
		path   string
		want   string
	}{
		{"shop", 80, "/a/x", "shop/v1:80"},
		{"other", 80, "/a/x", "shop/v1:80"},
		{"other", 80, "/a/b", "shop/v2:80"}, // routes of one kind are merged
		{"other", 80, "/b", "none"},
		{"other", 9090, "/a", "direct"},
		{"test", 80, "/b", "test/fake:80"}, // in place of the producer's, and without a grant
		{"test", 9090, "/b", "test/fake:80"},
	} {
		require.Equal(t, c.want, first(table, c.client, cart, c.port, c.path), "%v", c)
	}
	require.Equal(t, "direct", first(table, "shop", &stream.Service{Namespace: "shop", Name: "v1"}, 80, "/"), "behind a route there are no more")
	require.Equal(t, "direct", first(nil, "shop", cart, 80, "/"))
	require.Equal(t, "direct", first(new(routes.Table), "shop", cart, 80, "/"))
}

func TestKinds(t *testing.T) {
	t.Parallel()
	o := routes.Objects{
		Services:   []*corev1.Service{service("shop", "cart", 80, 9090), service("shop", "v1", 80), service("shop", "v2", 80)},
		HTTPRoutes: []*gatewayv1.HTTPRoute{httpRoute(t, "shop", "h", "parentRefs: [{group: '', kind: Service, name: cart}]\nrules: [{backendRefs: [{name: v1, port: 80}]}]")},
		GRPCRoutes: []*gatewayv1.GRPCRoute{grpcRoute(t, "shop", "g", "parentRefs: [{group: '', kind: Service, name: cart, port: 9090}]\nrules: [{matches: [{method: {service: shop.Cart}}], backendRefs: [{name: v2, port: 80}]}]")},
	}
	table := routes.New(nil, o)
	cart := &stream.Service{Namespace: "shop", Name: "cart"}
	require.Equal(t, "shop/v1:80", first(table, "x", cart, 80, "/shop.Cart/Add"))
	require.Equal(t, "shop/v2:80", first(table, "x", cart, 9090, "/shop.Cart/Add"))
	require.Equal(t, "none", first(table, "x", cart, 9090, "/other"))
	for _, p := range table.Parents() {
		if p.Kind == "HTTPRoute" {
			require.EqualValues(t, "Conflicted", p.Accepted)
			require.ErrorContains(t, p.Err(), "HTTPRoute shop/h: a GRPCRoute is attached to the same port")
		} else {
			require.NoError(t, p.Err())
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	external := service("shop", "external", 80)
	external.Spec.Type = corev1.ServiceTypeExternalName
	table := routes.New(nil, routes.Objects{
		Services: []*corev1.Service{service("shop", "cart", 80), external},
		HTTPRoutes: []*gatewayv1.HTTPRoute{httpRoute(t, "shop", "r", `
parentRefs:
- {group: '', kind: Service, name: none}
- {group: '', kind: Service, name: external}
- {group: '', kind: Service, name: cart, port: 81}
- {group: '', kind: Service, name: cart}
rules: [{backendRefs: [{name: gone, port: 80}]}]
`)},
	})
	var got []string
	for _, p := range table.Parents() {
		require.Error(t, p.Err())
		got = append(got, string(p.Accepted)+" "+string(p.Resolved)+" "+p.Err().Error())
	}
	require.Equal(t, []string{
		"NoMatchingParent ResolvedRefs HTTPRoute shop/r: there is no Service shop/none",
		"NoMatchingParent ResolvedRefs HTTPRoute shop/r: a route cannot be attached to Service shop/external of type ExternalName",
		"NoMatchingParent ResolvedRefs HTTPRoute shop/r: Service shop/cart has no such port",
		"Accepted BackendNotFound HTTPRoute shop/r: spec.rules[0].backendRefs[0]: there is no Service shop/gone",
	}, got)
	match := table.Find("shop", &stream.Service{Namespace: "shop", Name: "cart"}, 80).Find(httptest.NewRequest("GET", "/", nil), "")
	require.Error(t, match.Draw(func(int) int { return 0 }).Err, "and so requests get 500, and do not go past the route")
}

// Objects that did not change are not compiled again.
func TestAgain(t *testing.T) {
	t.Parallel()
	o := routes.Objects{
		Services:   []*corev1.Service{service("shop", "cart", 80)},
		HTTPRoutes: []*gatewayv1.HTTPRoute{httpRoute(t, "shop", "r", "parentRefs: [{group: '', kind: Service, name: cart}]\nrules: [{matches: [{method: POST}], backendRefs: [{name: cart, port: 80}]}]")},
	}
	cart := &stream.Service{Namespace: "shop", Name: "cart"}
	rule := func(table *routes.Table) *httproute.Rule {
		return table.Find("", cart, 80).Find(httptest.NewRequest(http.MethodPost, "/", nil), "").Rule
	}
	a := routes.New(nil, o)
	b := routes.New(a, o)
	require.Same(t, rule(a), rule(b))
	require.True(t, b.Names(rule(b), http.MethodPost))
	require.False(t, b.Names(rule(b), http.MethodPut))
	o.Services = []*corev1.Service{service("shop", "cart", 80)}
	require.NotSame(t, rule(a), rule(routes.New(b, o)), "its backends may be others now")
}
