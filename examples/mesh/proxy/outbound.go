package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"

	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/nat"
)

// outbound serves a connection that the pod opened.
func (p *Proxy) outbound(ctx context.Context, c net.Conn) {
	defer p.count.begin(stream.Outbound)()
	to, err := nat.OriginalDst(c)
	if err != nil {
		p.refuse(stream.Outbound, c, refusedDirect, "error", err)
		return
	}
	a := arrival{conn: c, from: addrPort(c.RemoteAddr()), to: to}
	backend := p.config.Resolver.Resolve(to)
	foreign := isForeign(backend)
	switch {
	case p.own(to.Addr()) || to.Addr().IsLoopback(): // the capture leaves them alone: somebody leads them here
		p.refuse(stream.Outbound, c, refusedDirect, "to", to)
		return
	case to.Addr().IsLinkLocalUnicast() && to.Addr().Is6(), to.Addr().IsMulticast(), to.Addr().IsUnspecified():
		p.refuse(stream.Outbound, c, refusedUnsupported, "to", to)
		return
	case foreign && p.inCluster(to.Addr()):
		p.refuse(stream.Outbound, c, refusedUnknown, "to", to)
		return
	case len(backend.Endpoints) == 0:
		p.refuse(stream.Outbound, c, refusedNoEndpoint, "to", to)
		return
	}
	connect := func(ctx context.Context) (net.Conn, bool, error) { return p.anyOf(ctx, backend.Endpoints) }
	protocol := backend.Protocol
	if foreign || p.handler == nil {
		protocol = stream.TCP
	}
	out := outcome{protocol: protocol, client: side{Conn: c}}
	switch protocol {
	case stream.TCP:
		out.server.Conn, out.secure, err = connect(ctx)
	case stream.Unknown:
		if out, err = race(ctx, c, p.habits.dial(to), connect, detect); err == nil {
			p.habits.learn(to, out.protocol)
		}
	}
	if err != nil {
		reason := refusedUnreachable
		var wrong *identityError
		switch {
		case errors.As(err, &wrong):
			reason = refusedIdentity
		case errors.Is(err, errUnknown):
			reason = refusedUnknown
		}
		p.refuse(stream.Outbound, c, reason, "to", to, "error", err)
		return
	}
	if out.protocol == stream.TCP {
		p.passed(stream.Outbound, out.secure, out)
		return
	}
	a.conn = out.client.Conn
	p.requests(ctx, stream.Outbound, out.protocol, a)
}

// isForeign holds for an address that is neither a Service's nor a pod's.
func isForeign(b stream.Backend) bool {
	return b.Service == nil && (len(b.Endpoints) == 0 || b.Endpoints[0].Workload == nil)
}

// errUnknown is why nothing is said in clear to an address of the cluster that
// nobody is known to have: an endpoint whose pod is not known yet, a pod that is
// gone while its clients are still there. Its next owner may be in the mesh.
var errUnknown = errors.New("nobody is known to have this address of the cluster")

func (p *Proxy) inCluster(a netip.Addr) bool {
	for _, n := range p.config.Cluster {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// tries is to how many endpoints a connection is tried.
const tries = 3

// anyOf connects to one of the endpoints, drawn at random; to another when
// that fails.
func (p *Proxy) anyOf(ctx context.Context, endpoints []stream.Endpoint) (c net.Conn, secure bool, err error) {
	at := rand.IntN(len(endpoints)) //nolint:gosec // to spread connections
	for i := range min(tries, len(endpoints)) {
		target := endpoints[(at+i)%len(endpoints)].Target(stream.TCP)
		if c, err = p.Dial(ctx, target); err == nil {
			return c, !target.Peer.IsZero() && !p.own(target.Address.Addr()), nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, false, err
}
