package httproute_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/podplumb/podplumb/examples/internal/httproute"
)

// services has a port 80 for every Service but none.
func services(namespace, name string) *corev1.Service {
	if name == "none" {
		return nil
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 53, Protocol: corev1.ProtocolUDP}, {Port: 80}}},
	}
}

func from(t testing.TB, text string, grants ...*gatewayv1.ReferenceGrant) *httproute.Route {
	t.Helper()
	resolve := httproute.References{Service: services, Grants: grants}.Resolve
	if strings.Contains(text, "kind: GRPCRoute") {
		var object gatewayv1.GRPCRoute
		require.NoError(t, yaml.UnmarshalStrict([]byte(text), &object))
		return httproute.FromGRPC(&object, resolve)
	}
	var object gatewayv1.HTTPRoute
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), &object))
	return httproute.FromHTTP(&object, resolve)
}

// rules makes a route from the spec's rules in flow style, one a line.
func rules(t testing.TB, name string, lines ...string) *httproute.Route {
	t.Helper()
	return from(t, fmt.Sprintf("metadata: {name: %s, namespace: shop}\nspec:\n  rules:\n  - %s", name, strings.Join(lines, "\n  - ")))
}

func table(routes ...*httproute.Route) *httproute.Table {
	var all []httproute.Attachment
	for _, r := range routes {
		all = append(all, httproute.Attachment{Route: r, Hostnames: r.Hostnames})
	}
	return httproute.New(all)
}

// find asks for "[METHOD] host/path[ Header: value...]", separated by "; " and tells name or route[rule].
func find(t testing.TB, in *httproute.Table, ask string) string {
	t.Helper()
	line, headers, _ := strings.Cut(ask, "; ")
	method, target, ok := strings.Cut(line, " ")
	if !ok {
		method, target = "GET", line
	}
	r := httptest.NewRequest(method, "http://"+target, nil)
	for h := range strings.SplitSeq(headers, "; ") {
		if name, value, ok := strings.Cut(h, ": "); ok {
			r.Header.Add(name, value)
		}
	}
	m := in.Find(r, r.URL.Hostname())
	if m == nil {
		return "-"
	}
	if m.Name != "" {
		return m.Name
	}
	_, at, _ := strings.Cut(m.Origin, "spec.rules")
	return m.Route.Name + at
}

func TestPaths(t *testing.T) {
	t.Parallel()
	in := table(rules(t, "r",
		`{name: exact, matches: [{path: {type: Exact, value: /foo}}]}`,
		`{name: prefix, matches: [{path: {value: /foo}}]}`,
		`{name: longer, matches: [{path: {value: /foo/bar/}}]}`,
		`{name: space, matches: [{path: {value: /a%20b}}]}`,
		`{name: script, matches: [{path: {type: RegularExpression, value: '/.*\.js'}}]}`,
		`{name: either, matches: [{path: {type: RegularExpression, value: '/x|/yy'}}]}`,
		`{name: case, matches: [{path: {type: Exact, value: /Case}}]}`,
	))
	for ask, want := range map[string]string{
		"h/foo": "exact", "h/foo/": "prefix", "h/foo/x": "prefix", "h/foobar": "-", "h/foo/bar": "longer", "h/foo/bar/": "longer", "h/foo/barx": "prefix",
		"h/a%20b/c": "space", "h/f%6fo": "exact", "h/foo/app.js": "script", "h/foo/app.jsx": "prefix", "h/x": "either", "h/yy": "either", "h/yyy": "-", "h/xx": "-",
		"h/Case": "case", "h/case": "-", "h": "-", "h/": "-", "h/foo?a=/b": "exact",
	} {
		require.Equal(t, want, find(t, in, ask), ask)
	}
	all := table(rules(t, "all", `{}`))
	for _, ask := range []string{"h", "h/", "h/x/y", "OPTIONS h/x"} {
		require.Equal(t, "all[0]", find(t, all, ask))
	}
	require.Equal(t, "-", find(t, nil, "h/"))
	require.Equal(t, "-", find(t, table(from(t, "metadata: {name: r}")), "h/"), "a route without rules matches nothing")
}

// The specification's order, each line before the next whatever the order in which they are written.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	order := []string{
		`{name: exact, matches: [{path: {type: Exact, value: /a/b}}]}`,
		`{name: regex, matches: [{path: {type: RegularExpression, value: /a/.}, method: GET}]}`,
		`{name: method, matches: [{path: {value: /a/b}, method: GET}]}`,
		`{name: headers2, matches: [{path: {value: /a/b}, headers: [{name: x, value: "1"}, {name: z, value: "1"}]}]}`,
		`{name: queries, matches: [{path: {value: /a/b}, headers: [{name: x, value: "1"}], queryParams: [{name: q, value: "1"}]}]}`,
		`{name: headers1, matches: [{path: {value: /a/b}, headers: [{name: x, value: "1"}]}]}`,
		`{name: query, matches: [{path: {value: /a/b}, queryParams: [{name: q, value: "1"}]}]}`,
		`{name: plain, matches: [{path: {value: /a/b}}]}`,
		`{name: short, matches: [{path: {value: /a}, method: GET, headers: [{name: x, value: "1"}]}]}`,
		`{name: root, matches: [{method: GET}]}`,
	}
	for range 20 {
		shuffled := slices.Clone(order)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		for i := range order {
			left := slices.DeleteFunc(slices.Clone(shuffled), func(line string) bool { return slices.Contains(order[:i], line) })
			want, _, _ := strings.Cut(strings.TrimPrefix(order[i], "{name: "), ",")
			require.Equal(t, want, find(t, table(rules(t, "r", left...)), "h/a/b?q=1; X: 1; Z: 1"))
		}
	}
}

func TestTies(t *testing.T) {
	t.Parallel()
	at := func(r *httproute.Route, seconds int64) *httproute.Route {
		r.Created = time.Unix(seconds, 0)
		return r
	}
	a, b, old := at(rules(t, "a", `{}`, `{}`), 2), at(rules(t, "b", `{}`), 2), at(rules(t, "z", `{}`), 1)
	require.Equal(t, "z[0]", find(t, table(a, b, old), "h/"))
	require.Equal(t, "a[0]", find(t, table(b, a), "h/"))
	b.Namespace = "pop"
	require.Equal(t, "b[0]", find(t, table(a, b), "h/"))
}

func TestHeadersAndQueries(t *testing.T) {
	t.Parallel()
	in := table(rules(t, "r",
		`{name: twice, matches: [{headers: [{name: X-Two, value: "1"}, {name: x-two, value: "2"}]}]}`,
		`{name: many, matches: [{headers: [{name: x-many, value: "1,2"}]}]}`,
		`{name: regex, matches: [{headers: [{name: X-RE, type: RegularExpression, value: "a|bc"}]}]}`,
		`{name: host, matches: [{headers: [{name: host, value: special.example}]}]}`,
		`{name: queryre, matches: [{queryParams: [{name: v, type: RegularExpression, value: "[0-9]+"}]}]}`,
		`{name: query, matches: [{queryParams: [{name: Q, value: "a b"}, {name: Q, value: "ignored"}]}]}`,
		`{name: semicolon, matches: [{queryParams: [{name: s, value: "1;2"}]}]}`,
		`{name: delete, matches: [{method: DELETE}]}`,
	))
	for ask, want := range map[string]string{
		"h/; X-Two: 1": "twice", "h/; X-Two: 2": "-", "h/; x-many: 1; X-MANY: 2": "many", "h/; x-many: 1": "-",
		"h/; x-re: bc": "regex", "h/; x-re: abc": "-", "h/; x-re: A": "-", "special.example/": "host",
		"h/?v=12": "queryre", "h/?v=1a": "-", "h/?v=x&v=1": "-", "h/?Q=a%20b": "query", "h/?Q=a+b&Q=c": "query", "h/?q=a+b": "-",
		"h/?s=1;2&v=x": "semicolon", "h/?s=1%3B2": "semicolon", "h/?x;s=1;2": "-", "h/?%zz&v=1": "queryre",
		"DELETE h/": "delete", "delete h/": "-",
	} {
		require.Equal(t, want, find(t, in, ask), ask)
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	route := func(name, hosts, path string) *httproute.Route {
		r := rules(t, name, fmt.Sprintf(`{matches: [{path: {value: %s}}]}`, path))
		r.Hostnames = strings.Fields(hosts)
		return r
	}
	in := table(route("exact", "a.b.example.com", "/only"), route("wild", "*.example.com", "/"), route("wilder", "*.com", "/"), route("below", "*.b.example.com", "/b"), route("any", "", "/any"))
	for ask, want := range map[string]string{
		"a.b.example.com/only": "exact[0]", "a.b.example.com/b": "below[0]", "a.b.example.com/x": "wild[0]", "A.B.Example.Com/only": "exact[0]",
		"x.example.com/b": "wild[0]", "example.com/": "wilder[0]", "com/": "-", "com/any": "any[0]", "a.b.example.com./only": "exact[0]", "a.b.c.example.com/": "wild[0]",
	} {
		require.Equal(t, want, find(t, in, ask), ask)
	}
	for _, c := range []struct{ listener, route, want string }{
		{"", "", "|"}, {"", "a.com *.b.com", "|a.com|*.b.com|"}, {"*.b.com", "", "|*.b.com|"}, {"a.com", "a.com b.com", "|a.com|"}, {"a.b.com", "*.b.com", "|a.b.com|"},
		{"*.b.com", "x.b.com b.com *.com *.y.b.com", "|x.b.com|*.b.com|*.y.b.com|"}, {"a.com", "b.com", ""}, {"*.com", "*.com", "|*.com|"}, {"*.b.com", "a.com", ""},
	} {
		got := httproute.Intersect(c.listener, strings.Fields(c.route))
		text := ""
		if len(got) > 0 {
			text = strings.ReplaceAll("|"+strings.Join(got, "|")+"|", "||", "|")
		}
		require.Equal(t, c.want, text, "%v", c)
	}
}

// The table in the documentation of HTTPPathModifier, and paths that are encoded.
func TestRewrite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ prefix, replace, path, want string }{
		{"/foo", "/xyz", "/foo/bar", "/xyz/bar"},
		{"/foo", "/xyz/", "/foo/bar", "/xyz/bar"},
		{"/foo/", "/xyz", "/foo/bar", "/xyz/bar"},
		{"/foo/", "/xyz/", "/foo/bar", "/xyz/bar"},
		{"/foo", "/xyz", "/foo", "/xyz"},
		{"/foo", "/xyz", "/foo/", "/xyz/"},
		{"/foo", "", "/foo/bar", "/bar"},
		{"/foo", "", "/foo/", "/"},
		{"/foo", "", "/foo", "/"},
		{"/foo", "/", "/foo/", "/"},
		{"/foo", "/", "/foo", "/"},
		{"/", "/xyz", "/a", "/xyz/a"},
		{"/", "/xyz", "/", "/xyz/"},
		{"/foo", "/xyz", "/f%6Fo/a%2Fb%20c", "/xyz/a%2Fb%20c"},
		{"/a%20b", "/x%2Fy", "/a%20b/c", "/x%2Fy/c"},
		{"/foo", "/xyz", "/foo//bar", "/xyz//bar"},
	} {
		r := rules(t, "r", fmt.Sprintf(`{matches: [{path: {value: "%s"}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: "%s"}}}]}`, c.prefix, c.replace))
		request := httptest.NewRequest("GET", "http://h"+c.path, nil)
		m := table(r).Find(request, "h")
		require.NotNil(t, m, "%v %v", c, r.Left)
		path, raw := m.Filters.Rewrite.Path.Apply(request.URL, m.Prefix)
		require.Equal(t, c.want, raw, "%v", c)
		require.Equal(t, c.want, (&url.URL{Path: path, RawPath: raw}).EscapedPath(), "the two agree: %v", c)
	}
	r := rules(t, "r", `{filters: [{type: URLRewrite, urlRewrite: {hostname: new.example, path: {type: ReplaceFullPath, replaceFullPath: /one}}}]}`)
	m := table(r).Find(httptest.NewRequest("GET", "http://h/any/thing", nil), "h")
	path, _ := m.Filters.Rewrite.Path.Apply(&url.URL{Path: "/any/thing"}, m.Prefix)
	require.Equal(t, "/one", path)
	require.Equal(t, "new.example", m.Filters.Rewrite.Hostname)
}

func TestRedirect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ filter, host, scheme, port, want string }{
		{`{hostname: example.org}`, "h:1234", "http", "80", "http://example.org/p/q?a=b"},
		{`{}`, "h:1234", "http", "8080", "http://h:8080/p/q?a=b"},
		{`{scheme: https}`, "h", "http", "8080", "https://h/p/q?a=b"},
		{`{scheme: http}`, "h", "https", "443", "http://h/p/q?a=b"},
		{`{port: 8443}`, "h", "https", "443", "https://h:8443/p/q?a=b"},
		{`{port: 80}`, "h", "http", "8080", "http://h/p/q?a=b"},
		{`{port: 443, scheme: http}`, "h", "http", "80", "http://h:443/p/q?a=b"},
		{`{port: 80, scheme: https}`, "h", "http", "80", "https://h:80/p/q?a=b"},
		{`{}`, "h", "https", "443", "https://h/p/q?a=b"},
		{`{}`, "[fd00::1]:80", "http", "80", "http://[fd00::1]/p/q?a=b"},
		{`{port: 81}`, "[fd00::1]", "http", "80", "http://[fd00::1]:81/p/q?a=b"},
		{`{path: {type: ReplaceFullPath, replaceFullPath: /x}}`, "h", "http", "80", "http://h/x?a=b"},
		{`{path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}`, "h", "http", "80", "http://h/x/q?a=b"},
	} {
		r := rules(t, "r", `{matches: [{path: {value: /p}}], filters: [{type: RequestRedirect, requestRedirect: `+c.filter+`}]}`)
		request := httptest.NewRequest("GET", "http://h/p/q?a=b", nil)
		request.Host = c.host
		m := table(r).Find(request, "h")
		var port uint16
		_, _ = fmt.Sscan(c.port, &port)
		require.Equal(t, 302, m.Filters.Redirect.Code)
		require.Equal(t, c.want, m.Filters.Redirect.Location(request, c.scheme, port, m.Prefix), "%v", c)
	}
}

func TestHeaderModifier(t *testing.T) {
	t.Parallel()
	r := rules(t, "r", `{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: new}, {name: X-Set, value: ignored}, {name: host, value: other}], add: [{name: x-add, value: more}], remove: [x-gone, X-None]}}]}`)
	c := &r.Rules[0].Filters.Request
	h := http.Header{"X-Set": {"old", "older"}, "X-Add": {"one"}, "X-Gone": {"1"}, "X-Stay": {"1"}}
	c.Apply(h)
	delete(h, "Host")
	require.Equal(t, http.Header{"X-Set": {"new"}, "X-Add": {"one", "more"}, "X-Stay": {"1"}}, h)
	host, ok := c.Host()
	require.True(t, ok)
	require.Equal(t, "other", host)
}

func TestBackends(t *testing.T) {
	t.Parallel()
	r := rules(t, "r",
		`{backendRefs: [{name: a, port: 80, weight: 1}, {name: b, port: 80, weight: 0}, {name: none, port: 80, weight: 3}]}`,
		`{backendRefs: [{name: a, port: 80, weight: 0}]}`,
		`{}`,
		`{backendRefs: [{name: a, port: 81}, {name: a, port: 53}, {name: a}, {name: a, namespace: other, port: 80}, {name: a, kind: Bucket, group: example.com}]}`)
	drawn := map[string]int{}
	for i := range 400 {
		b := r.Rules[0].Draw(func(n int) int { return i % n })
		drawn[fmt.Sprint(b.Target, b.Err != nil)]++
	}
	require.Equal(t, map[string]int{"shop/a:80 false": 100, "/:0 true": 300}, drawn)
	require.Nil(t, r.Rules[1].Draw(rand.IntN))
	require.Nil(t, r.Rules[2].Draw(rand.IntN))
	require.True(t, r.Accepted())
	var lines []string
	for _, f := range r.Unresolved {
		lines = append(lines, string(f.Reason)+": "+f.Error())
	}
	require.Equal(t, []string{
		"BackendNotFound: spec.rules[0].backendRefs[2]: there is no Service shop/none",
		"BackendNotFound: spec.rules[3].backendRefs[0]: Service shop/a has no TCP port 81",
		"BackendNotFound: spec.rules[3].backendRefs[1]: Service shop/a has no TCP port 53",
		"BackendNotFound: spec.rules[3].backendRefs[2]: the port of Service shop/a is missing",
		`RefNotPermitted: spec.rules[3].backendRefs[3]: no ReferenceGrant in namespace other lets a HTTPRoute of namespace shop refer to Service "a"`,
		`InvalidKind: spec.rules[3].backendRefs[4]: example.com/Bucket "a" cannot be a backend, only a Service can`,
	}, lines)
}

func TestGrants(t *testing.T) {
	t.Parallel()
	granted := func(text string) bool {
		var g gatewayv1.ReferenceGrant
		require.NoError(t, yaml.UnmarshalStrict([]byte(text), &g))
		return httproute.Granted([]*gatewayv1.ReferenceGrant{&g}, httproute.From{Kind: "HTTPRoute", Namespace: "shop"}, httproute.To{Kind: "Service", Namespace: "other", Name: "a"})
	}
	const head, fromShop = "metadata: {name: g, namespace: other}\nspec:\n", "  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]\n"
	require.True(t, granted(head+fromShop+`  to: [{group: "", kind: Service}]`))
	require.True(t, granted(head+fromShop+`  to: [{group: "", kind: Service, name: b}, {group: "", kind: Service, name: a}]`))
	require.False(t, granted(head+fromShop+`  to: [{group: "", kind: Service, name: b}]`))
	require.False(t, granted(head+fromShop+`  to: [{group: "", kind: Secret}]`))
	require.False(t, granted(strings.Replace(head, "other", "third", 1)+fromShop+`  to: [{group: "", kind: Service}]`))
	require.False(t, granted(head+strings.Replace(fromShop, "shop", "shopping", 1)+`  to: [{group: "", kind: Service}]`))
	require.False(t, granted(head+strings.Replace(fromShop, "HTTPRoute", "GRPCRoute", 1)+`  to: [{group: "", kind: Service}]`))
	require.False(t, granted(head+strings.Replace(fromShop, "gateway.networking.k8s.io", `""`, 1)+`  to: [{group: "", kind: Service}]`))
}

func TestTimeoutsRetriesMirrors(t *testing.T) {
	t.Parallel()
	r := rules(t, "r",
		`{timeouts: {request: 1m30s, backendRequest: 250ms}, retry: {codes: [500, 503], attempts: 3, backoff: 10ms}}`,
		`{timeouts: {request: 0s, backendRequest: 5s}, retry: {}}`,
		`{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}}}, {type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}, percent: 0}}, {type: RequestMirror, requestMirror: {backendRef: {name: c, port: 80}, fraction: {numerator: 1, denominator: 4}}}, {type: RequestMirror, requestMirror: {backendRef: {name: none, port: 80}}}]}`)
	require.Empty(t, r.Left)
	require.Equal(t, httproute.Timeouts{Request: 90 * time.Second, BackendRequest: 250 * time.Millisecond}, r.Rules[0].Timeouts)
	require.Equal(t, &httproute.Retry{Codes: []int{500, 503}, Attempts: 3, Backoff: 10 * time.Millisecond}, r.Rules[0].Retry)
	require.True(t, r.Rules[0].Retry.On(503) && !r.Rules[0].Retry.On(502))
	require.Equal(t, httproute.Timeouts{BackendRequest: 5 * time.Second}, r.Rules[1].Timeouts)
	require.Equal(t, &httproute.Retry{Attempts: httproute.DefaultAttempts, Backoff: httproute.DefaultBackoff}, r.Rules[1].Retry)
	mirrors := r.Rules[2].Filters.Mirrors
	require.Len(t, mirrors, 3, "the one that leads nowhere is left out")
	require.Len(t, r.Unresolved, 1)
	for i, want := range []int{100, 0, 25} {
		n := 0
		for at := range 100 {
			if mirrors[i].Draw(func(of int) int { return at % of }) {
				n++
			}
		}
		require.Equal(t, want, n)
	}
}

// What cannot be served is named with its field and left out; the rest is served.
func TestFaults(t *testing.T) {
	t.Parallel()
	r := rules(t, "r",
		`{name: good}`,
		`{matches: [{path: {type: Odd, value: /}}, {path: {type: RegularExpression, value: "("}}, {path: {value: x}}, {path: {type: RegularExpression, value: "a)|(b"}}]}`,
		`{matches: [{headers: [{name: a, type: Odd, value: x}], queryParams: [{name: a, type: Odd, value: x}, {name: b, type: RegularExpression, value: "*"}]}]}`,
		`{filters: [{type: RequestRedirect, requestRedirect: {scheme: ftp, statusCode: 200}}, {type: URLRewrite, urlRewrite: {}}, {type: URLRewrite}]}`,
		`{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]}`,
		`{filters: [{type: ExternalAuth}, {type: URLRewrite, urlRewrite: {path: {type: Odd}}}, {type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, percent: 101}}]}`,
		`{timeouts: {request: 1s, backendRequest: 2s}, retry: {codes: [200], backoff: 1.5s}}`,
		`{backendRefs: [{name: a, port: 80, weight: -1}, {name: a, port: 80, filters: [{type: URLRewrite, urlRewrite: {}}]}]}`,
		`{name: extension, matches: [{path: {value: /ext}}], filters: [{type: ExtensionRef, extensionRef: {group: a.b, kind: C, name: d}}]}`)
	var lines []string
	for _, f := range r.Left {
		lines = append(lines, string(f.Reason)+" "+f.Error())
	}
	require.Equal(t, `UnsupportedValue spec.rules[1].matches[0].path.type: "Odd" is not one of Exact, PathPrefix and RegularExpression
UnsupportedValue spec.rules[1].matches[1].path.value: error parsing regexp: missing closing ): `+"`(`"+`
UnsupportedValue spec.rules[1].matches[2].path.value: "x" is not a path
UnsupportedValue spec.rules[1].matches[3].path.value: error parsing regexp: unexpected ): `+"`a)|(b`"+`
UnsupportedValue spec.rules[2].matches[0].headers[0].type: "Odd" is neither Exact nor RegularExpression
UnsupportedValue spec.rules[2].matches[0].queryParams[0].type: "Odd" is neither Exact nor RegularExpression
UnsupportedValue spec.rules[2].matches[0].queryParams[1].value: error parsing regexp: missing argument to repetition operator: `+"`*`"+`
UnsupportedValue spec.rules[3].filters[0].requestRedirect.scheme: "ftp" is neither http nor https
UnsupportedValue spec.rules[3].filters[0].requestRedirect.statusCode: 200 is not one of 301, 302, 303, 307 and 308
IncompatibleFilters spec.rules[3].filters[2]: URLRewrite is there twice
UnsupportedValue spec.rules[3].filters[2].urlRewrite: is missing
IncompatibleFilters spec.rules[3].filters: RequestRedirect beside URLRewrite
IncompatibleFilters spec.rules[4].filters[0].urlRewrite.path: ReplacePrefixMatch needs the path of every match of the rule to be a PathPrefix
UnsupportedValue spec.rules[5].filters[0].type: "ExternalAuth" is not supported
UnsupportedValue spec.rules[5].filters[1].urlRewrite.path.type: "Odd" is neither ReplaceFullPath nor ReplacePrefixMatch
UnsupportedValue spec.rules[5].filters[2].requestMirror: 101 of 100 requests cannot be
UnsupportedValue spec.rules[6].timeouts.backendRequest: 2s is longer than timeouts.request, 1s
UnsupportedValue spec.rules[6].retry.backoff: "1.5s" is not a duration such as 1m30s or 250ms
UnsupportedValue spec.rules[6].retry.codes[0]: 200 is not from 400 to 599
UnsupportedValue spec.rules[7].backendRefs[0].weight: -1 is not from 0 to 1000000
IncompatibleFilters spec.rules[7].backendRefs[1].filters: RequestRedirect, URLRewrite and CORS are filters of a rule, not of a backend`, strings.Join(lines, "\n"))
	require.True(t, r.Accepted())
	in := table(r)
	require.Equal(t, "good", find(t, in, "h/"))
	request := httptest.NewRequest("GET", "http://h/ext", nil)
	require.Error(t, in.Find(request, "h").Err, "an unknown filter is not passed over")
	require.False(t, rules(t, "r", `{filters: [{type: Odd}]}`).Accepted())
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	route := from(t, `
kind: GRPCRoute
metadata: {name: g, namespace: shop}
spec:
  hostnames: [grpc.example]
  rules:
  - {name: header, matches: [{method: {service: shop.Cart}, headers: [{name: Version, value: "2"}]}]}
  - {name: method, matches: [{method: {method: Add}}]}
  - {name: longmethod, matches: [{method: {method: AddAll}}]}
  - {name: service, matches: [{method: {service: shop.Cart}}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}], backendRefs: [{name: cart, port: 80}]}
  - {name: exact, matches: [{method: {service: shop.Cart, method: Add}}]}
  - {name: regex, matches: [{method: {type: RegularExpression, service: 'shop\.(Pay|Ship)', method: "[A-Z].*"}}]}
  - {name: all}
`)
	require.Empty(t, route.Left)
	in := table(route)
	for ask, want := range map[string]string{
		"shop.Cart/Add": "exact", "shop.Cart/Get": "service", "shop.Cart/Get; version: 2": "header", "shop.Cart/Add; version: 2": "exact", "other.Cart/Add": "method",
		"other.Cart/AddAll": "longmethod", "shop.Pay/Now": "regex", "shop.Pay/now": "all", "shop.Cartx/Get": "all", "shop.cart/Add": "method", "x/y/Add": "all",
	} {
		require.Equal(t, want, find(t, in, "POST grpc.example/"+ask), ask)
	}
	require.Equal(t, "-", find(t, in, "POST other.example/shop.Cart/Add"))
	require.Len(t, rules(t, "r", `{matches: [{path: {type: RegularExpression, value: '\Qa'}}]}`).Left, 1)
	bad := from(t, "kind: GRPCRoute\nmetadata: {name: g}\nspec: {rules: [{matches: [{method: {type: RegularExpression, service: '('}}, {method: {type: RegularExpression, method: '\\Qa'}}, {method: {type: Odd, service: a}}]}]}")
	require.Len(t, bad.Left, 3)
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		var all []httproute.Attachment
		for i := range n / 10 {
			var lines []string
			for j := range 10 {
				lines = append(lines, fmt.Sprintf(`{matches: [{path: {value: /app/%d}}]}`, j))
			}
			all = append(all, httproute.Attachment{Route: rules(b, "r", lines...), Hostnames: []string{fmt.Sprintf("host-%d.example.com", i)}})
		}
		in := httproute.New(all)
		r := httptest.NewRequest("GET", "http://host-0.example.com/app/3/x/y", nil)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				in.Find(r, "host-0.example.com")
			}
		})
	}
}
