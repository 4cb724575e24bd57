package l7

import (
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/podplumb/podplumb/examples/internal/httproute"
	"github.com/podplumb/podplumb/examples/mesh/stream"
)

// outbound serves a request that the pod sends.
func (x *exchange) outbound() {
	p := x.proxy
	backend := p.config.Resolver.Resolve(x.stream.Destination)
	var table *httproute.Table
	if backend.Service != nil {
		table = p.config.Routes().Find(p.config.Workload.Namespace, backend.Service, backend.Port.Number)
	}
	if table != nil {
		if !x.routed(table) {
			return
		}
	} else {
		x.retry = p.config.Retry
		x.to = p.to(x.stream, backend)
	}
	x.pass()
}

// to is the destination of what is behind an address.
func (p *Proxy) to(s *stream.Stream, backend stream.Backend) *destination {
	key := destinationKey{port: backend.Port.Number, is6: s.Destination.Addr().Is6()}
	switch {
	case backend.Service != nil:
		key.service = *backend.Service
	default:
		key.address = s.Destination
	}
	at := s.Destination
	if v, ok := p.destinations.Load(key); ok { // without making what is known already
		return p.destination(key, v.(*destination).name, backend, nil)
	}
	return p.destination(key, nameOf(backend), backend, func() (stream.Backend, bool) { return p.config.Resolver.Resolve(at), true })
}

// backend is the destination that a rule names.
func (p *Proxy) backend(s *stream.Stream, t httproute.Target) (*destination, bool) {
	like := s.Destination.Addr()
	b, ok := p.config.Resolver.Service(t.Namespace, t.Service, t.Port, like)
	if !ok {
		return nil, false
	}
	key := destinationKey{service: stream.Service{Namespace: t.Namespace, Name: t.Service}, port: t.Port, is6: like.Is6()}
	if v, ok := p.destinations.Load(key); ok {
		return p.destination(key, v.(*destination).name, b, nil), true
	}
	return p.destination(key, nameOf(b), b, func() (stream.Backend, bool) {
		return p.config.Resolver.Service(t.Namespace, t.Service, t.Port, like)
	}), true
}

// routed finds the rule of a request and applies it. It is false if the request is answered already.
func (x *exchange) routed(table *httproute.Table) bool {
	r := x.r
	match := table.Find(r, hostOf(r.Host))
	if match == nil {
		x.fail(noRoute)
		return false
	}
	x.rule = match.Rule
	if x.rule.Err != nil {
		x.fail(noBackend)
		return false
	}
	filters := &x.rule.Filters
	if c := filters.CORS; c != nil {
		if c.Preflight(r) {
			c.AnswerPreflight(x.w.Header(), r)
			x.code = http.StatusNoContent
			x.w.WriteHeader(x.code)
			return false
		}
		x.cors = c
	}
	if d := filters.Redirect; d != nil {
		x.code = d.Code
		x.w.Header().Set("Location", d.Location(r, "http", x.stream.Destination.Port(), match.Prefix))
		x.w.WriteHeader(x.code)
		return false
	}
	if d := x.rule.Timeouts.Request; d > 0 {
		var ctx context.Context
		ctx, x.cancel = context.WithTimeoutCause(r.Context(), d, errRequestTime)
		x.r = r.WithContext(ctx)
	}
	x.perTry, x.retry = x.rule.Timeouts.BackendRequest, x.rule.Retry
	if x.retry == nil {
		x.retry = x.proxy.config.Retry
	}
	backend := x.rule.Draw(x.proxy.draws.of(x.rule))
	if backend == nil || backend.Err != nil {
		x.fail(noBackend)
		return false
	}
	var ok bool
	if x.to, ok = x.proxy.backend(x.stream, backend.Target); !ok {
		x.fail(noBackend)
		return false
	}
	for _, f := range []*httproute.Filters{filters, &backend.Filters} {
		x.mirror(f.Mirrors)
		x.change(f, match.Prefix)
	}
	return true
}

// change applies filters to the request and remembers what they do to the response.
func (x *exchange) change(f *httproute.Filters, prefix string) {
	f.Request.Apply(x.r.Header)
	if host, ok := f.Request.Host(); ok {
		x.r.Host = host
		delete(x.r.Header, "Host")
	}
	if w := f.Rewrite; w != nil {
		if w.Hostname != "" {
			x.r.Host = w.Hostname
		}
		if w.Path != nil {
			x.r.URL.Path, x.r.URL.RawPath = w.Path.Apply(x.r.URL, prefix)
		}
		x.r.RequestURI = target(x.r)
	}
	if len(f.Response.Set)+len(f.Response.Add)+len(f.Response.Remove) > 0 {
		x.changes = append(x.changes, &f.Response)
	}
}

func hostOf(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return httproute.Host(host)
}

func nameOf(b stream.Backend) string {
	switch {
	case b.Service != nil:
		return b.Service.String() + ":" + itoa(int(b.Port.Number))
	case len(b.Endpoints) > 0 && b.Endpoints[0].Workload != nil:
		return nameOfWorkload(b.Endpoints[0].Workload)
	}
	return "unknown"
}

// draws spread requests over backends by weight with as little variance as there can be: each rule goes through the unit
// interval in steps of the golden ratio, from a random place. After n requests each backend's share is off by far less than
// chance would have it (a sequence of low discrepancy), and no rhythm of the clients meets it.
type draws struct{ byRule sync.Map }

func (d *draws) of(rule *httproute.Rule) func(int) int {
	v, ok := d.byRule.Load(rule.Origin)
	if !ok {
		at := new(atomic.Uint64)
		at.Store(rand.Uint64()) //nolint:gosec // a beginning
		v, _ = d.byRule.LoadOrStore(rule.Origin, at)
	}
	at, _ := v.(*atomic.Uint64)
	return func(n int) int {
		const golden = 0x9E3779B97F4A7C15 // 2^64 divided by the golden ratio
		high := at.Add(golden) >> 32
		return int(min(high*uint64(n)>>32, math.MaxInt))
	}
}
