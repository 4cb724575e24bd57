package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/mesh/trace"
)

// app runs an application of the demo in a pod.
func (b *bed) app(pod string, next *netip.AddrPort) {
	b.t.Helper()
	ns := b.net.Pod(pod).NS
	l, err := ns.Listen(b.t.Context(), "tcp", ":8080")
	require.NoError(b.t, err)
	url := ""
	if next != nil {
		url = "http://" + next.String()
	}
	transport := &http.Transport{DialContext: ns.DialContext}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: answering(pod, url, &http.Client{Transport: transport}), Protocols: protocols}
	go func() { _ = s.Serve(l) }()
	b.t.Cleanup(func() { _ = s.Close(); transport.CloseIdleConnections() })
}

// get asks from a pod, over HTTP/2 if h2 is set.
func (b *bed) get(pod string, to netip.AddrPort, h2 bool, header http.Header) (int, string) {
	b.t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetUnencryptedHTTP2(h2)
	transport := &http.Transport{DialContext: b.net.Pod(pod).NS.DialContext, Protocols: protocols}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/%s", to, strings.ReplaceAll(secret, " ", "-")), nil)
	require.NoError(b.t, err)
	if header != nil {
		r.Header = header
	}
	response, err := transport.RoundTrip(r)
	require.NoError(b.t, err)
	defer response.Body.Close()
	require.Equal(b.t, h2, response.ProtoMajor == 2)
	body, err := io.ReadAll(response.Body)
	require.NoError(b.t, err)
	return response.StatusCode, string(body)
}

// route adds an HTTPRoute for a Service.
func (b *bed) route(service, rules string) {
	b.t.Helper()
	r := &gatewayv1.HTTPRoute{
		TypeMeta:   metav1.TypeMeta{APIVersion: "gateway.networking.k8s.io/v1", Kind: "HTTPRoute"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: service},
	}
	require.NoError(b.t, yaml.UnmarshalStrict([]byte(`{parentRefs: [{group: "", kind: Service, name: `+service+`}], rules: `+rules+`}`), &r.Spec))
	b.objects = append(b.objects, r)
}

// Requests go from pod to pod to pod, traced, split and encrypted, whether or
// not a Service says that they are requests, and over HTTP/1 as over HTTP/2.
func TestRequests(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, m mode) {
		b := newBed(t, m, "web@a", "order@b", "one@a", "two@b")
		order := b.service("order", "order", 20, "", 80, 8080) // who speaks first decides
		pay := b.service("pay", "one", 21, "http", 80, 8080)
		b.service("one", "one", 22, "http", 80, 8080)
		b.service("two", "two", 23, "kubernetes.io/h2c", 80, 8080)
		b.annotate("one", "permissive", "8080")
		b.route("pay", `[{matches: [{headers: [{name: x-version, value: two}]}], backendRefs: [{name: two, port: 80}]},
			{backendRefs: [{name: one, port: 80, weight: 90}, {name: two, port: 80, weight: 10}]}]`)
		b.app("order", &pay[0])
		b.app("one", nil)
		b.app("two", nil)
		b.enrol()
		for _, pod := range []string{"order", "one", "two"} {
			b.listened("web", pod, 8080)
		}
		wire := b.tap()
		for family, f := range families {
			for _, h2 := range []bool{false, true} {
				status, said := b.get("web", order[f], h2, http.Header{"X-Version": {"two"}})
				require.Equal(t, http.StatusOK, status, said)
				require.Equal(t, "order < two", said, family)
			}
		}

		// A client that has nothing more to say still gets its response.
		for _, f := range families {
			c, err := b.dial("web", order[f])
			require.NoError(t, err)
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: order\r\nX-Version: two\r\n\r\n")
			require.NoError(t, err)
			require.NoError(t, c.(*net.TCPConn).CloseWrite())
			said, err := io.ReadAll(c)
			require.NoError(t, err)
			require.Contains(t, string(said), "order < two")
			_ = c.Close()
		}

		// The canary.
		count := map[string]int{}
		transport := &http.Transport{DialContext: b.net.Pod("web").NS.DialContext}
		defer transport.CloseIdleConnections()
		client := http.Client{Transport: transport, Timeout: 10 * time.Second}
		for i := range 500 {
			response, err := client.Get("http://" + pay[i%2].String())
			require.NoError(t, err)
			said, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			count[string(said)]++
		}
		require.Equal(t, 500, count["one"]+count["two"], count)
		require.InDelta(t, 50, count["two"], 25, "of 500, within 5 %")

		// Three proxies' trace: web, order, and who was asked.
		const id, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
		status, said := b.get("web", order[0], false, http.Header{"Traceparent": {"00-" + id + "-" + parent + "-01"}})
		require.Equal(t, http.StatusOK, status, said)
		var found *trace.Trace
		kerneltest.Eventually(t, "the spans are written", func() bool {
			found = b.trace(id)
			return found != nil && len(found.Spans) == 4
		})
		for i, want := range []string{"client", "server", "client", "server"} {
			require.Equal(t, want, found.Spans[i].Kind)
			above := parent
			if i > 0 {
				above = found.Spans[i-1].ID
			}
			require.Equal(t, above, found.Spans[i].Parent, found.String())
		}
		wire.Settle()
		require.NotEmpty(t, wire.Frames())
		require.Zero(t, wire.Saw(strings.ReplaceAll(secret, " ", "-")))
		require.Zero(t, wire.Saw(id))
		if m == nodeMode {
			require.NotZero(t, b.counted("mesh_connections_total", "shop/order", "inbound", "mtls", "HTTP/1"))
			require.NotZero(t, b.counted("mesh_connections_total", "shop/order", "inbound", "mtls", "HTTP/2"))
		}
	})
}

// trace puts together what all processes have written.
func (b *bed) trace(id string) *trace.Trace {
	b.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.traces(), "*.json"))
	require.NoError(b.t, err)
	var all bytes.Buffer
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(b.t, err)
		if i := bytes.LastIndexByte(text, '\n'); i >= 0 { // what is being written is not read
			all.Write(text[:i+1])
		}
	}
	traces, err := trace.Read(&all)
	require.NoError(b.t, err)
	for i := range traces {
		if traces[i].ID == id {
			return &traces[i]
		}
	}
	return nil
}

// Requests in clear reach a permissive port, and are counted as such; a client
// that is slow with its first line is waited for.
func TestRequestsInClear(t *testing.T) {
	t.Parallel()
	b := newBed(t, nodeMode, "app@a", "-legacy@b")
	b.annotate("app", "permissive", "8080")
	b.app("app", nil)
	b.enrol()
	b.listened("legacy", "app", 8080)
	for _, f := range families {
		for _, h2 := range []bool{false, true} {
			status, said := b.get("legacy", b.at("app", f, 8080), h2, nil)
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, "app", said)
		}
		c, err := b.dial("legacy", b.at("app", f, 8080))
		require.NoError(t, err)
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		for _, piece := range []string{"G", "ET /slow HT", "TP/1.1\r\nHo", "st: a\r\n\r\n"} {
			_, err = io.WriteString(c, piece)
			require.NoError(t, err)
			time.Sleep(20 * time.Millisecond)
		}
		line, err := readLine(c)
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1 200 OK\r", line)
		_ = c.Close()
	}
	require.Equal(t, 4.0, b.counted("mesh_connections_total", "shop/app", "inbound", "plaintext", "HTTP/1"))
	require.Equal(t, 2.0, b.counted("mesh_connections_total", "shop/app", "inbound", "plaintext", "HTTP/2"))
}
