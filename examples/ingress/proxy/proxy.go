package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/podplumb/podplumb/examples/ingress/route"
	"github.com/podplumb/podplumb/examples/ingress/strict"
	"github.com/podplumb/podplumb/examples/ingress/upstream"
)

// statusClientClosed is what is noted of a request whose client went away.
const statusClientClosed = 499

// Proxy is the handler. Make it with New.
type Proxy struct {
	snapshot  atomic.Pointer[Snapshot]
	transport *upstream.Transport
	reverse   *httputil.ReverseProxy
	metrics   *Metrics
	access    *slog.Logger
	limits    limits
	mirrors   chan struct{} // holds a token for each mirrored request under way

	// BodyTimeout is how long a client of HTTP/1 may send nothing of a body that it has announced. Default a minute; set it
	// before the Proxy serves.
	BodyTimeout time.Duration

	// AnswerTimeout is how long a backend may take to begin its answer to a request of an Ingress, from the last of the request on.
	// Default a minute; 0 is as long as it takes.
	AnswerTimeout time.Duration
}

// New returns a Proxy that carries requests with the transport. Metrics and the access log may be nil.
func New(transport *upstream.Transport, metrics *Metrics, access *slog.Logger) *Proxy {
	p := &Proxy{transport: transport, metrics: metrics, access: access, mirrors: make(chan struct{}, mirrorMost), BodyTimeout: time.Minute, AnswerTimeout: time.Minute}
	p.snapshot.Store(&Snapshot{})
	p.reverse = &httputil.ReverseProxy{
		Rewrite:   rewrite,
		Transport: carrier{p},
		ModifyResponse: func(r *http.Response) error {
			on, _ := r.Request.Context().Value(key{}).(*passage)
			if r.StatusCode == http.StatusSwitchingProtocols {
				if c := strict.From(r.Request.Context()); c != nil && strings.EqualFold(r.Header.Get("Upgrade"), r.Request.Header.Get("Upgrade")) {
					c.Switch()
				}
				on.writer.code = r.StatusCode // the reverse proxy writes it to the connection itself
			}
			r.Header.Del(requestID) // the client gets ours
			if len(r.Trailer) > 0 { // with a length HTTP/1.1 has no place for them
				r.Header.Del("Content-Length")
			}
			if on.attached != nil {
				on.respond(r)
			}
			return nil
		},
		BufferPool:   new(buffers),
		ErrorHandler: failed,
		ErrorLog:     log.New(io.Discard, "", 0), // the access log has what happens
	}
	return p
}

// Set has requests from now on treated by s.
func (p *Proxy) Set(s *Snapshot) { p.snapshot.Store(s) }

// Certificate is for tls.Config.GetCertificate.
func (p *Proxy) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return p.snapshot.Load().Certificates.Find(hello.ServerName)
}

// passage is a request on its way through.
type passage struct {
	snapshot  *Snapshot
	rule      *route.Rule
	backend   route.Backend
	err       error
	writer    *recorder
	id        string         // of the request
	endpoint  netip.AddrPort // that it was sent to last
	waited    time.Duration  // until the first of the response
	patience  *patience      // of HTTP/1 with a body
	*attached                // nil: an Ingress's
}

type key struct{}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	on := &passage{snapshot: p.snapshot.Load(), id: identify(w, r)}
	r = r.WithContext(context.WithValue(r.Context(), key{}, on))
	seen := &recorder{ResponseWriter: w}
	on.writer = seen
	underWay := p.metrics.begin()
	defer func() { // the reverse proxy panics when a response ends before its time
		underWay()
		code := seen.status()
		if errors.Is(on.err, context.Canceled) && r.Context().Err() != nil {
			code = statusClientClosed
		}
		took := time.Since(begin)
		p.metrics.end(on, r, code, took)
		p.log(on, r, code, seen.written, took)
	}()
	on.patience = p.patient(seen, r)
	p.serve(seen, r, on)
	on.patience.takeLeave(seen, r)
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, on *passage) {
	if up := r.Header["Upgrade"]; len(up) > 1 || len(up) == 1 && !strings.EqualFold(up[0], "websocket") {
		http.Error(w, "an upgrade to anything but a WebSocket is refused", http.StatusBadRequest)
		return
	}
	if r.Method == http.MethodConnect {
		http.Error(w, "this is no proxy to other places", http.StatusMethodNotAllowed)
		return
	}
	if fault := malformed(r); fault != "" {
		answer(w, r, http.StatusBadRequest, fault)
		return
	}
	if clean(r) {
		if address, ok := r.Context().Value(at{}).(netip.AddrPort); ok {
			p.serveGateway(w, r, on, address)
			return
		}
		on.rule = on.snapshot.Routes.Find(r, hostOf(r))
	}
	if on.rule == nil {
		answer(w, r, http.StatusNotFound, "no rule for this host and path")
		return
	}
	nameServer(r, on)
	if !p.admit(w, r, on.rule.Origin, on.rule.Limits) {
		return
	}
	var ok bool
	if on.backend, ok = choose(on.rule.To.Backends); !ok {
		answer(w, r, http.StatusInternalServerError, "the rule has no backend")
		return
	}
	p.reverse.ServeHTTP(w, r)
}

func hostOf(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return r.Host
}

// choose draws a backend by weight.
func choose(backends []route.Weighted) (route.Backend, bool) {
	sum := 0
	for i := range backends {
		sum += backends[i].Weight
	}
	if sum == 0 {
		return route.Backend{}, false
	}
	at := 0
	if len(backends) > 1 {
		at = rand.IntN(sum) //nolint:gosec // shares of requests
	}
	for i := range backends {
		if at -= backends[i].Weight; at < 0 {
			return backends[i].Backend, true
		}
	}
	return route.Backend{}, false
}

// rewrite makes the request for the backend: the same, and where it came from.
func rewrite(r *httputil.ProxyRequest) {
	r.SetXForwarded()
	r.Out.URL.RawQuery = r.In.URL.RawQuery // the reverse proxy takes out what Go does not understand, such as semicolons
	r.Out.Header.Del("X-Real-Ip")
	r.Out.Host = r.In.Host
	r.Out.URL.Host = r.In.Host // the carrier puts the endpoint's address there
	if strict.From(r.In.Context()) != nil && r.In.TLS == nil && Secure(r.In.Context()) {
		r.Out.Header.Set("X-Forwarded-Proto", "https")
	}
	if r.In.Header.Get("User-Agent") == "" {
		r.Out.Header.Set("User-Agent", "") // none is none
	}
	if on, ok := r.In.Context().Value(key{}).(*passage); ok && on.attached != nil {
		on.rewrite(r)
	}
}

// carrier is the transport of the reverse proxy.
type carrier struct{ *Proxy }

// RoundTrip implements http.RoundTripper.
func (c carrier) RoundTrip(r *http.Request) (*http.Response, error) {
	on, _ := r.Context().Value(key{}).(*passage)
	send := func() (*http.Response, error) {
		return within(c.AnswerTimeout, r, func(r *http.Request) (*http.Response, error) {
			return c.transport.RoundTrip(r, on.snapshot.Endpoints, on.backend, &on.endpoint)
		})
	}
	if on.attached != nil {
		send = func() (*http.Response, error) { return c.try(r, on) }
	}
	on.patience.bothWays()
	begin := time.Now()
	response, err := send()
	on.waited, on.err = time.Since(begin), err
	nameClient(r.Context(), on.endpoint)
	if err == nil && response.ContentLength > 0 && response.StatusCode != http.StatusSwitchingProtocols {
		response.Body = &prompt{ReadCloser: response.Body, to: on.writer, left: response.ContentLength} // without a length the reverse proxy passes all on as it comes
	}
	return response, err
}

// failed answers a request that no endpoint did.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	code, text := http.StatusBadGateway, "the backend could not be reached"
	var timeout net.Error
	switch {
	case errors.Is(err, upstream.ErrNoService), errors.Is(err, upstream.ErrNoEndpoints):
		code, text = http.StatusServiceUnavailable, "the backend has no endpoints"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		code, text = http.StatusGatewayTimeout, "the backend did not answer in time"
	}
	if on, ok := r.Context().Value(key{}).(*passage); ok {
		on.err = err
		if on.patience != nil && on.patience.broken.Load() != 0 {
			code, text = int(on.patience.broken.Load()), "the body of the request does not end"
		}
	}
	answer(w, r, code, text)
}

type secure struct{}

// WithSecure marks the requests of a connection whose TLS was taken off before the server.
func WithSecure(ctx context.Context) context.Context { return context.WithValue(ctx, secure{}, true) }

// Secure says whether a request came over TLS.
func Secure(ctx context.Context) bool { return ctx.Value(secure{}) != nil }
