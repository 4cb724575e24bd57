package trace_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"

	"github.com/podplumb/podplumb/examples/mesh/trace"
)

const (
	id     = "4bf92f3577b34da6a3ce929d0e0e4736"
	parent = "00f067aa0ba902b7"
)

func recorder(t *testing.T, config trace.Config) (r *trace.Recorder, read func() []trace.Trace) {
	t.Helper()
	if config.File == "" {
		config.File = filepath.Join(t.TempDir(), "spans")
	}
	r, err := trace.Open(t.Context(), config, func(err error) { t.Error(err) })
	require.NoError(t, err)
	return r, func() []trace.Trace {
		require.NoError(t, r.Close(context.Background()))
		f, err := os.Open(config.File)
		require.NoError(t, err)
		defer f.Close()
		all, err := trace.Read(f)
		require.NoError(t, err)
		return all
	}
}

// What comes in a format goes on in it, and as W3C; the parent is the one that came.
func TestPropagation(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in      http.Header
		formats trace.Format
		out     []string // headers that are there
		none    []string // and that are not
		trace   string   // "": a new one
		sampled bool
	}{
		"nothing":        {in: http.Header{}, out: []string{"Traceparent"}, none: []string{"B3", "X-B3-Traceid", "Tracestate"}, sampled: true},
		"W3C":            {in: http.Header{"Traceparent": {"00-" + id + "-" + parent + "-01"}, "Tracestate": {"a=1", "b=2"}, "Baggage": {"k=v;p"}}, out: []string{"Traceparent", "Tracestate", "Baggage"}, none: []string{"B3"}, trace: id, sampled: true},
		"later version":  {in: http.Header{"Traceparent": {"cc-" + id + "-" + parent + "-01-more"}}, out: []string{"Traceparent"}, trace: id, sampled: true},
		"not W3C":        {in: http.Header{"Traceparent": {"00-" + id + "-0000000000000000-01"}, "Tracestate": {"a=1"}}, out: []string{"Traceparent"}, none: []string{"Tracestate"}, sampled: true},
		"two parents":    {in: http.Header{"Traceparent": {"00-" + id + "-" + parent + "-01", "00-" + id + "-" + parent + "-01"}}, out: []string{"Traceparent"}, sampled: true},
		"B3":             {in: http.Header{"B3": {id + "-" + parent + "-1"}}, out: []string{"Traceparent", "B3"}, none: []string{"X-B3-Traceid"}, trace: id, sampled: true},
		"B3 short":       {in: http.Header{"B3": {id[16:] + "-" + parent + "-1"}}, out: []string{"Traceparent", "B3"}, trace: strings.Repeat("0", 16) + id[16:], sampled: true},
		"B3 multi":       {in: http.Header{"X-B3-Traceid": {id}, "X-B3-Spanid": {parent}, "X-B3-Parentspanid": {"1111111111111111"}, "X-B3-Sampled": {"1"}}, out: []string{"Traceparent", "X-B3-Traceid", "X-B3-Sampled"}, none: []string{"B3", "X-B3-Parentspanid"}, trace: id, sampled: true},
		"B3 unsampled":   {in: http.Header{"B3": {id + "-" + parent + "-0"}}, out: []string{"Traceparent", "B3"}, trace: id},
		"B3 says no":     {in: http.Header{"B3": {"0"}}, out: []string{"Traceparent", "B3"}},
		"multi says no":  {in: http.Header{"X-B3-Sampled": {"0"}}, out: []string{"Traceparent", "X-B3-Traceid"}},
		"both, W3C wins": {in: http.Header{"Traceparent": {"00-" + id + "-" + parent + "-01"}, "B3": {strings.Repeat("a", 32) + "-" + parent + "-0"}}, out: []string{"Traceparent", "B3"}, trace: id, sampled: true},
		"configured":     {in: http.Header{}, formats: trace.B3 | trace.B3Multi, out: []string{"Traceparent", "B3", "X-B3-Traceid", "X-B3-Spanid"}, sampled: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, read := recorder(t, trace.Config{Ratio: 1, Formats: c.formats})
			tracer := r.Tracer(attribute.String("service.name", "shop/web"))
			h := c.in.Clone()
			span := tracer.Start(tracer.Extract(h), oteltrace.SpanKindServer, "GET")
			span.Inject(h)
			span.End("")
			for _, name := range c.out {
				require.NotEmpty(t, h[name], "%s in %v", name, h)
			}
			for _, name := range c.none {
				require.Empty(t, h[name], "%s in %v", name, h)
			}
			fields := strings.Split(h.Get("Traceparent"), "-")
			require.Equal(t, map[bool]string{true: "01", false: "00"}[c.sampled], fields[3])
			require.NotEqual(t, parent, fields[2], "the span is its own")
			if c.trace != "" {
				require.Equal(t, c.trace, fields[1])
			} else {
				require.NotEqual(t, id, fields[1])
			}
			if b := h.Get("B3"); b != "" {
				require.Equal(t, fields[1]+"-"+fields[2]+"-"+fields[3][1:], b)
			}
			require.Equal(t, c.in["Baggage"], h["Baggage"])
			if len(c.in["Tracestate"]) > 0 && c.trace != "" {
				require.Equal(t, "a=1,b=2", h.Get("Tracestate"))
			}
			all := read()
			if !c.sampled {
				require.Empty(t, all)
				return
			}
			require.Len(t, all, 1)
			require.Equal(t, fields[1], all[0].ID)
			require.Equal(t, fields[2], all[0].Spans[0].ID)
			require.Equal(t, map[bool]string{true: parent, false: ""}[c.trace != ""], all[0].Spans[0].Parent)
		})
	}
}

// What a client decided not to record passes as it is.
func TestUnsampled(t *testing.T) {
	t.Parallel()
	r, read := recorder(t, trace.Config{Ratio: 1})
	tracer := r.Tracer()
	h := http.Header{"Traceparent": {"00-" + id + "-" + parent + "-00"}, "Tracestate": {"a=1"}}
	want := h.Clone()
	span := tracer.Start(tracer.Extract(h), oteltrace.SpanKindServer, "GET")
	span.Inject(h)
	span.End("")
	require.Equal(t, want, h)
	require.Empty(t, read())
	none := (*trace.Recorder)(nil).Tracer()
	h = http.Header{"Traceparent": {"nonsense"}}
	none.Start(none.Extract(h), oteltrace.SpanKindServer, "GET").Inject(h)
	require.Equal(t, "nonsense", h.Get("Traceparent"))
}

func TestRatio(t *testing.T) {
	t.Parallel()
	r, read := recorder(t, trace.Config{Ratio: .25})
	tracer := r.Tracer()
	const n = 2000
	for range n {
		tracer.Start(tracer.Extract(http.Header{}), oteltrace.SpanKindServer, "GET").End("")
	}
	require.InDelta(t, n/4, len(read()), 5*19.4) // five standard deviations
}

func TestTree(t *testing.T) {
	t.Parallel()
	r, read := recorder(t, trace.Config{Ratio: 1})
	h := http.Header{}
	var open []*trace.Span
	for _, hop := range []struct {
		service string
		kind    oteltrace.SpanKind
		name    string
	}{
		{"shop/web", oteltrace.SpanKindClient, "GET"}, {"shop/cart", oteltrace.SpanKindServer, "GET"}, {"shop/cart", oteltrace.SpanKindClient, "POST"}, {"shop/stock", oteltrace.SpanKindServer, "POST"},
	} {
		tracer := r.Tracer(attribute.String("service.name", hop.service))
		span := tracer.Start(tracer.Extract(h), hop.kind, hop.name)
		span.Set(attribute.Int("http.response.status_code", 200))
		span.Inject(h)
		open = append(open, span)
	}
	open[3].End("out of stock")
	for i := 2; i >= 0; i-- {
		open[i].End("")
	}
	all := read()
	require.Len(t, all, 1)
	tree := all[0]
	tree.ID = id
	for i := range tree.Spans {
		tree.Spans[i].Took = time.Duration(40-10*i) * time.Millisecond
	}
	require.Equal(t, `trace `+id+`
shop/web client GET              40ms  200
└─ shop/cart server GET          30ms  200
   └─ shop/cart client POST      20ms  200
      └─ shop/stock server POST  10ms  200  out of stock
`, tree.String())
}

// collected is a collector that keeps what it gets.
type collected struct {
	collector.UnimplementedTraceServiceServer
	spans chan string
}

func (c *collected) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.spans <- r.ResourceSpans[0].ScopeSpans[0].Spans[0].Name
	return &collector.ExportTraceServiceResponse{}, nil
}

func TestOTLP(t *testing.T) {
	t.Parallel()
	got := &collected{spans: make(chan string, 2)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, got)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	overHTTP := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		request := &collector.ExportTraceServiceRequest{}
		if err == nil {
			err = proto.Unmarshal(body, request)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			http.Error(w, fmt.Sprint(err, r.URL.Path), http.StatusBadRequest)
			return
		}
		_, _ = got.Export(r.Context(), request)
	}))
	t.Cleanup(overHTTP.Close)
	for name, config := range map[string]trace.Config{
		"grpc": {Endpoint: "http://" + listener.Addr().String(), Ratio: 1, Delay: 10 * time.Millisecond},
		"http": {Endpoint: overHTTP.URL, HTTP: true, Ratio: 1, Delay: 10 * time.Millisecond},
	} {
		r, err := trace.Open(t.Context(), config, func(err error) { t.Error(err) })
		require.NoError(t, err)
		tracer := r.Tracer()
		tracer.Start(tracer.Extract(http.Header{}), oteltrace.SpanKindServer, name).End("")
		select {
		case span := <-got.spans:
			require.Equal(t, name, span)
		case <-time.After(10 * time.Second):
			t.Fatal(name + ": no span came")
		}
		require.NoError(t, r.Close(context.Background()))
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	_, err := trace.Open(t.Context(), trace.Config{Ratio: 2, Endpoint: "collector:4317"}, nil)
	require.ErrorContains(t, err, "ratio: 2")
	require.ErrorContains(t, err, `endpoint: "collector:4317"`)
	_, err = trace.Open(t.Context(), trace.Config{}, nil)
	require.Error(t, err)
	_, err = trace.Open(t.Context(), trace.Config{File: t.TempDir()}, nil)
	require.Error(t, err)
	all, err := trace.Read(strings.NewReader("{}\nnonsense\n{\"resourceSpans\":[]}\n"))
	require.Empty(t, all)
	require.ErrorContains(t, err, "line 2: ")

	broken := make(chan error, 1)
	r, err := trace.Open(t.Context(), trace.Config{File: filepath.Join(t.TempDir(), "f"), Ratio: 1}, func(err error) { broken <- err })
	require.NoError(t, err)
	require.NoError(t, r.Close(context.Background()))
}
