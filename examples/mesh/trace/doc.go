// Package trace makes spans of what a mesh's proxies do and exports them with
// OpenTelemetry: over OTLP (gRPC or HTTP), into a file of OTLP/JSON lines that
// Read and Trace.String show as trees, or both.
//
// Contexts come and go as W3C Trace Context and as B3, in one header or in
// several. What a request brought is what it takes along, besides what the
// configuration adds; W3C always is, so that whatever the application forwards is
// enough. W3C counts when there are both. Baggage and tracestate pass as they are;
// a tracestate without a valid traceparent does not (https://www.w3.org/TR/trace-context).
//
// A trace is recorded if the proxy that began it said so, or if a client asked
// for it; a proxy begins one for a request that belongs to none, and records its
// share (Config.Ratio).
package trace
