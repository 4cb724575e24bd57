package l7

import (
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"

	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/trace"
)

func itoa(n int) string { return strconv.Itoa(n) }

// spanName is of few different values, but for gRPC, whose methods are (OpenTelemetry's conventions for HTTP and RPC).
func (x *exchange) spanName() string {
	switch {
	case x.grpc:
		return strings.TrimPrefix(x.r.URL.Path, "/")
	case knownMethod(x.r.Method):
		return x.r.Method
	}
	return "HTTP"
}

func knownMethod(m string) bool {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// describe notes what a request is.
func (x *exchange) describe(s *trace.Span) {
	s.Set(
		attribute.String("http.request.method", x.r.Method), attribute.String("url.path", x.r.URL.Path),
		attribute.String("url.scheme", "http"), attribute.String("network.protocol.version", strings.TrimSuffix(x.r.Proto[len("HTTP/"):], ".0")),
		attribute.String("mesh.security", x.security()),
	)
	if host, port, err := net.SplitHostPort(x.r.Host); err == nil {
		s.Set(attribute.String("server.address", host))
		if n, err := strconv.Atoi(port); err == nil {
			s.Set(attribute.Int("server.port", n))
		}
	} else {
		s.Set(attribute.String("server.address", strings.Trim(x.r.Host, "[]")))
	}
	if x.to != nil {
		s.Set(attribute.String("mesh.destination", x.to.name))
	}
	if x.stream.Direction == stream.Inbound && !x.stream.Peer.IsZero() {
		s.Set(attribute.String("mesh.peer", x.stream.Peer.String()))
	}
	if x.stream.Direction == stream.Outbound {
		full := url.URL{Scheme: "http", Host: x.r.Host, Path: x.r.URL.Path, RawPath: x.r.URL.RawPath} // a query may hold secrets
		s.Set(attribute.String("url.full", full.String()))
		if x.last != nil {
			s.Set(attribute.String("network.peer.address", x.last.Address))
		}
	}
}

// failed notes what kind of error there was.
func failed(s *trace.Span, kind string) { s.Set(attribute.String("error.type", kind)) }

// endSpan ends the span of a try.
func (x *exchange) endSpan(response *http.Response, err error) {
	if !x.span.Recording() {
		x.span.End("")
		return
	}
	x.describe(x.span)
	if x.retries > 0 {
		x.span.Set(attribute.Int("http.request.resend_count", x.retries))
	}
	fault := ""
	if err != nil {
		a := answerTo(err)
		fault = a.text
		failed(x.span, a.error)
	} else if response != nil {
		x.span.Set(attribute.Int("http.response.status_code", response.StatusCode))
		if response.StatusCode >= 400 {
			fault = http.StatusText(response.StatusCode)
			failed(x.span, itoa(response.StatusCode))
		}
		if s := grpcStatusOf(response); s != "" {
			x.span.Set(attribute.String("rpc.response.status_code", s))
			if s != "0" {
				fault = "gRPC status " + s
				failed(x.span, s)
			}
		}
	}
	x.span.End(fault)
}

// serverSpan ends the span of an inbound request.
func (x *exchange) serverSpan() {
	if !x.span.Recording() {
		x.span.End("")
		return
	}
	x.describe(x.span)
	fault := ""
	if x.code > 0 {
		x.span.Set(attribute.Int("http.response.status_code", x.code))
		if x.code >= 500 {
			fault = http.StatusText(x.code)
			failed(x.span, itoa(x.code))
		}
	}
	if x.grpc {
		x.span.Set(attribute.String("rpc.response.status_code", x.grpcStatus))
	}
	if x.fault != nil {
		a := answerTo(x.fault)
		fault = a.text
		failed(x.span, a.error)
	}
	x.span.End(fault)
}

func (x *exchange) security() string {
	if x.stream.Direction == stream.Inbound && !x.stream.Peer.IsZero() || x.stream.Direction == stream.Outbound && x.last != nil && x.last.Secure {
		return "mtls"
	}
	return "plaintext"
}
