package proxy_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/podplumb/podplumb/examples/ingress/listen"
	"github.com/podplumb/podplumb/examples/ingress/proxy"
	"github.com/podplumb/podplumb/examples/ingress/route"
)

// A client's trace goes on in a span of the server, named after the rule, with a span of a client below it, and on to the backend.
func TestTrace(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	f := start(t, listen.Config{}, func(p *proxy.Proxy) http.Handler { return p.Trace(provider) })
	told := make(chan string, 1)
	address := server(t, "web", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "the backend's")
		told <- r.Header.Get("Traceparent") + " " + r.Header.Get("X-Request-Id") + " " + r.Header.Get("Baggage")
	})
	f.use([]route.Rule{prefix("/api", "web")}, backend{name: "web", addresses: []string{address}})
	const parent, up = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	code, _ := get(t, http.DefaultClient, "http://"+f.clear+"/api/orders/1234", "Traceparent: 00-"+parent+"-"+up+"-01", "X-Request-Id: one", "Baggage: a=b")
	require.Equal(t, 200, code)
	require.Eventually(t, func() bool { return len(spans.GetSpans()) == 2 }, patience, tick)
	client, server := spans.GetSpans()[0], spans.GetSpans()[1]
	require.Equal(t, []trace.SpanKind{trace.SpanKindClient, trace.SpanKindServer}, []trace.SpanKind{client.SpanKind, server.SpanKind})
	require.Equal(t, parent, server.SpanContext.TraceID().String())
	require.Equal(t, up, server.Parent.SpanID().String())
	require.Equal(t, server.SpanContext.SpanID(), client.Parent.SpanID())
	require.Equal(t, "00-"+parent+"-"+client.SpanContext.SpanID().String()+"-01 one a=b", <-told)
	require.Equal(t, "GET /api", server.Name, "as many names as rules")
	require.Equal(t, "GET", client.Name)
	require.Contains(t, server.Attributes, attribute.String("http.route", "/api"))
	require.Contains(t, server.Attributes, attribute.Int("http.response.status_code", 200))
	require.Contains(t, client.Attributes, attribute.String("network.peer.address", "127.0.0.1"))
	// The access log leads from the one to the other.
	require.Eventually(t, func() bool { return strings.Contains(f.access.String(), "trace="+parent) }, patience, tick)
	line := f.access.String()
	for _, want := range []string{"id=one ", "upstream=" + address + " ", "upstreamTook=", "rule=/api ", "backend=shop/web:http ", "status=200 "} {
		require.Contains(t, line, want)
	}
	// What no rule leads has the method for its name, also when a client made that up.
	spans.Reset()
	request, err := http.NewRequestWithContext(t.Context(), "BREW", "http://"+f.clear+"/elsewhere", nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, 404, response.StatusCode)
	require.Eventually(t, func() bool { return len(spans.GetSpans()) == 1 }, patience, tick)
	require.Equal(t, "HTTP", spans.GetSpans()[0].Name)
}

// Everybody gets an id; one that would break a log is not taken.
func TestRequestID(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	got := make(chan string, 1)
	f.use([]route.Rule{prefix("/", "web")}, backend{name: "web", addresses: []string{server(t, "web", func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("X-Request-Id") })}})
	for given, kept := range map[string]bool{"": false, "abc-123": true, `a"b`: false, strings.Repeat("a", 129): false, "a b": false} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.clear+"/", nil)
		require.NoError(t, err)
		request.Header.Set("X-Request-Id", given)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		response.Body.Close()
		id := <-got
		require.Equal(t, []string{id}, response.Header.Values("X-Request-Id"))
		require.Equal(t, kept, id == given, given)
		if !kept {
			require.Len(t, id, 32)
		}
	}
}

const (
	patience = 20 * time.Second
	tick     = time.Millisecond
)

// A connection that becomes a WebSocket passes through the spans too.
func TestTraceOfUpgrade(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	f := start(t, listen.Config{}, func(p *proxy.Proxy) http.Handler { return p.Trace(sdk.NewTracerProvider(sdk.WithSyncer(spans))) })
	f.use([]route.Rule{prefix("/", "ws")}, backend{name: "ws", addresses: []string{server(t, "", echo)}})
	c, err := net.Dial("tcp", f.clear)
	require.NoError(t, err)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	in := bufio.NewReader(c)
	response, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	fmt.Fprint(c, "frames\n")
	got, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "frames\n", got)
	require.NoError(t, c.Close())
	require.Eventually(t, func() bool { return len(spans.GetSpans()) == 2 }, patience, tick)
	require.Contains(t, f.access.String(), "status=101")
}
