package proxy_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podplumb/podplumb/examples/ingress/listen"
	"github.com/podplumb/podplumb/examples/ingress/proxy"
	"github.com/podplumb/podplumb/examples/ingress/route"
	"github.com/podplumb/podplumb/examples/ingress/upstream"
)

// backend is a Service with the servers behind it.
type backend struct {
	name        string
	application string // appProtocol
	addresses   []string
}

func objects(backends ...backend) (services []*corev1.Service, all []*discoveryv1.EndpointSlice) {
	for _, b := range backends {
		port, about := "http", metav1.ObjectMeta{Namespace: "shop", Name: b.name, Labels: map[string]string{discoveryv1.LabelServiceName: b.name}}
		svc := &corev1.Service{ObjectMeta: about}
		svc.Spec.Ports = []corev1.ServicePort{{Name: port, Port: 80}}
		if b.application != "" {
			svc.Spec.Ports[0].AppProtocol = &b.application
		}
		services = append(services, svc)
		for i, text := range b.addresses {
			a := netip.MustParseAddrPort(text)
			number := int32(a.Port())
			slice := &discoveryv1.EndpointSlice{ObjectMeta: about, Ports: []discoveryv1.EndpointPort{{Name: &port, Port: &number}}}
			slice.Name += strconv.Itoa(i)
			slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{a.Addr().String()}}}
			all = append(all, slice)
		}
	}
	return services, all
}

// prefix leads a path to a backend.
func prefix(path string, to ...string) route.Rule {
	r := route.Rule{Origin: path, Path: route.Path{Kind: route.Prefix, Value: path}}
	for _, t := range to {
		name, weight, _ := strings.Cut(t, "=")
		n, err := strconv.Atoi(weight)
		if err != nil {
			n = 1
		}
		r.To.Backends = append(r.To.Backends, route.Weighted{Backend: route.Backend{Namespace: "shop", Service: name, Port: "http"}, Weight: n})
	}
	return r
}

// front is a running proxy.
type front struct {
	*proxy.Proxy
	clear, secure string // addresses
	registry      *prometheus.Registry
	access        *lines
}

type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func start(t *testing.T, config listen.Config, change ...func(*proxy.Proxy) http.Handler) *front {
	t.Helper()
	f := &front{registry: prometheus.NewRegistry(), access: new(lines)}
	metrics, err := proxy.NewMetrics(f.registry)
	require.NoError(t, err)
	transport := upstream.NewTransport(nil)
	t.Cleanup(transport.Close)
	f.Proxy = proxy.New(transport, metrics, slog.New(slog.NewTextHandler(f.access, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	serve := func(config listen.Config) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		running.Go(func() { _ = listen.Serve(ctx, l, config) })
		return l.Addr().String()
	}
	config.Handler = f
	for _, c := range change {
		config.Handler = c(f.Proxy)
	}
	config.Context = func(ctx context.Context, secure bool) context.Context {
		if secure {
			return proxy.WithSecure(ctx)
		}
		return ctx
	}
	f.clear = serve(config)
	config.Certificate = f.Certificate
	f.secure = serve(config)
	return f
}

func (f *front) use(rules []route.Rule, backends ...backend) {
	services, slices := objects(backends...)
	f.Set(&proxy.Snapshot{Routes: route.New(rules, nil), Endpoints: upstream.NewSet(nil, services, slices)})
}

// server is a backend's server that says its name and what it was asked.
func server(t *testing.T, name string, handler http.HandlerFunc) (address string) {
	t.Helper()
	if handler == nil {
		handler = func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s %s %s", name, r.Host, r.URL.Path, r.Header.Get("X-Forwarded-Proto"))
		}
	}
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func get(t *testing.T, client *http.Client, url string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
		}
		r.Header.Set(name, value)
	}
	response, err := client.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, strings.TrimSpace(string(body))
}

// certificate makes one for a name, and a client that believes it.
func certificate(t *testing.T, host string) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	f.use([]route.Rule{prefix("/api", "api"), prefix("/", "web"), prefix("/empty", "empty"), prefix("/gone", "gone"), prefix("/none")},
		backend{name: "api", addresses: []string{server(t, "api", nil)}}, backend{name: "web", addresses: []string{server(t, "web", nil)}}, backend{name: "empty"})
	for _, c := range []struct {
		path string
		code int
		body string
	}{
		{"/api/v1", 200, "api shop.example /api/v1 http"},
		{"/apix", 200, "web shop.example /apix http"},
		{"/static/../api/v1", 200, "api shop.example /api/v1 http"}, // as every reader behind would resolve it
		{"/static/%2e%2e/api", 200, "api shop.example /api http"},
		{"//api/./v1/", 200, "api shop.example /api/v1/ http"},
		{"/../api", 404, "no rule for this host and path"},
		{"/a%2Fb", 200, "web shop.example /a/b http"},
		{"/empty", 503, "the backend has no endpoints"},
		{"/gone", 503, "the backend has no endpoints"},
		{"/none", 500, "the rule has no backend"},
	} {
		code, body := get(t, http.DefaultClient, "http://"+f.clear+c.path, "Host: shop.example")
		require.Equal(t, c.code, code, c.path)
		require.Equal(t, c.body, body, c.path)
	}
	require.Contains(t, f.access.String(), "host=shop.example path=/api/v1 proto=HTTP/1.1 status=200")
	require.Contains(t, f.access.String(), `fault="shop/gone:http: no such service or port"`)
}

// Requests go over HTTP/1.1 and HTTP/2, in clear and over TLS, to servers of HTTP/1.1 and h2c.
func TestProtocols(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	pair, pool := certificate(t, "shop.example")
	says := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-End")
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s", r.Proto, r.Header.Get("X-Forwarded-Proto"), body)
		w.Header().Set("X-End", "yes")
	}
	services, slices := objects(backend{name: "one", addresses: []string{server(t, "", says)}},
		backend{name: "two", application: "kubernetes.io/h2c", addresses: []string{server(t, "", says)}})
	f.Set(&proxy.Snapshot{
		Routes: route.New([]route.Rule{prefix("/1", "one"), prefix("/2", "two")}, nil), Endpoints: upstream.NewSet(nil, services, slices),
		Certificates: proxy.NewCertificates(map[string]*tls.Certificate{"shop.example": pair}),
	})
	for _, secure := range []bool{false, true} {
		for _, two := range []bool{false, true} {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "shop.example"}, Protocols: new(http.Protocols)}
			scheme, address := "http", f.clear
			if secure {
				scheme, address = "https", f.secure
			}
			transport.Protocols.SetHTTP1(!two)
			transport.Protocols.SetHTTP2(two && secure)
			transport.Protocols.SetUnencryptedHTTP2(two && !secure)
			client := &http.Client{Transport: transport}
			for path, want := range map[string]string{"/1": "HTTP/1.1", "/2": "HTTP/2.0"} {
				response, err := client.Post(scheme+"://"+address+path, "text/plain", strings.NewReader("hello"))
				require.NoError(t, err)
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				_ = response.Body.Close()
				require.Equal(t, want+" "+scheme+" hello", string(body))
				require.Equal(t, map[bool]int{false: 1, true: 2}[two], response.ProtoMajor)
				require.Equal(t, "yes", response.Trailer.Get("X-End"), "secure %t, HTTP/2 %t, %s", secure, two, path)
			}
			transport.CloseIdleConnections()
		}
	}
}

// A handshake takes the certificate of the newest snapshot; a name without one gets the fallback's, or none.
func TestCertificates(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	first, _ := certificate(t, "a.example")
	second, _ := certificate(t, "a.example")
	wild, _ := certificate(t, "*.b.example")
	presented := func(name string) ([]byte, error) {
		c, err := tls.Dial("tcp", f.secure, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Raw, nil
	}
	for _, pair := range []*tls.Certificate{first, second} {
		f.Set(&proxy.Snapshot{Certificates: proxy.NewCertificates(map[string]*tls.Certificate{"A.example": pair, "*.b.example": wild})})
		for name, want := range map[string]*tls.Certificate{"a.example": pair, "x.b.example": wild} {
			got, err := presented(name)
			require.NoError(t, err)
			require.Equal(t, want.Certificate[0], got)
		}
		for _, name := range []string{"b.example", "x.y.b.example", "c.example"} {
			_, err := presented(name)
			require.ErrorContains(t, err, "unrecognized name", name)
		}
	}
	f.Set(&proxy.Snapshot{Certificates: proxy.NewCertificates(map[string]*tls.Certificate{"": first})})
	got, err := presented("c.example")
	require.NoError(t, err)
	require.Equal(t, first.Certificate[0], got)
}

// echo upgrades to a WebSocket, of which only the handshake matters here.
func echo(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "websocket")
	w.WriteHeader(http.StatusSwitchingProtocols)
	c, in, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = io.Copy(c, in)
}

func TestUpgrades(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	f.use([]route.Rule{prefix("/", "ws")}, backend{name: "ws", addresses: []string{server(t, "", echo)}})
	dial := func(protocol string) (net.Conn, *bufio.Reader, *http.Response) {
		c, err := net.Dial("tcp", f.clear)
		require.NoError(t, err)
		t.Cleanup(func() { _ = c.Close() })
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
		in := bufio.NewReader(c)
		response, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		return c, in, response
	}
	c, in, response := dial("websocket")
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	const frames = "\x81\x05hello GET / HTTP/1.1\nnot framed as HTTP at all\x00"
	fmt.Fprint(c, frames)
	got := make([]byte, len(frames))
	_, err := io.ReadFull(in, got)
	require.NoError(t, err)
	require.Equal(t, frames, string(got))
	for _, protocol := range []string{"h2c", "TLS/1.0", "websocket, h2c"} {
		_, _, response := dial(protocol)
		require.Equal(t, http.StatusBadRequest, response.StatusCode, protocol)
	}
}

// Of endpoints that cannot be reached another is taken, with the body; all gone is 502.
func TestDeadEndpoints(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	dead := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		return l.Addr().String()
	}
	body := func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }
	f.use([]route.Rule{prefix("/half", "half"), prefix("/dead", "dead")},
		backend{name: "half", addresses: []string{dead(), server(t, "", body), dead()}}, backend{name: "dead", addresses: []string{dead()}})
	for range 30 {
		response, err := http.Post("http://"+f.clear+"/half", "text/plain", strings.NewReader("whole"))
		require.NoError(t, err)
		got, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		_ = response.Body.Close()
		require.Equal(t, "whole", string(got))
	}
	code, text := get(t, http.DefaultClient, "http://"+f.clear+"/dead")
	require.Equal(t, http.StatusBadGateway, code)
	require.Equal(t, "the backend could not be reached", text)
}

func TestWeights(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	f.use([]route.Rule{prefix("/", "old=90", "new=10", "off=0")}, backend{name: "old", addresses: []string{server(t, "old", nil)}},
		backend{name: "new", addresses: []string{server(t, "new", nil)}}, backend{name: "off", addresses: []string{server(t, "off", nil)}})
	counts := map[string]int{}
	for range 1000 {
		_, body := get(t, http.DefaultClient, "http://"+f.clear+"/")
		name, _, _ := strings.Cut(body, " ")
		counts[name]++
	}
	require.InDelta(t, 100, counts["new"], 50)
	require.Zero(t, counts["off"])
	require.Equal(t, 1000, counts["old"]+counts["new"])
}

// The client's address comes from a trusted load balancer; nobody else gets a word in.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	seen := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Forwarded-For")) }
	ask := func(networks string) (string, error) {
		f := start(t, listen.Config{Proxies: []netip.Prefix{netip.MustParsePrefix(networks)}})
		f.use([]route.Rule{prefix("/", "b")}, backend{name: "b", addresses: []string{server(t, "", seen)}})
		c, err := net.Dial("tcp", f.clear)
		require.NoError(t, err)
		defer c.Close()
		fmt.Fprint(c, "PROXY TCP4 198.51.100.7 192.0.2.1 4242 80\r\nGET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: close\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return "", err
		}
		body, err := io.ReadAll(response.Body)
		return string(body), err
	}
	got, err := ask("127.0.0.0/8")
	require.NoError(t, err)
	require.Equal(t, "198.51.100.7", got)
	_, err = ask("10.0.0.0/8")
	require.Error(t, err)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	f.use([]route.Rule{prefix("/", "web")}, backend{name: "web", addresses: []string{server(t, "web", nil)}})
	get(t, http.DefaultClient, "http://"+f.clear+"/")
	families, err := f.registry.Gather()
	require.NoError(t, err)
	found := map[string]bool{}
	for _, family := range families {
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetValue())
			}
			found[family.GetName()+" "+strings.Join(labels, " ")] = true
		}
	}
	require.True(t, found["podplumb_ingress_requests_total 200 shop http / web"], found)
	require.True(t, found["podplumb_ingress_request_duration_seconds shop http / web"], found)
}
