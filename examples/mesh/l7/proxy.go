package l7

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/podplumb/podplumb/examples/ingress/strict"
	"github.com/podplumb/podplumb/examples/internal/httproute"
	"github.com/podplumb/podplumb/examples/mesh/routes"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/trace"
	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

// Times of connections that clients made.
const (
	headWait   = time.Minute      // for the head of a request from elsewhere; the pod's own application may open connections in advance
	idleWait   = time.Hour        // longer than any proxy keeps its own idle connections
	pingWait   = 30 * time.Second // without a word on HTTP/2, then a PING, then the end
	bodyReplay = 64 << 10         // bytes of a request's body that are kept for another try
)

// Config says whose proxy it is and what it works with.
type Config struct {
	Workload *stream.Workload // the pod
	Resolver stream.Resolver
	Dialer   stream.Dialer

	Routes  func() *routes.Table // asked for each request; nil: no routes
	Tracer  *trace.Tracer        // nil: no traces
	Metrics *Metrics             // nil: none

	// Allow says whether an inbound request may come to the application; nil: all may. The identity is zero for a request
	// that came in clear.
	Allow func(peer spiffeid.ID, r *http.Request) bool

	Connections int                    // to an endpoint, over HTTP/1.1; 0: 1024
	Pending     int                    // requests that wait for one of them; 0: 1024
	Requests    int                    // under way to a destination; 0: 8192
	Breaker     upstream.BreakerConfig // of each endpoint
	Budget      upstream.BudgetConfig  // of each destination
	Retry       *httproute.Retry       // for rules without one, and idempotent methods and gRPC only; nil: none
}

// Proxy serves the requests of one pod. Make it with New.
type Proxy struct {
	config Config

	destinations sync.Map // of *destination by destinationKey
	mu           sync.Mutex
	endpoints    map[endpointKey]*shared
	sweep        *time.Timer
	closed       bool
	draws        draws
	mirrors      chan struct{}
}

var _ stream.Handler = (*Proxy)(nil)

// New makes a Proxy.
func New(config Config) *Proxy {
	if config.Requests == 0 {
		config.Requests = 8192
	}
	if config.Routes == nil {
		config.Routes = func() *routes.Table { return nil }
	}
	return &Proxy{config: config, endpoints: map[endpointKey]*shared{}, mirrors: make(chan struct{}, mostMirrors)}
}

var discard = log.New(io.Discard, "", 0) // what happens to requests is counted and traced

// ServeStream implements stream.Handler.
func (p *Proxy) ServeStream(ctx context.Context, s *stream.Stream) error {
	c := &served{strict: strict.NewConn(s.Conn), closed: make(chan struct{}), reads: s.Reads}
	c.Conn = c.strict
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // what is declared need not be what this client speaks
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:     &handler{proxy: p, stream: s, conn: c},
		Protocols:   protocols,
		IdleTimeout: idleWait,
		ErrorLog:    discard,
		BaseContext: func(net.Listener) context.Context { return ctx },
		HTTP2:       &http.HTTP2Config{SendPingTimeout: pingWait, PingTimeout: pingWait},

		DisableGeneralOptionsHandler: true, // OPTIONS * asks the application
	}
	if s.Direction == stream.Inbound {
		server.ReadHeaderTimeout = headWait
	}
	if err := server.Serve(&one{served: c, draining: s.Draining}); errors.Is(err, errDraining) {
		_ = server.Shutdown(ctx) // requests under way end; HTTP/2 clients are told to go away
	}
	select {
	case <-c.closed:
	case <-ctx.Done():
	}
	c.Close()
	return c.err()
}

var errDraining = errors.New("the proxy ends")

// one is a listener for one connection.
type one struct {
	served   *served
	draining <-chan struct{}
	given    bool
}

// Accept implements net.Listener.
func (o *one) Accept() (net.Conn, error) {
	if !o.given {
		o.given = true
		return o.served, nil
	}
	select {
	case <-o.served.closed:
		return nil, net.ErrClosed
	case <-o.draining:
		return nil, errDraining
	}
}

// Close implements net.Listener.
func (o *one) Close() error { return nil }

// Addr implements net.Listener.
func (o *one) Addr() net.Addr { return o.served.LocalAddr() }

// Renew lets connections to endpoints end with the requests that they have. Call it when the pod's identity or the roots
// that it trusts have changed.
func (p *Proxy) Renew() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.endpoints {
		e.Renew()
	}
}

// Close closes the connections to endpoints that have no request. Streams are ended by their contexts.
func (p *Proxy) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.sweep != nil {
		p.sweep.Stop()
	}
	for _, e := range p.endpoints {
		e.Endpoint.Close()
	}
}
