package route_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/podplumb/podplumb/examples/ingress/route"
)

// ingress makes one of lines "HOST KIND PATH SERVICE:PORT"; - is no host.
func ingress(name string, lines ...string) *networkingv1.Ingress {
	object := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	for _, line := range lines {
		f := strings.Fields(line)
		kind := map[string]networkingv1.PathType{"E": networkingv1.PathTypeExact, "P": networkingv1.PathTypePrefix, "I": networkingv1.PathTypeImplementationSpecific}[f[1]]
		service, port, _ := strings.Cut(f[3], ":")
		path := networkingv1.HTTPIngressPath{Path: f[2], PathType: &kind}
		path.Backend.Service = &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Name: port}}
		rule := networkingv1.IngressRule{Host: strings.Trim(f[0], "-")}
		rule.HTTP = &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{path}}
		object.Spec.Rules = append(object.Spec.Rules, rule)
	}
	return object
}

func table(t *testing.T, ingresses ...*networkingv1.Ingress) *route.Table {
	t.Helper()
	rules, fallback, err := route.FromIngresses(ingresses)
	require.NoError(t, err)
	return route.New(rules, fallback)
}

func find(table *route.Table, url string) string {
	host, _, _ := strings.Cut(url, "/")
	r := httptest.NewRequest("GET", "http://"+url, nil)
	rule := table.Find(r, host)
	if rule == nil {
		return "-"
	}
	return rule.To.Backends[0].Backend.Service
}

// The table of https://kubernetes.io/docs/concepts/services-networking/ingress/#examples.
func TestPathsOfTheSpecification(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		paths   string // KIND PATH, several with a comma
		request string
		matches string // the one that does, - for none
	}{
		{"P /", "/anything/at/all", "/"},
		{"E /foo", "/foo", "/foo"},
		{"E /foo", "/bar", "-"},
		{"E /foo", "/foo/", "-"},
		{"E /foo/", "/foo", "-"},
		{"P /foo", "/foo", "/foo"},
		{"P /foo", "/foo/", "/foo"},
		{"P /foo/", "/foo", "/foo/"},
		{"P /foo/", "/foo/", "/foo/"},
		{"P /aaa/bb", "/aaa/bbb", "-"},
		{"P /aaa/bbb", "/aaa/bbb", "/aaa/bbb"},
		{"P /aaa/bbb/", "/aaa/bbb", "/aaa/bbb/"},
		{"P /aaa/bbb", "/aaa/bbb/", "/aaa/bbb"},
		{"P /aaa/bbb", "/aaa/bbb/ccc", "/aaa/bbb"},
		{"P /aaa/bbb", "/aaa/bbbxyz", "-"},
		{"P /,P /aaa", "/aaa/ccc", "/aaa"},
		{"P /,P /aaa,P /aaa/bbb", "/aaa/bbb", "/aaa/bbb"},
		{"P /,P /aaa,P /aaa/bbb", "/ccc", "/"},
		{"P /aaa", "/ccc", "-"},
		{"E /foo,P /foo", "/foo", "E/foo"},
		{"I /*.js,P /,P /static", "/static/x/app.js", "/*.js"},
		{"I /*.js,P /", "/app.jsx", "/"},
		{"I /a,E /a", "/a", "E/a"},
		{"P /A", "/a", "-"},
		{"P /aaa", "/aaa%2Fbbb", "/aaa"},
	} {
		var lines []string
		for path := range strings.SplitSeq(c.paths, ",") {
			kind, value, _ := strings.Cut(path, " ")
			name := value
			if strings.Contains(c.matches, "E/") && kind == "E" {
				name = "E" + value
			}
			lines = append(lines, fmt.Sprintf("- %s %s %s:http", kind, value, name))
		}
		require.Equal(t, c.matches, find(table(t, ingress("i", lines...)), "example.com"+c.request), "%s asked for %s", c.paths, c.request)
	}
}

// The table of https://kubernetes.io/docs/concepts/services-networking/ingress/#hostname-wildcards, and who comes first.
func TestHosts(t *testing.T) {
	t.Parallel()
	wild := table(t, ingress("i", "*.foo.com P / wild:http"))
	require.Equal(t, "wild", find(wild, "bar.foo.com/"))
	require.Equal(t, "-", find(wild, "baz.bar.foo.com/"))
	require.Equal(t, "-", find(wild, "foo.com/"))

	all := table(t, ingress("i", "*.foo.com P / wild:http", "bar.foo.com P /only bar:http", "- P / any:http", "Other.com E /x other:http"))
	for request, want := range map[string]string{
		"bar.foo.com/only": "bar", "bar.foo.com/": "wild", "BAR.foo.com./only": "bar", "x.foo.com/only": "wild",
		"nobody.com/": "any", "other.com/x": "other", "other.com/y": "any",
	} {
		require.Equal(t, want, find(all, request), request)
	}
}

func TestDefaultBackend(t *testing.T) {
	t.Parallel()
	with := func(name, service string, age time.Duration) *networkingv1.Ingress {
		i := ingress(name, "a.com P /a a:http")
		i.CreationTimestamp = metav1.NewTime(time.Unix(1e9, 0).Add(-age))
		i.Spec.DefaultBackend = &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Number: 80}}}
		return i
	}
	both := table(t, with("young", "young", 0), with("old", "old", time.Hour))
	require.Equal(t, "old", find(both, "b.com/"))
	require.Equal(t, "old", find(both, "a.com/b"))
	require.Equal(t, "a", find(both, "a.com/a"))
}

// Between equal rules the older object's counts, then the first by name, whatever the order in which they are told.
func TestConflicts(t *testing.T) {
	t.Parallel()
	a, b, c := ingress("a", "x.com P / a:http"), ingress("b", "x.com P / b:http"), ingress("c", "x.com P / c:http")
	c.CreationTimestamp = metav1.NewTime(time.Unix(1, 0))
	a.CreationTimestamp, b.CreationTimestamp = metav1.NewTime(time.Unix(2, 0)), metav1.NewTime(time.Unix(2, 0))
	require.Equal(t, "c", find(table(t, a, b, c), "x.com/"))
	require.Equal(t, "a", find(table(t, b, a), "x.com/"))
}

func TestClasses(t *testing.T) {
	t.Parallel()
	class := func(name, controller string, annotations map[string]string) *networkingv1.IngressClass {
		return &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}, Spec: networkingv1.IngressClassSpec{Controller: controller}}
	}
	byDefault := map[string]string{networkingv1.AnnotationIsDefaultIngressClass: "true"}
	ours := route.Class{Controller: "podplumb.github.io/ingress", Classes: []*networkingv1.IngressClass{
		class("podplumb", "podplumb.github.io/ingress", byDefault), class("other", "example.com/other", nil),
	}}
	named := func(name string) *networkingv1.Ingress {
		i := ingress("i")
		i.Spec.IngressClassName = &name
		return i
	}
	legacy := ingress("i")
	legacy.Annotations = map[string]string{"kubernetes.io/ingress.class": "other"}
	require.True(t, ours.Has(named("podplumb")))
	require.False(t, ours.Has(named("other")))
	require.False(t, ours.Has(named("unknown")))
	require.True(t, ours.Has(ingress("i")))
	require.False(t, ours.Has(legacy))
	ours.Classes[0].Annotations = nil
	require.False(t, ours.Has(ingress("i")), "no default class")
}

// A rule with a fault is named and left out; the others work.
func TestFaults(t *testing.T) {
	t.Parallel()
	var object networkingv1.Ingress
	require.NoError(t, yaml.UnmarshalStrict([]byte(`
metadata: {name: i, namespace: shop}
spec:
  defaultBackend: {resource: {kind: Bucket, name: b}}
  rules:
  - {host: 10.0.0.1, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}
  - host: a.com
    http:
      paths:
      - {path: a, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}
      - {path: /b, pathType: Odd, backend: {service: {name: a, port: {number: 80}}}}
      - {path: /c, pathType: Exact, backend: {service: {name: a}}}
      - {path: /d/../e, pathType: Exact, backend: {service: {name: a, port: {number: 80}}}}
      - {path: /good, pathType: Exact, backend: {service: {name: good, port: {number: 80}}}}
  - {host: "a.*.com", http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}
`), &object))
	rules, fallback, err := route.FromIngresses([]*networkingv1.Ingress{&object})
	require.Nil(t, fallback)
	require.Len(t, rules, 1)
	require.Equal(t, "good", rules[0].To.Backends[0].Backend.Service)
	require.Equal(t, `Ingress shop/i: spec.rules[0].host: "10.0.0.1" is neither a name nor *. with one behind it
Ingress shop/i: spec.rules[1].http.paths[0].path: "a" does not begin with a slash
Ingress shop/i: spec.rules[1].http.paths[1].pathType: "Odd" is not one of Exact, Prefix and ImplementationSpecific
Ingress shop/i: spec.rules[1].http.paths[2].backend.service.port: a name or a number from 1 to 65535 is needed
Ingress shop/i: spec.rules[1].http.paths[3].path: "/d/../e": no request has that path, as //, /. and /.. are taken out first (did you mean "/e"?)
Ingress shop/i: spec.rules[2].host: "a.*.com" is neither a name nor *. with one behind it
Ingress shop/i: spec.defaultBackend: only a service can be a backend`, err.Error())
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		var lines []string
		for i := range n {
			lines = append(lines, fmt.Sprintf("host-%d.example.com P /app/%d s%d:http", i/10, i%10, i))
		}
		rules, _, _ := route.FromIngresses([]*networkingv1.Ingress{ingress("i", lines...)})
		table := route.New(rules, nil)
		r := httptest.NewRequest("GET", "http://host-0.example.com/app/3/x/y", nil)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				table.Find(r, "host-0.example.com")
			}
		})
	}
}
