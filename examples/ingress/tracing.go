package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
)

// tracing returns where spans go by the flag: to a collector that speaks OTLP over HTTP, or to a file or the standard output as
// JSON. done sends what is left.
func tracing(ctx context.Context, to string, share float64, stdout io.Writer) (provider *trace.TracerProvider, done func(), err error) {
	if share < 0 || share > 1 {
		return nil, nil, fmt.Errorf("-trace-share %g: a number from 0 to 1", share)
	}
	var exporter trace.SpanExporter
	closeFile := func() error { return nil }
	switch {
	case strings.HasPrefix(to, "http://"), strings.HasPrefix(to, "https://"):
		exporter, err = otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(to))
	case to == "-":
		exporter, err = stdouttrace.New(stdouttrace.WithWriter(stdout))
	default:
		file, openErr := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if openErr != nil {
			return nil, nil, fmt.Errorf("-traces: %w", openErr)
		}
		closeFile = file.Close
		exporter, err = stdouttrace.New(stdouttrace.WithWriter(file))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("-traces: %w", err)
	}
	provider = trace.NewTracerProvider(
		trace.WithBatcher(exporter, trace.WithBatchTimeout(time.Second)),
		trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(share))),
		trace.WithResource(resource.NewSchemaless(semconv.ServiceName("podplumb-ingress"))),
	)
	return provider, func() {
		const patience = 5 * time.Second
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		_ = provider.Shutdown(late)
		_ = closeFile()
	}, nil
}
