package proxy

import (
	"context"
	"net/http"
	"net/netip"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Trace returns the Proxy as a handler that makes spans of what it does: one of a server for each request, named after the rule
// that led it, and below it one of a client for what is sent to the backend. Traces of clients go on, and the backend is told of
// them (W3C Trace Context). Use it in place of the Proxy, and call it before the Proxy serves.
func (p *Proxy) Trace(provider trace.TracerProvider) http.Handler {
	options := []otelhttp.Option{
		otelhttp.WithTracerProvider(provider), otelhttp.WithMeterProvider(noop.NewMeterProvider()),
		otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return methodOf(r) }),
	}
	p.reverse.Transport = otelhttp.NewTransport(carrier{p}, options...)
	return otelhttp.NewHandler(p, "ingress", options...)
}

// nameServer names the span of a request after the rule that leads it: there are as many names as there are rules.
func nameServer(r *http.Request, on *passage) {
	span := trace.SpanFromContext(r.Context())
	if !span.IsRecording() {
		return
	}
	name := on.origin()
	if on.attached == nil {
		name = on.rule.Host + on.rule.Path.Value
	}
	span.SetName(methodOf(r) + " " + name)
	span.SetAttributes(attribute.String("http.route", name), attribute.String("podplumb.rule", on.origin()), attribute.String("podplumb.request.id", on.id))
}

// nameClient tells in the span of a request to a backend which endpoint got it.
func nameClient(ctx context.Context, endpoint netip.AddrPort) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() && endpoint.IsValid() {
		span.SetAttributes(attribute.String("network.peer.address", endpoint.Addr().String()), attribute.Int("network.peer.port", int(endpoint.Port())))
	}
}

// methodOf is the method of a request, or HTTP for one that clients made up.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return r.Method
	}
	return "HTTP"
}
