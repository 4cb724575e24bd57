package l7

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

// answer is what the proxy itself says to a request.
type answer struct {
	code  int
	error string // of Proxy-Status (RFC 9209, 2.3)
	text  string
	cause error
}

func (a *answer) Error() string { return a.text }

func (a *answer) Unwrap() error { return a.cause }

// Error types that the proxy of the other side acts on.
const (
	proxyStatus = "podplumb; error="
	unreached   = "connection_refused"       // the application saw nothing of the request
	broke       = "http_response_incomplete" // it ended the connection
)

const statusClientClosed = 499 // what is counted of a request whose client went away

var (
	errRequestTime = errors.New("the request took longer than its route allows")
	errTryTime     = errors.New("the backend took longer than the route allows for one try")

	noRoute       = &answer{code: http.StatusNotFound, error: "destination_not_found", text: "no rule of the Service's routes matches"}
	noBackend     = &answer{code: http.StatusInternalServerError, error: "proxy_configuration_error", text: "the rule has no backend that can be served"}
	noEndpoints   = &answer{code: http.StatusServiceUnavailable, error: "destination_unavailable", text: "the backend has no ready endpoint"}
	circuitOpen   = &answer{code: http.StatusServiceUnavailable, error: "destination_unavailable", text: "the circuits of all endpoints are open"}
	overflow      = &answer{code: http.StatusServiceUnavailable, error: "connection_limit_reached", text: "too many requests are under way to this destination"}
	forbidden     = &answer{code: http.StatusForbidden, error: "http_request_denied", text: "the identity may not make this request"}
	notConnect    = &answer{code: http.StatusNotImplemented, error: "http_request_denied", text: "CONNECT is not served over HTTP/2"}
	shortBody     = &answer{code: http.StatusBadRequest, error: "http_request_error", text: "the body of the request ended too early"}
	unprocessable = &answer{code: http.StatusBadRequest, error: "http_request_error", text: "the request has no path"}
)

// answerTo is what a request is told that failed with an error.
func answerTo(err error) *answer {
	var own *answer
	if errors.As(err, &own) {
		return own
	}
	var body *upstream.BodyError
	var notSent *upstream.NotSent
	switch {
	case errors.Is(err, errRequestTime), errors.Is(err, errTryTime):
		return &answer{http.StatusGatewayTimeout, "http_response_timeout", err.Error(), err}
	case errors.As(err, &body):
		return shortBody
	case errors.Is(err, upstream.ErrOverflow):
		return overflow
	case errors.As(err, &notSent) && errors.Is(err, context.DeadlineExceeded):
		return &answer{http.StatusServiceUnavailable, "connection_timeout", "no connection to the backend could be made in time", err}
	case errors.As(err, &notSent):
		return &answer{http.StatusServiceUnavailable, unreached, "no connection to the backend could be made", err}
	}
	return &answer{http.StatusBadGateway, broke, "the backend ended the connection before it answered", err}
}

// grpcStatus is the code of gRPC for an answer (https://grpc.github.io/grpc/core/md_doc_http-grpc-status-mapping.html,
// but a time that ran out is told as such).
func (a *answer) grpcStatus() int {
	switch a.code {
	case http.StatusBadRequest:
		return 13
	case http.StatusForbidden:
		return 7
	case http.StatusNotFound, http.StatusNotImplemented:
		return 12
	case http.StatusGatewayTimeout:
		return 4
	case http.StatusInternalServerError:
		return 2
	}
	return 14
}

// write answers.
func (a *answer) write(w http.ResponseWriter, grpc bool) {
	h := w.Header()
	h.Set("Proxy-Status", proxyStatus+a.error)
	if grpc {
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", strconv.Itoa(a.grpcStatus()))
		h.Set("Grpc-Message", percent(a.text))
		w.WriteHeader(http.StatusOK)
		return
	}
	http.Error(w, a.text, a.code)
}

// percent encodes a message as gRPC wants it.
func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
