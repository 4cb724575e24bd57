package l7

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/podplumb/podplumb/examples/internal/httproute"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/trace"
	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

// longestRest is how many bytes of a response that nobody wants are read, in place of closing its connection.
const longestRest = 4 << 10

// How much of a body, and for how long, is taken after the response.
const (
	lingerBytes = 256 << 10
	lingerTime  = 500 * time.Millisecond
)

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

	duplex bool // the response does not wait for the end of the request

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
	case x.duplex:
		x.linger()
	}
}

// linger takes what is left of the body after the response, if that is little and comes soon: so the client can read the
// response, and send its next request. The server of net/http does that by itself for requests that nobody began to carry, but
// after EnableFullDuplex it must not find the end of a body on its own: it would read twice at the same time.
func (x *exchange) linger() {
	if x.r.Header["Expect"] != nil && x.body.total.Load() == 0 && x.body.mu.TryLock() {
		x.body.mu.Unlock() // the client waits to be asked for the body, and a read would ask
		return
	}
	control := http.NewResponseController(x.w)
	past := time.Unix(1, 0)
	if x.abort || control.Flush() != nil {
		_ = control.SetReadDeadline(past) // there is no next request after that
		return
	}
	_ = control.SetReadDeadline(time.Now().Add(lingerTime))
	x.body.mu.Lock() // after a read that is under way
	defer x.body.mu.Unlock()
	err := x.body.err
	if err == nil {
		_, err = io.CopyN(io.Discard, x.body.from, lingerBytes)
	}
	if errors.Is(err, io.EOF) {
		past = time.Time{}
	}
	_ = control.SetReadDeadline(past)
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
		if r.ProtoMajor == 1 && !x.duplex {
			x.duplex = http.NewResponseController(x.w).EnableFullDuplex() == nil // else the server reads the body before it answers
		}
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

// copies are buffers for bodies.
var copies = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}
