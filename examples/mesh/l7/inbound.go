package l7

import (
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/podplumb/podplumb/examples/mesh/stream"
)

// inbound serves a request that comes to the pod.
func (x *exchange) inbound() {
	p, s := x.proxy, x.stream
	if allow := p.config.Allow; allow != nil && !allow(s.Peer, x.r) {
		x.fail(forbidden)
		return
	}
	if !s.Peer.IsZero() {
		x.r.Header["X-Forwarded-Client-Cert"] = []string{"By=" + p.config.Workload.ID.String() + ";URI=" + s.Peer.String()}
	}
	x.span = p.config.Tracer.Start(x.parent, oteltrace.SpanKindServer, x.spanName())
	x.span.Inject(x.r.Header)
	x.to = p.application(s)
	x.pass()
	x.serverSpan()
}

// application is the pod's own, as the client addressed it.
func (p *Proxy) application(s *stream.Stream) *destination {
	key := destinationKey{address: s.Destination, local: true}
	if v, ok := p.destinations.Load(key); ok {
		d, _ := v.(*destination)
		if k := d.known.Load(); k != nil && len(k.list) > 0 {
			d.touch()
			return d
		}
	}
	backend := stream.Backend{Endpoints: []stream.Endpoint{{Address: s.Destination}}} // in clear, whatever the Resolver thinks
	return p.destination(key, nameOfWorkload(p.config.Workload), backend, nil)
}
