package trace

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/propagators/b3"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Format is a way to write a context into headers, besides W3C's.
type Format uint8

// The formats.
const (
	B3      Format = 1 << iota // one header: b3
	B3Multi                    // X-B3-TraceId and its like
)

// Config says where spans go. With neither File nor Endpoint there is nothing to record.
type Config struct {
	File     string        // OTLP/JSON lines are added to it; at 64 MiB it becomes File.1
	Endpoint string        // http:// or https://HOST:PORT of an OTLP collector; with a path only for HTTP
	HTTP     bool          // OTLP over HTTP (protobuf) and not over gRPC
	Ratio    float64       // share of the traces that begin here and are recorded, 0 to 1
	Formats  Format        // written in any case
	Delay    time.Duration // spans are exported after that at the latest; 0: 1 s
}

// Validate returns every fault.
func (c Config) Validate() error {
	var faults []error
	if c.Ratio < 0 || c.Ratio > 1 {
		faults = append(faults, fmt.Errorf("ratio: %v is not between 0 and 1", c.Ratio))
	}
	if c.Endpoint != "" && !strings.HasPrefix(c.Endpoint, "http://") && !strings.HasPrefix(c.Endpoint, "https://") {
		faults = append(faults, fmt.Errorf("endpoint: %q does not begin with http:// or https://", c.Endpoint))
	}
	return errors.Join(faults...)
}

// Recorder takes the spans of all pods that a process serves. Make it with Open.
type Recorder struct {
	config    Config
	processor sdktrace.SpanProcessor
}

// Open makes a Recorder. Errors of exporting are told to fault, if it is not nil.
func Open(ctx context.Context, config Config, fault func(error)) (*Recorder, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	var to exporters
	if config.File != "" {
		f, err := openFile(config.File)
		if err != nil {
			return nil, err
		}
		exporter, err := otlptrace.New(ctx, f)
		if err != nil {
			return nil, err
		}
		to = append(to, exporter)
	}
	if config.Endpoint != "" {
		exporter, err := otlptrace.New(ctx, config.client())
		if err != nil {
			return nil, errors.Join(err, to.Shutdown(ctx))
		}
		to = append(to, exporter)
	}
	if len(to) == 0 {
		return nil, errors.New("trace: neither a file nor an endpoint")
	}
	if config.Delay == 0 {
		config.Delay = time.Second
	}
	if fault == nil {
		fault = func(error) {}
	}
	return &Recorder{
		config:    config,
		processor: sdktrace.NewBatchSpanProcessor(told{to, fault}, sdktrace.WithBatchTimeout(config.Delay)),
	}, nil
}

func (c Config) client() otlptrace.Client {
	if !c.HTTP {
		return otlptracegrpc.NewClient(otlptracegrpc.WithEndpointURL(c.Endpoint))
	}
	endpoint := strings.TrimSuffix(c.Endpoint, "/")
	if strings.Count(endpoint, "/") == 2 {
		endpoint += "/v1/traces" // the path that the specification of OTLP has
	}
	return otlptracehttp.NewClient(otlptracehttp.WithEndpointURL(endpoint))
}

// Flush exports what has ended so far.
func (r *Recorder) Flush(ctx context.Context) error { return r.processor.ForceFlush(ctx) }

// Close exports what has ended so far, and ends. Spans that end later are lost.
func (r *Recorder) Close(ctx context.Context) error { return r.processor.Shutdown(ctx) }

// exporters are several of them.
type exporters []sdktrace.SpanExporter

// ExportSpans implements sdktrace.SpanExporter.
func (e exporters) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	var faults []error
	for _, x := range e {
		faults = append(faults, x.ExportSpans(ctx, spans))
	}
	return errors.Join(faults...)
}

// Shutdown implements sdktrace.SpanExporter.
func (e exporters) Shutdown(ctx context.Context) error {
	var faults []error
	for _, x := range e {
		faults = append(faults, x.Shutdown(ctx))
	}
	return errors.Join(faults...)
}

// told keeps errors from OpenTelemetry's global handler.
type told struct {
	exporters
	fault func(error)
}

// ExportSpans implements sdktrace.SpanExporter.
func (t told) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := t.exporters.ExportSpans(ctx, spans); err != nil {
		t.fault(fmt.Errorf("trace: %d spans were not exported: %w", len(spans), err))
	}
	return nil
}

// Tracer begins the spans of one pod. A nil Tracer begins none and leaves headers alone.
type Tracer struct {
	tracer  trace.Tracer
	formats Format
}

// Tracer returns one for a pod: its attributes are such as service.name (OpenTelemetry's semantic conventions for
// resources).
func (r *Recorder) Tracer(attributes ...attribute.KeyValue) *Tracer {
	if r == nil {
		return nil
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithResource(resource.NewSchemaless(attributes...)),
		sdktrace.WithSampler(sdktrace.ParentBased(asked{sdktrace.TraceIDRatioBased(r.config.Ratio)})),
		sdktrace.WithSpanProcessor(r.processor),
	)
	return &Tracer{tracer: provider.Tracer("github.com/podplumb/podplumb/examples/mesh"), formats: r.config.Formats}
}

// asked is the sampler of traces that begin here: a client may have said something without beginning one.
type asked struct{ sdktrace.Sampler }

type wish struct{}

// ShouldSample implements sdktrace.Sampler.
func (a asked) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if sample, ok := p.ParentContext.Value(wish{}).(bool); ok {
		if sample {
			return sdktrace.AlwaysSample().ShouldSample(p)
		}
		return sdktrace.NeverSample().ShouldSample(p)
	}
	return a.Sampler.ShouldSample(p)
}

var (
	w3c    = propagation.TraceContext{}
	single = b3.New(b3.WithInjectEncoding(b3.B3SingleHeader))
	multi  = b3.New(b3.WithInjectEncoding(b3.B3MultipleHeader))
)

// Parent is the context that a request brought.
type Parent struct {
	ctx     context.Context // it is one
	span    trace.SpanContext
	formats Format
}

// Extract reads the context from headers, and takes out those that make no sense.
func (t *Tracer) Extract(h http.Header) Parent {
	if t == nil {
		return Parent{}
	}
	p := Parent{ctx: context.Background()}
	if len(h["B3"]) > 0 {
		p.formats |= B3
	}
	if len(h["X-B3-Traceid"]) > 0 || len(h["X-B3-Sampled"]) > 0 || len(h["X-B3-Flags"]) > 0 {
		p.formats |= B3Multi
	}
	if len(h["Traceparent"]) == 1 { // two of them are none
		if states := h["Tracestate"]; len(states) > 1 {
			h["Tracestate"] = []string{strings.Join(states, ",")}
		}
		p.ctx = w3c.Extract(p.ctx, propagation.HeaderCarrier(h))
	}
	if p.span = trace.SpanContextFromContext(p.ctx); p.span.IsValid() {
		return p
	}
	delete(h, "Traceparent")
	delete(h, "Tracestate")
	if p.formats == 0 {
		return p
	}
	p.ctx = single.Extract(p.ctx, propagation.HeaderCarrier(h)) // either form
	if p.span = trace.SpanContextFromContext(p.ctx); p.span.IsValid() {
		return p
	}
	switch sampled := h.Get("X-B3-Sampled"); {
	case h.Get("B3") == "0", sampled == "0", sampled == "false":
		p.ctx = context.WithValue(p.ctx, wish{}, false)
	case h.Get("B3") == "1", h.Get("B3") == "d", sampled == "1", sampled == "true", h.Get("X-B3-Flags") == "1":
		p.ctx = context.WithValue(p.ctx, wish{}, true)
	}
	return p
}

// Span is work under way. A nil Span is work of which nothing is noted.
type Span struct {
	span    trace.Span
	ctx     context.Context // it has the span
	formats Format
}

// Start begins a span under what the request brought.
func (t *Tracer) Start(p Parent, kind trace.SpanKind, name string) *Span {
	if t == nil || p.span.IsValid() && !p.span.IsSampled() && p.formats|t.formats == 0 {
		return nil // and the context passes as it is
	}
	ctx, span := t.tracer.Start(p.ctx, name, trace.WithSpanKind(kind))
	return &Span{span: span, ctx: ctx, formats: p.formats | t.formats}
}

// Recording says whether attributes are of use.
func (s *Span) Recording() bool { return s != nil && s.span.IsRecording() }

// Set adds attributes.
func (s *Span) Set(attributes ...attribute.KeyValue) {
	if s != nil {
		s.span.SetAttributes(attributes...)
	}
}

// ID returns the trace's identity, or "".
func (s *Span) ID() string {
	if s == nil {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// Inject writes the span's context into headers, in place of the one they have.
func (s *Span) Inject(h http.Header) {
	if s == nil {
		return
	}
	delete(h, "Tracestate")
	carrier := propagation.HeaderCarrier(h)
	w3c.Inject(s.ctx, carrier)
	if s.formats&B3 != 0 {
		single.Inject(s.ctx, carrier)
	}
	if s.formats&B3Multi != 0 {
		delete(h, "X-B3-Parentspanid")
		multi.Inject(s.ctx, carrier)
	}
}

// End ends the span; a fault that is not empty makes it one that failed.
func (s *Span) End(fault string) {
	if s == nil {
		return
	}
	if fault != "" {
		s.span.SetStatus(codes.Error, fault)
	}
	s.span.End()
}

// Service is the attribute of a Tracer that names its service in OpenTelemetry's words.
func Service(name string) attribute.KeyValue { return attribute.String("service.name", name) }
