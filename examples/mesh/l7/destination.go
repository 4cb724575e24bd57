package l7

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

const (
	sweepTime  = 15 * time.Second // between two looks for endpoints that are gone
	forgetTime = 5 * time.Minute  // after which a destination without requests is forgotten
)

// destination is what requests are sent to: a port of a Service, or a pod. It outlives what it is made of.
type destination struct {
	name     string // for metrics and traces
	resolve  func() (stream.Backend, bool)
	budget   upstream.Budget
	underWay atomic.Int64
	last     atomic.Int64 // when there was a request, in seconds of Unix time

	mu    sync.Mutex
	known atomic.Pointer[known]
}

// known are the endpoints of a destination at one moment.
type known struct {
	from []stream.Endpoint
	list []*upstream.Endpoint
}

type destinationKey struct {
	service stream.Service // zero for an address
	port    uint16
	address netip.AddrPort
	is6     bool
	local   bool // the pod's own application
}

type endpointKey struct {
	address netip.AddrPort
	peer    spiffeid.ID
}

// shared is an endpoint of one or more destinations.
type shared struct {
	*upstream.Endpoint
	users int
}

// destination returns the one of a key, with the endpoints that it has now.
func (p *Proxy) destination(key destinationKey, name string, backend stream.Backend, resolve func() (stream.Backend, bool)) *destination {
	v, ok := p.destinations.Load(key)
	if !ok {
		d := &destination{name: name, resolve: resolve}
		d.budget.Configure(p.config.Budget)
		v, _ = p.destinations.LoadOrStore(key, d)
		p.watch()
	}
	d, _ := v.(*destination)
	d.touch()
	p.update(d, backend.Endpoints, !key.local)
	return d
}

func (d *destination) touch() {
	if now := time.Now().Unix(); d.last.Load() != now { // a write would cost the other processors their copy
		d.last.Store(now)
	}
}

func same(a, b []stream.Endpoint) bool {
	if len(a) != len(b) {
		return false
	}
	if len(a) == 0 || &a[0] == &b[0] {
		return true
	}
	for i := range a {
		if a[i].Address != b[i].Address || a[i].Target(0).Peer != b[i].Target(0).Peer {
			return false
		}
	}
	return true
}

// update has the destination know its endpoints. Those that it had and has no more end with the requests that they have,
// unless another destination has them.
func (p *Proxy) update(d *destination, endpoints []stream.Endpoint, breaks bool) []*upstream.Endpoint {
	if k := d.known.Load(); k != nil && same(k.from, endpoints) {
		return k.list
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.known.Load()
	if old != nil && same(old.from, endpoints) {
		return old.list
	}
	next := &known{from: endpoints}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range endpoints {
		next.list = append(next.list, p.acquire(e, breaks))
	}
	d.known.Store(next)
	if old != nil {
		for _, e := range old.from {
			p.drop(e)
		}
	}
	return next.list
}

func (p *Proxy) acquire(e stream.Endpoint, breaks bool) *upstream.Endpoint {
	target := e.Target(stream.Unknown)
	key := endpointKey{target.Address, target.Peer}
	s := p.endpoints[key]
	if s == nil {
		breaker := p.config.Breaker
		if !breaks {
			breaker.Failures = -1 // who sends the requests decides where to send others
		}
		s = &shared{Endpoint: upstream.NewEndpoint(target.Address.String(), !target.Peer.IsZero(), upstream.Config{
			Dial: func(ctx context.Context, major int) (net.Conn, error) {
				to := stream.Target{Address: target.Address, Peer: target.Peer, Protocol: stream.HTTP1}
				if major == 2 {
					to.Protocol = stream.HTTP2
				}
				return p.config.Dialer.Dial(ctx, to)
			},
			Connections: p.config.Connections, Pending: p.config.Pending,
		}, breaker)}
		p.endpoints[key] = s
		if p.closed {
			s.Endpoint.Close()
		}
	}
	s.users++
	return s.Endpoint
}

func (p *Proxy) drop(e stream.Endpoint) {
	target := e.Target(stream.Unknown)
	key := endpointKey{target.Address, target.Peer}
	s := p.endpoints[key]
	if s == nil {
		return
	}
	if s.users--; s.users == 0 {
		delete(p.endpoints, key)
		s.Endpoint.Retire()
	}
}

// watch has endpoints looked after that no request asks for any more.
func (p *Proxy) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sweep == nil && !p.closed {
		p.sweep = time.AfterFunc(sweepTime, func() {
			p.Refresh()
			p.mu.Lock()
			defer p.mu.Unlock()
			if !p.closed {
				p.sweep.Reset(sweepTime)
			}
		})
	}
}

// Refresh drops the connections to endpoints that are gone, and forgets destinations that had no request for long. It
// happens by itself every 15 seconds, and to a destination with each request.
func (p *Proxy) Refresh() {
	forget := time.Now().Add(-forgetTime).Unix()
	p.destinations.Range(func(k, v any) bool {
		key, _ := k.(destinationKey)
		d, _ := v.(*destination)
		if d.last.Load() < forget && d.underWay.Load() == 0 {
			p.destinations.Delete(k) // one who has it already only makes its connections anew
			p.update(d, nil, !key.local)
			return true
		}
		if key.local || d.resolve == nil {
			return true
		}
		backend, _ := d.resolve()
		p.update(d, backend.Endpoints, true)
		return true
	})
}
