package proxy_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/podplumb/podplumb/examples/ingress/gateway"
	"github.com/podplumb/podplumb/examples/ingress/listen"
	"github.com/podplumb/podplumb/examples/ingress/proxy"
	"github.com/podplumb/podplumb/examples/ingress/upstream"
)

// gate is a running proxy for one Gateway with a listener for HTTP and one for HTTPS.
type gate struct {
	*proxy.Proxy
	clear, secure string // addresses
	access        *lines
	set           *upstream.Set
}

// Where the Gateway is said to listen.
var (
	clearAt  = netip.MustParseAddrPort("192.0.2.1:80")
	secureAt = netip.MustParseAddrPort("192.0.2.1:443")
)

func startGate(t *testing.T) *gate {
	t.Helper()
	f := start(t, listen.Config{})
	g := &gate{Proxy: f.Proxy, access: f.access}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	serve := func(at netip.AddrPort, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		config := listen.Config{Handler: g, Certificate: certificate, Context: func(ctx context.Context, _ bool) context.Context { return proxy.WithAddress(ctx, at) }}
		running.Go(func() { _ = listen.Serve(ctx, l, config) })
		return l.Addr().String()
	}
	g.clear, g.secure = serve(clearAt, nil), serve(secureAt, g.CertificateAt(secureAt))
	return g
}

// use serves routes, whose rules are written a line each, with a listener for each certificate's name.
func (g *gate) use(t *testing.T, certificates map[string]*tls.Certificate, backends []backend, rules ...string) {
	t.Helper()
	var route gatewayv1.HTTPRoute
	text := "metadata: {name: r, namespace: shop}\nspec:\n  parentRefs: [{name: g}]\n  rules:\n  - " + strings.Join(rules, "\n  - ")
	require.NoError(t, yaml.UnmarshalStrict([]byte(text), &route), text)
	g.serve(t, certificates, backends, &gateway.Objects{HTTPRoutes: []*gatewayv1.HTTPRoute{&route}})
}

func (g *gate) serve(t *testing.T, certificates map[string]*tls.Certificate, backends []backend, o *gateway.Objects) {
	t.Helper()
	object := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Name: "g", Namespace: "shop"}, Spec: gatewayv1.GatewaySpec{GatewayClassName: "c"}}
	object.Spec.Listeners = []gatewayv1.Listener{{Name: "http", Port: 80, Protocol: gatewayv1.HTTPProtocolType}}
	for host := range certificates {
		name := gatewayv1.Hostname(host)
		object.Spec.Listeners = append(object.Spec.Listeners, gatewayv1.Listener{
			Name: gatewayv1.SectionName("https-" + strings.ReplaceAll(host, "*", "any")), Port: 443, Protocol: gatewayv1.HTTPSProtocolType, Hostname: &name,
			TLS: &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{{Name: gatewayv1.ObjectName(host)}}},
		})
	}
	services, slices := objects(backends...)
	o.Classes = []*gatewayv1.GatewayClass{{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: "x"}}}
	o.Gateways = []*gatewayv1.Gateway{object}
	o.Namespace = func(string) *corev1.Namespace { return nil }
	o.Secret = func(_, name string) *corev1.Secret { return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}} }
	o.Certificate = func(s *corev1.Secret) (*tls.Certificate, error) { return certificates[s.Name], nil }
	o.Service = func(_, name string) *corev1.Service {
		for _, s := range services {
			if s.Name == name {
				return s
			}
		}
		return nil
	}
	model := gateway.Compile(gateway.Config{Controller: "x", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}, o, nil)
	require.Contains(t, model.Ports, clearAt)
	g.set = upstream.NewSet(g.set, services, slices)
	g.Set(&proxy.Snapshot{Endpoints: g.set, Ports: model.Ports})
}

// said tells what it was asked.
func said(w http.ResponseWriter, r *http.Request) {
	w.Header()["X-Backend"] = []string{"one", "two"}
	w.Header().Set("X-Server", "secret")
	fmt.Fprintf(w, "%s %s %s", r.Method, r.Host, r.RequestURI)
	for _, name := range []string{"X-Set", "X-Add", "X-Gone"} {
		if values := r.Header.Values(name); len(values) > 0 {
			fmt.Fprintf(w, " %s=%s", name, strings.Join(values, ","))
		}
	}
}

// ask sends a request written as "METHOD path; Header: value; ..." and returns the code, chosen headers and body.
func (g *gate) ask(t *testing.T, line string) string {
	t.Helper()
	request, headers, _ := strings.Cut(line, "; ")
	method, path, _ := strings.Cut(request, " ")
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.clear+path, nil)
	require.NoError(t, err)
	r.Host = "shop.example"
	for h := range strings.SplitSeq(headers, "; ") {
		if name, value, ok := strings.Cut(h, ": "); ok {
			if name == "Host" {
				r.Host = value
			}
			r.Header.Add(name, value)
		}
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	text := fmt.Sprint(response.StatusCode)
	for _, name := range []string{"Location", "X-Backend", "X-Server", "X-New", "Access-Control-Allow-Origin"} {
		if values := response.Header.Values(name); len(values) > 0 {
			text += " " + name + "=" + strings.Join(values, "|")
		}
	}
	return strings.TrimSpace(text + " " + string(body))
}

func TestGatewayFilters(t *testing.T) {
	t.Parallel()
	g := startGate(t)
	b := []backend{{name: "b", addresses: []string{server(t, "", said)}}, {name: "empty"}}
	to := func(rest string) string { return "{" + rest + ", backendRefs: [{name: b, port: 80}]}" }
	g.use(t, nil, b,
		to(`matches: [{path: {value: /plain}}]`),
		to(`matches: [{path: {value: /request}}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, value: new}], add: [{name: X-Add, value: more}], remove: [x-gone]}}]`),
		to(`matches: [{path: {value: /response}}], filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Backend, value: changed}], add: [{name: X-New, value: "1"}], remove: [x-server]}}]`),
		to(`matches: [{path: {value: /strip}}], filters: [{type: URLRewrite, urlRewrite: {hostname: inner.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]`),
		to(`matches: [{path: {value: /full}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /one}}}]`),
		to(`matches: [{path: {value: /host}}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: other.example}]}}]`),
		`{matches: [{path: {value: /away}}], filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: new.example, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}, {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-New, value: "2"}]}}]}`,
		to(`matches: [{path: {value: /cors}}], filters: [{type: CORS, cors: {allowOrigins: ["https://a.example"]}}]`),
		`{matches: [{path: {value: /unresolved}}], backendRefs: [{name: none, port: 80}]}`,
		`{matches: [{path: {value: /off}}], backendRefs: [{name: b, port: 80, weight: 0}]}`,
		`{matches: [{path: {value: /nothing}}]}`,
		`{matches: [{path: {value: /empty}}], backendRefs: [{name: empty, port: 80}]}`,
		`{matches: [{path: {value: /filter}}], filters: [{type: ExtensionRef, extensionRef: {group: a.b, kind: C, name: d}}], backendRefs: [{name: b, port: 80}]}`,
		`{matches: [{path: {value: /backend}}], backendRefs: [{name: b, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: backend}]}}, {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-New, value: "3"}]}}]}]}`,
	)
	const headers = " X-Backend=one|two X-Server=secret "
	for ask, want := range map[string]string{
		"GET /plain/a%2Fb?q=1":                        "200" + headers + "GET shop.example /plain/a%2Fb?q=1",
		"GET /request; X-Set: a; X-Add: b; X-Gone: c": "200" + headers + "GET shop.example /request X-Set=new X-Add=b,more",
		"GET /response":                               "200 X-Backend=changed X-New=1 GET shop.example /response",
		"GET /strip/a%2Fb/../c?q":                     "200" + headers + "GET inner.example /a/c?q",
		"GET /strip/a%2Fb?q":                          "200" + headers + "GET inner.example /a%2Fb?q",
		"GET /stripped":                               "404 no rule for this host and path",
		"GET /strip":                                  "200" + headers + "GET inner.example /",
		"GET /full/x?q=1":                             "200" + headers + "GET shop.example /one?q=1",
		"GET /host":                                   "200" + headers + "GET other.example /host",
		"GET /away/y?q=1":                             "301 Location=https://new.example/x/y?q=1 X-New=2",
		"GET /cors; Origin: https://a.example":        "200" + headers + "Access-Control-Allow-Origin=https://a.example GET shop.example /cors",
		"GET /cors; Origin: https://b.example":        "200" + headers + "GET shop.example /cors",
		"OPTIONS /cors; Origin: https://a.example; Access-Control-Request-Method: PUT": "204 Access-Control-Allow-Origin=https://a.example",
		"OPTIONS /cors; Origin: https://b.example; Access-Control-Request-Method: PUT": "204",
		"OPTIONS /cors":         "200" + headers + "OPTIONS shop.example /cors",
		"GET /unresolved":       "500 the rule has no valid backend",
		"GET /off":              "500 the rule has no valid backend",
		"GET /nothing":          "500 the rule has no valid backend",
		"GET /filter":           "500 the rule has no valid backend",
		"GET /empty":            "503 the backend has no endpoints",
		"GET /backend":          "200 X-Backend=one|two X-Server=secret X-New=3 GET shop.example /backend X-Set=backend",
		"GET /..%2f..%2fplain":  "404 no rule for this host and path",
		"GET /x/%2e%2e/plain/y": "200" + headers + "GET shop.example /plain/y",
		"GET /unknown":          "404 no rule for this host and path",
		"CONNECT /plain":        "405 this is no proxy to other places",
	} {
		require.Equal(t, want, g.ask(t, ask), ask)
	}
	require.Contains(t, g.access.String(), `rule="HTTPRoute shop/r: spec.rules[0]" backend=shop/b:80`)
}

// The listener is the one of the name in the handshake, also for HTTP/1; a request for another one is misdirected.
func TestListeners(t *testing.T) {
	t.Parallel()
	g := startGate(t)
	a, pool := certificate(t, "a.example")
	wild, poolWild := certificate(t, "*.b.example")
	g.use(t, map[string]*tls.Certificate{"a.example": a, "*.b.example": wild}, []backend{{name: "b", addresses: []string{server(t, "", said)}}}, `{backendRefs: [{name: b, port: 80}]}`)
	for _, two := range []bool{false, true} {
		for _, c := range []struct {
			name, host string
			pool       *x509.CertPool
			code       int
		}{
			{"a.example", "a.example", pool, 200}, {"a.example", "A.example:443", pool, 200}, {"a.example", "x.b.example", pool, 421}, {"a.example", "c.example", pool, 421},
			{"x.b.example", "x.b.example", poolWild, 200}, {"x.b.example", "y.b.example", poolWild, 200}, {"x.b.example", "a.example", poolWild, 421},
		} {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.pool, ServerName: c.name}, ForceAttemptHTTP2: two}
			code, _ := get(t, &http.Client{Transport: transport}, "https://"+g.secure+"/", "Host: "+c.host)
			require.Equal(t, c.code, code, "%v HTTP/2 %t", c, two)
			transport.CloseIdleConnections()
		}
	}
	_, err := tls.Dial("tcp", g.secure, &tls.Config{ServerName: "c.example", InsecureSkipVerify: true})
	require.Error(t, err, "no listener has the name")
	g.Set(&proxy.Snapshot{})
	code, _ := get(t, http.DefaultClient, "http://"+g.clear+"/")
	require.Equal(t, http.StatusNotFound, code, "the Gateway is gone")
}

// A request of gRPC that no backend answers has a status of gRPC.
func TestGRPCStatus(t *testing.T) {
	t.Parallel()
	g := startGate(t)
	g.use(t, nil, []backend{{name: "empty"}},
		`{matches: [{path: {value: /empty}}], backendRefs: [{name: empty, port: 80}]}`, `{matches: [{path: {value: /none}}], backendRefs: [{name: none, port: 80}]}`)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	for path, status := range map[string]string{"/empty": "14", "/none": "14", "/unknown": "12"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.clear+path, strings.NewReader("\x00\x00\x00\x00\x00"))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/grpc+proto")
		response, err := transport.RoundTrip(r)
		require.NoError(t, err)
		_ = response.Body.Close()
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.Equal(t, status, response.Header.Get("Grpc-Status"), path)
	}
}
