package proxy

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strconv"
	"time"

	"github.com/podplumb/podplumb/examples/ingress/gateway"
	"github.com/podplumb/podplumb/examples/ingress/route"
	"github.com/podplumb/podplumb/examples/ingress/strict"
	"github.com/podplumb/podplumb/examples/internal/httproute"
)

// attached is what a passage has more when it comes through a Gateway.
type attached struct {
	match  *httproute.Match
	port   *gateway.Port
	chosen *httproute.Backend
	body   *shared // nil: nobody else reads it
	stop   func()  // of the timeout of the whole; nil: none
}

type at struct{}

// WithAddress marks the requests that come in at an address that Gateways listen on.
func WithAddress(ctx context.Context, address netip.AddrPort) context.Context {
	return context.WithValue(ctx, at{}, address)
}

// CertificateAt is for tls.Config.GetCertificate at an address that Gateways listen on.
func (p *Proxy) CertificateAt(address netip.AddrPort) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		port := p.snapshot.Load().Ports[address]
		if port == nil {
			return nil, errNoCertificate
		}
		l, ok := port.Listeners.Find(hello.ServerName)
		if !ok || len(l.Certificates) == 0 {
			return nil, errNoCertificate
		}
		for _, c := range l.Certificates {
			if hello.SupportsCertificate(c) == nil {
				return c, nil
			}
		}
		return l.Certificates[0], nil
	}
}

// serverName is the name that the client of a TLS connection asked for.
func serverName(r *http.Request) (string, bool) {
	if r.TLS != nil {
		return r.TLS.ServerName, true
	}
	if c := strict.From(r.Context()); c != nil {
		if secure, ok := c.Conn.(*tls.Conn); ok {
			return secure.ConnectionState().ServerName, true
		}
	}
	return "", false
}

// serveGateway leads a request that came in at an address of a Gateway. Its path is clean.
func (p *Proxy) serveGateway(w http.ResponseWriter, r *http.Request, on *passage, address netip.AddrPort) {
	port := on.snapshot.Ports[address]
	if port == nil {
		answer(w, r, http.StatusNotFound, "no Gateway listens here any more")
		return
	}
	host := hostOf(r)
	l, ok := port.Listeners.Find(host)
	if name, secure := serverName(r); secure && port.TLS {
		if other, _ := port.Listeners.Find(name); other != l {
			answer(w, r, http.StatusMisdirectedRequest, "the connection was made for another listener")
			return
		}
	}
	var match *httproute.Match
	if ok {
		match = l.Routes.Find(r, host)
	}
	if match == nil {
		answer(w, r, http.StatusNotFound, "no rule for this host and path")
		return
	}
	on.attached = &attached{match: match, port: port}
	nameServer(r, on)
	if !p.admit(w, r, match.Origin, route.Limits{}) {
		return
	}
	if p.answered(w, r, on) {
		return
	}
	on.chosen = match.Draw(rand.IntN)
	switch {
	case match.Err != nil:
		on.err = match.Err
	case on.chosen != nil && on.chosen.Err != nil:
		on.err = on.chosen.Err
	}
	if on.err != nil || on.chosen == nil {
		answer(w, r, http.StatusInternalServerError, "the rule has no valid backend")
		return
	}
	on.backend = backendOf(on.chosen.Target)
	if limit := match.Timeouts.Request; limit > 0 {
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		timer := time.AfterFunc(limit, func() { cancel(context.DeadlineExceeded) })
		defer timer.Stop()
		on.stop = func() { timer.Stop() }
		r = r.WithContext(ctx)
	}
	defer func() {
		if on.body != nil {
			on.body.end()
		}
	}()
	p.reverse.ServeHTTP(w, r)
}

// answered says whether a filter answers the request, and has it do so.
func (p *Proxy) answered(w http.ResponseWriter, r *http.Request, on *passage) bool {
	filters := &on.match.Filters
	if filters.CORS != nil && filters.CORS.Preflight(r) {
		filters.CORS.AnswerPreflight(w.Header(), r)
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	if filters.Redirect == nil {
		return false
	}
	scheme := "http"
	if on.port.TLS {
		scheme = "https"
	}
	w.Header().Set("Location", filters.Redirect.Location(r, scheme, on.port.Number, on.match.Prefix))
	filters.Response.Apply(w.Header())
	if filters.CORS != nil {
		filters.CORS.Apply(w.Header(), r)
	}
	w.WriteHeader(filters.Redirect.Code)
	return true
}

func backendOf(t httproute.Target) route.Backend {
	return route.Backend{Namespace: t.Namespace, Service: t.Service, Port: strconv.Itoa(int(t.Port))}
}

// rewrite changes the request as the filters of the rule and then those of the backend say.
func (a *attached) rewrite(r *httputil.ProxyRequest) {
	for _, filters := range []*httproute.Filters{&a.match.Filters, &a.chosen.Filters} {
		filters.Request.Apply(r.Out.Header)
		if host, ok := filters.Request.Host(); ok {
			r.Out.Host = host
		}
		if filters.Rewrite == nil {
			continue
		}
		r.Out.URL.Path, r.Out.URL.RawPath = filters.Rewrite.Path.Apply(r.In.URL, a.match.Prefix)
		if filters.Rewrite.Hostname != "" {
			r.Out.Host = filters.Rewrite.Hostname
		}
	}
}

// respond changes the response.
func (a *attached) respond(r *http.Response) {
	a.match.Filters.Response.Apply(r.Header)
	a.chosen.Filters.Response.Apply(r.Header)
	if a.match.Filters.CORS != nil {
		a.match.Filters.CORS.Apply(r.Header, r.Request)
	}
	if r.StatusCode == http.StatusSwitchingProtocols && a.stop != nil {
		a.stop()
	}
}
