package l7_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/podplumb/podplumb/examples/mesh/l7"
	"github.com/podplumb/podplumb/examples/mesh/routes"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/trace"
)

// mesh is a cluster without a network: connections between proxies are TCP over loopback, and identities are believed.
type mesh struct {
	t         *testing.T
	mu        sync.Mutex
	addresses map[netip.AddrPort]stream.Backend
	services  map[string]stream.Backend // namespace/name:port
	proxies   map[netip.AddrPort]*pod   // by the address of their application
	table     atomic.Pointer[routes.Table]
	config    l7.Config // what all proxies have
	recorder  *trace.Recorder
	registry  *prometheus.Registry
	refuse    atomic.Bool // connections to proxies
	dialed    atomic.Int64
}

// pod is a pod with its proxy.
type pod struct {
	*mesh
	*stream.Workload
	proxy *l7.Proxy
}

func newMesh(t *testing.T, config l7.Config) *mesh {
	m := &mesh{
		t: t, addresses: map[netip.AddrPort]stream.Backend{}, services: map[string]stream.Backend{}, proxies: map[netip.AddrPort]*pod{},
		config: config, registry: prometheus.NewRegistry(),
	}
	metrics, err := l7.NewMetrics(m.registry)
	require.NoError(t, err)
	m.config.Metrics = metrics
	return m
}

// Resolve implements stream.Resolver.
func (m *mesh) Resolve(to netip.AddrPort) stream.Backend {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.addresses[to]; ok {
		return b
	}
	e := stream.Endpoint{Address: to}
	if p := m.proxies[to]; p != nil {
		e.Workload = p.Workload
	}
	return stream.Backend{Endpoints: []stream.Endpoint{e}}
}

// Service implements stream.Resolver.
func (m *mesh) Service(namespace, name string, port uint16, _ netip.Addr) (stream.Backend, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.services[fmt.Sprintf("%s/%s:%d", namespace, name, port)]
	return b, ok
}

// pod adds a pod.
func (m *mesh) pod(name string) *pod {
	m.t.Helper()
	p := &pod{mesh: m, Workload: &stream.Workload{
		Namespace: "shop", Name: name + "-1", ServiceAccount: name, Labels: map[string]string{"app": name}, Meshed: true,
		ID: spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/" + name),
	}}
	config := m.config
	config.Workload, config.Resolver, config.Dialer, config.Routes = p.Workload, m, p, m.table.Load
	config.Tracer = m.recorder.Tracer(trace.Service(l7.Name(p.Workload)))
	p.proxy = l7.New(config)
	m.t.Cleanup(p.proxy.Close)
	return p
}

// serves has the pod's application at an address.
func (p *pod) serves(address string) netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := netip.MustParseAddrPort(address)
	p.proxies[a] = p
	return a
}

// service makes or changes a Service at 10.96.0.x:80 with pods' addresses as its endpoints.
func (m *mesh) service(ip, name string, endpoints ...netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := stream.Backend{Service: &stream.Service{Namespace: "shop", Name: name}, Port: stream.Port{Name: "http", Number: 80}}
	for _, a := range endpoints {
		e := stream.Endpoint{Address: a}
		if p := m.proxies[a]; p != nil {
			e.Workload = p.Workload
		}
		b.Endpoints = append(b.Endpoints, e)
	}
	m.addresses[netip.AddrPortFrom(netip.MustParseAddr(ip), 80)] = b
	m.services["shop/"+name+":80"] = b
}

// route has HTTPRoutes count, and no others.
func (m *mesh) route(manifests ...string) {
	m.t.Helper()
	o := routes.Objects{}
	m.mu.Lock()
	for _, b := range m.services {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: b.Service.Namespace, Name: b.Service.Name}}
		s.Spec.Ports = []corev1.ServicePort{{Name: b.Port.Name, Port: int32(b.Port.Number)}}
		o.Services = append(o.Services, s)
	}
	m.mu.Unlock()
	for i, text := range manifests {
		r := &gatewayv1.HTTPRoute{}
		require.NoError(m.t, yaml.UnmarshalStrict([]byte(text), &r.Spec))
		r.Namespace, r.Name = "shop", fmt.Sprintf("route-%d", i)
		o.HTTPRoutes = append(o.HTTPRoutes, r)
	}
	t := routes.New(nil, o)
	for _, p := range t.Parents() {
		require.NoError(m.t, p.Err())
	}
	m.table.Store(t)
}

// to is a route's parentRefs.
func to(service string) string {
	return "parentRefs: [{group: '', kind: Service, name: " + service + "}]\n"
}

// Dial implements stream.Dialer.
func (p *pod) Dial(ctx context.Context, to stream.Target) (net.Conn, error) {
	p.dialed.Add(1)
	if to.Peer.IsZero() {
		return (&net.Dialer{}).DialContext(ctx, "tcp", to.Address.String())
	}
	p.mu.Lock()
	other := p.proxies[to.Address]
	p.mu.Unlock()
	if other == nil || p.refuse.Load() {
		return nil, errors.New("connection refused")
	}
	client, server := pair(p.t)
	go func() {
		_ = other.proxy.ServeStream(context.Background(), &stream.Stream{
			Conn: server, Direction: stream.Inbound, Protocol: to.Protocol, Source: addrPort(client.LocalAddr()), Destination: to.Address, Peer: p.ID,
		})
	}()
	return client, nil
}

func addrPort(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

// pair is a TCP connection with itself.
func pair(t *testing.T) (client, server net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err = l.Accept()
	require.NoError(t, err)
	return client, server
}

// dial is a connection of the pod's application, captured.
func (p *pod) dial(protocol stream.Protocol, address string, draining <-chan struct{}) net.Conn {
	client, server := pair(p.t)
	go func() {
		_ = p.proxy.ServeStream(context.Background(), &stream.Stream{
			Conn: server, Direction: stream.Outbound, Protocol: protocol, Source: addrPort(client.LocalAddr()), Destination: netip.MustParseAddrPort(address), Draining: draining,
		})
	}()
	return client
}

// client is an HTTP client in the pod.
func (p *pod) client(protocol stream.Protocol) *http.Client {
	transport := &http.Transport{
		DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
			return p.dial(protocol, address, nil), nil
		},
		Protocols: new(http.Protocols), DisableCompression: true, MaxIdleConnsPerHost: 100, ExpectContinueTimeout: 5e9,
	}
	transport.Protocols.SetHTTP1(protocol == stream.HTTP1)
	transport.Protocols.SetUnencryptedHTTP2(protocol == stream.HTTP2)
	p.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// application is an HTTP server, at 127.0.0.1 or ::1.
func application(t *testing.T, host string, handler http.HandlerFunc) (address string) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Listener.Close()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	require.NoError(t, err)
	s.Listener = l
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return l.Addr().String()
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func do(t *testing.T, client *http.Client, method, url string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	require.NoError(t, err)
	for _, h := range header {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
		}
		r.Header.Add(name, value)
	}
	response, err := client.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, string(got)
}

// metric is the sum of a counter's series that have these labels.
func (m *mesh) metric(name string, labels ...string) (sum float64) {
	families, err := m.registry.Gather()
	require.NoError(m.t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, s := range f.Metric {
			text := ""
			for _, l := range s.Label {
				text += l.GetName() + "=" + l.GetValue() + ","
			}
			all := true
			for _, l := range labels {
				all = all && strings.Contains(text, l+",")
			}
			if all {
				sum += s.GetCounter().GetValue() + float64(s.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}
