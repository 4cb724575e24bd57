package l7

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/podplumb/podplumb/examples/internal/httproute"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/trace"
	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

// longestRest is how many bytes of a response that nobody wants are read, in place of closing its connection.
const longestRest = 4 << 10

// handler serves the requests of one stream.
type handler struct {
	proxy  *Proxy
	stream *stream.Stream
	conn   *served
}

// exchange is one request and its response.
type exchange struct {
	*handler
	w     http.ResponseWriter
	r     *http.Request
	begin time.Time
	grpc  bool
	ws    bool // asks to become a WebSocket
	body  *replay

	to      *destination
	parent  trace.Parent
	rule    *httproute.Rule
	changes []*httproute.Headers
	cors    *httproute.CORS
	retry   *httproute.Retry
	perTry  time.Duration
	cancel  context.CancelFunc // of the time for all of it

	turn    *upstream.Turn
	last    *upstream.Endpoint // that was tried
	endTry  context.CancelFunc
	span    *trace.Span
	current *try
	retries int

	code       int // of the response
	grpcStatus string
	received   int64 // bytes of the request's body
	sent       int64 // of the response's
	fault      error
	abort      bool
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{handler: h, w: w, r: r, begin: time.Now(), grpc: r.ProtoMajor == 2 && isGRPC(r.Header)}
	if h.proxy.config.Metrics != nil {
		h.proxy.config.Metrics.underWay.Inc()
		defer h.proxy.config.Metrics.underWay.Dec()
	}
	x.serve()
	x.account()
	if x.abort {
		panic(http.ErrAbortHandler) // the client sees that it has not all
	}
}

func (x *exchange) serve() {
	r := x.r
	if r.Method == http.MethodConnect && r.ProtoMajor == 2 {
		x.fail(notConnect)
		return
	}
	x.ws = asksWebSocket(r)
	clean(r.Header, x.ws)
	delete(r.Header, "X-Forwarded-Client-Cert") // only the proxy in front of an application says that
	if r.Method != http.MethodConnect {
		if r.URL.Path == "" && !r.URL.IsAbs() {
			x.fail(unprocessable)
			return
		}
		resolveDots(r)
	}
	if r.URL.Host == "" { // transports ask for it
		r.URL.Host = r.Host
	}
	if r.URL.Scheme == "" {
		r.URL.Scheme = "http"
	}
	if _, ok := r.Header["User-Agent"]; !ok {
		r.Header["User-Agent"] = nil // none is none
	}
	x.parent = x.proxy.config.Tracer.Extract(r.Header)
	if r.ContentLength == 0 { // the server of HTTP/2 has a body even then
		r.Body = http.NoBody
	} else {
		x.body = &replay{from: r.Body}
		if r.ProtoMajor == 1 {
			_ = http.NewResponseController(x.w).EnableFullDuplex() // else the server reads the body before it answers
		}
		defer x.endBody()
	}
	if x.stream.Direction == stream.Inbound {
		x.inbound()
	} else {
		x.outbound()
	}
	if x.cancel != nil {
		x.cancel()
	}
}

// endBody has nobody read the body any more when the handler ends.
func (x *exchange) endBody() {
	x.received += x.body.total.Load()
	if x.current != nil {
		x.current.over.Store(true)
	}
	switch {
	case x.body.ended.Load():
	case x.r.ProtoMajor == 2:
		_ = x.body.from.Close()
	case x.body.mu.TryLock(): // nobody reads: the server takes what is left, if that is not much, and the next request
		x.body.mu.Unlock()
	default: // it could not get at the body; there is no next request after that
		_ = http.NewResponseController(x.w).SetReadDeadline(time.Unix(1, 0))
	}
}

// fail answers by the proxy itself.
func (x *exchange) fail(err error) {
	x.fault = err
	if x.gone() {
		x.code, x.abort = statusClientClosed, true
		return
	}
	a := answerTo(err)
	x.code = a.code
	if x.grpc {
		x.grpcStatus = itoa(a.grpcStatus())
	}
	a.write(x.w, x.grpc)
}

// gone says whether the client went away.
func (x *exchange) gone() bool {
	cause := context.Cause(x.r.Context())
	return cause != nil && !errors.Is(cause, errRequestTime)
}

// pass carries the request and gives the response, whatever becomes of it.
func (x *exchange) pass() {
	defer x.to.underWay.Add(-1)
	defer x.endTurn(upstream.Neither, nil, nil) // whatever happens
	if x.to.underWay.Add(1) > int64(x.proxy.config.Requests) {
		x.fail(overflow)
		return
	}
	response, err := x.carry()
	if err != nil {
		x.endTurn(x.blame(nil, err), nil, err)
		x.fail(err)
		return
	}
	x.respond(response)
}

// carry sends the request and returns the response, after as many tries as there may be.
func (x *exchange) carry() (*http.Response, error) {
	d := x.to
	d.budget.Request(x.begin)
	if x.body != nil && (x.r.ProtoMajor == 2 || x.mayRepeat()) { // HTTP/2 tells of requests that it never looked at
		x.body.keep = bodyReplay
	}
	var tried []*upstream.Endpoint
	for {
		list := d.known.Load().list
		if len(list) == 0 {
			return nil, noEndpoints
		}
		if x.turn = upstream.Pick(list, tried, time.Now()); x.turn == nil {
			return nil, circuitOpen
		}
		x.last = x.turn.Endpoint
		tried = append(tried, x.last)
		response, err := x.try()
		if !x.again(response, err) {
			return response, err
		}
		if response != nil {
			if n := response.ContentLength; n > 0 && n <= longestRest {
				_, _ = io.Copy(io.Discard, response.Body) // which leaves the connection to the next
			}
			response.Body.Close()
		}
		x.endTurn(x.blame(response, err), response, err)
		if !x.wait() {
			return nil, context.Cause(x.r.Context())
		}
		x.retries++
	}
}

// try sends the request once.
func (x *exchange) try() (*http.Response, error) {
	ctx, r := x.r.Context(), x.r
	if x.perTry > 0 {
		ctx, x.endTry = context.WithTimeoutCause(ctx, x.perTry, errTryTime)
		r = r.WithContext(ctx)
	}
	if x.body != nil {
		if r == x.r {
			r = r.WithContext(ctx)
		}
		body, err := x.newBody()
		if err != nil {
			return nil, err
		}
		r.Body = body
		r.GetBody = x.newBody // after a GOAWAY or REFUSED_STREAM
	}
	if x.stream.Direction == stream.Outbound {
		x.span = x.proxy.config.Tracer.Start(x.parent, oteltrace.SpanKindClient, x.spanName())
		x.span.Inject(r.Header)
	}
	h := hints{x: x}
	defer h.end()
	return x.turn.Endpoint.RoundTrip(r, h.pass)
}

// newBody has the body read from its beginning, if that is still there.
func (x *exchange) newBody() (io.ReadCloser, error) {
	if x.current != nil {
		x.current.over.Store(true)
	}
	if !x.body.again() {
		return nil, errTryOver
	}
	x.current = &try{body: x.body}
	return x.current, nil
}

// hints passes on responses such as "103 Early Hints", as long as there is no final one: HTTP/2's come from another goroutine.
type hints struct {
	x    *exchange
	mu   sync.Mutex
	over bool
}

func (h *hints) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
}

func (h *hints) pass(code int, header http.Header) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over && h.x.r.ProtoAtLeast(1, 1) {
		h.x.informational(code, header)
	}
	return nil
}

func (x *exchange) informational(code int, header http.Header) {
	h := x.w.Header()
	for name, values := range header {
		h[name] = values
	}
	clean(h, false)
	x.w.WriteHeader(code)
	for name := range header {
		delete(h, name)
	}
}

// endTurn tells the endpoint how the try ended.
func (x *exchange) endTurn(v upstream.Verdict, response *http.Response, err error) {
	if x.turn == nil {
		return
	}
	to, changed := x.turn.End(v)
	x.turn = nil
	if changed {
		x.proxy.config.Metrics.circuit(x, to)
	}
	if x.current != nil {
		x.current.over.Store(true)
	}
	if x.stream.Direction == stream.Outbound {
		x.endSpan(response, err)
	}
	if x.endTry != nil {
		x.endTry()
		x.endTry = nil
	}
}

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
		fault = answerTo(err).text
	} else if response != nil {
		x.span.Set(attribute.Int("http.response.status_code", response.StatusCode))
		if response.StatusCode >= 400 {
			fault = http.StatusText(response.StatusCode)
		}
		if s := grpcStatusOf(response); s != "" {
			x.span.Set(attribute.String("rpc.response.status_code", s))
			if s != "0" {
				fault = "gRPC status " + s
			}
		}
	}
	x.span.End(fault)
}

// verdict says whether the endpoint is to blame.
func verdict(response *http.Response, err error) upstream.Verdict {
	switch {
	case err == nil && response.StatusCode >= 500 && response.StatusCode != http.StatusNotImplemented:
		return upstream.Failure
	case err == nil && slices.Contains(faulty, grpcStatusOf(response)):
		return upstream.Failure
	case err == nil:
		return upstream.Success
	}
	var body *upstream.BodyError
	switch {
	case errors.As(err, &body), errors.Is(err, context.Canceled), errors.Is(err, upstream.ErrOverflow), errors.Is(err, errRequestTime), errors.Is(err, upstream.ErrClosed):
		return upstream.Neither
	}
	return upstream.Failure
}

// faulty are the codes of gRPC that blame the server: unknown, deadline exceeded, internal, unavailable, data loss.
var faulty = []string{"2", "4", "13", "14", "15"}

// grpcStatusOf is the code in the trailers, once they are there, or in the headers of a response that has nothing else.
func grpcStatusOf(response *http.Response) string {
	if s := response.Trailer["Grpc-Status"]; len(s) > 0 {
		return s[0]
	}
	if s := response.Header["Grpc-Status"]; len(s) > 0 {
		return s[0]
	}
	return ""
}

// copies are buffers for bodies.
var copies = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}
