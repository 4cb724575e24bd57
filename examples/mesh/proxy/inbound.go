package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/podplumb/podplumb/examples/mesh/capture"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/nat"
)

// arrival is a connection to the pod.
type arrival struct {
	conn     net.Conn
	from, to netip.AddrPort
	peer     spiffeid.ID // zero in clear
}

// inbound serves a connection that another opened to the pod.
func (p *Proxy) inbound(ctx context.Context, c net.Conn) {
	defer p.count.begin(stream.Inbound)()
	to, err := nat.OriginalDst(c)
	if err != nil {
		p.refuse(stream.Inbound, c, refusedDirect, "error", err)
		return
	}
	a := arrival{conn: c, from: addrPort(c.RemoteAddr()), to: to}
	policy := p.config.Policy()
	if policy.permissive(to.Port()) {
		p.maybeClear(ctx, a, &policy)
		return
	}
	first := make([]byte, 2)
	n := 0
	_ = c.SetReadDeadline(time.Now().Add(helloWithin))
	for is, more := false, true; !is; is, more = isTLS(first[:n]) {
		if !more {
			p.refuse(stream.Inbound, c, refusedPlaintext, "from", a.from, "to", a.to)
			return
		}
		k, err := c.Read(first[n:])
		if n += k; err != nil {
			if n == 0 && !errors.Is(err, os.ErrDeadlineExceeded) { // it said nothing: a port was looked at, a connection not needed after all
				reset(c)
				return
			}
			p.refuse(stream.Inbound, c, refusedPlaintext, "from", a.from, "to", a.to, "error", err)
			return
		}
	}
	a.conn = replay(c, first[:n])
	p.authenticated(ctx, a, &policy)
}

// A proxy of the mesh begins its handshake at once. So a server that speaks
// first is not heard at a permissive port until it is clear that none comes:
// after a moment, and later if the client is a pod of the mesh.
const (
	holdOthers = 20 * time.Millisecond
	holdMesh   = time.Second
)

// maybeClear serves a connection to a permissive port: one of the mesh, or in
// clear, in which case either side may speak first. TLS that is not the mesh's
// is the application's, and passes.
func (p *Proxy) maybeClear(ctx context.Context, a arrival, policy *Policy) {
	const meshTLS = stream.Protocol(100) // beside the ones there are
	wait := p.habits.dial(a.to)
	wait.hold = holdOthers
	if p.meshed(a.from.Addr()) {
		wait.hold = holdMesh
	}
	declared := p.config.Resolver.Resolve(a.to).Protocol
	out, err := race(ctx, a.conn, wait, p.application(a), func(b []byte) (stream.Protocol, bool) {
		if is, more := isTLS(b); is || more {
			return meshTLS, more
		}
		switch {
		case p.handler == nil:
			return stream.TCP, false
		case declared != stream.Unknown:
			return declared, false
		}
		return detect(b)
	})
	if err != nil {
		p.refuse(stream.Inbound, a.conn, refusedUnreachable, "to", a.to, "error", err)
		return
	}
	switch out.protocol {
	case stream.TCP:
		p.passed(stream.Inbound, false, out)
	case meshTLS:
		a.conn = out.client.Conn
		p.habits.learn(a.to, stream.HTTP1) // the application is not connected to in advance
		ours, read := forMesh(a.conn)
		a.conn = replay(a.conn, read)
		if ours {
			p.authenticated(ctx, a, policy)
			return
		}
		p.bytes(ctx, a, stream.Inbound)
	default:
		a.conn = out.client.Conn
		p.habits.learn(a.to, out.protocol)
		p.requests(ctx, stream.Inbound, out.protocol, a)
	}
}

// meshed says whether a pod of the mesh has the address.
func (p *Proxy) meshed(a netip.Addr) bool {
	for _, e := range p.config.Resolver.Resolve(netip.AddrPortFrom(a, 0)).Endpoints {
		if e.Workload != nil && e.Workload.Meshed {
			return true
		}
	}
	return false
}

// authenticated serves a connection that begins with a TLS handshake.
func (p *Proxy) authenticated(ctx context.Context, a arrival, policy *Policy) {
	t := tls.Server(a.conn, p.tls)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_ = a.conn.SetDeadline(time.Now().Add(handshakeWithin))
	err := t.HandshakeContext(ctx)
	_ = a.conn.SetDeadline(time.Time{})
	if err == nil {
		a.peer, err = verified(t)
	}
	if err != nil {
		_ = a.conn.Close() // the client was told by an alert, which a reset might overtake
		p.refuse(stream.Inbound, a.conn, refusedIdentity, "from", a.from, "to", a.to, "error", err)
		return
	}
	if !policy.allows(a.to.Port(), a.peer) {
		p.refuse(stream.Inbound, t, refusedForbidden, "from", a.from, "to", a.to, "identity", a.peer)
		return
	}
	a.conn = t
	protocol, ok := inside[t.ConnectionState().NegotiatedProtocol]
	if !ok {
		protocol = p.config.Resolver.Resolve(a.to).Protocol
	}
	switch {
	case protocol == stream.TCP || p.handler == nil:
		p.bytes(ctx, a, stream.Inbound)
	case protocol != stream.Unknown:
		p.requests(ctx, stream.Inbound, protocol, a)
	default:
		out, err := race(ctx, t, p.habits.dial(a.to), p.application(a), detect)
		if err != nil {
			p.refuse(stream.Inbound, t, refusedUnreachable, "to", a.to, "error", err)
			return
		}
		p.habits.learn(a.to, out.protocol)
		if out.protocol == stream.TCP {
			p.passed(stream.Inbound, true, out)
			return
		}
		a.conn = out.client.Conn
		p.requests(ctx, stream.Inbound, out.protocol, a)
	}
}

// application connects to the pod's own application.
func (p *Proxy) application(a arrival) connecting {
	return func(ctx context.Context) (net.Conn, bool, error) {
		c, err := p.Dial(ctx, stream.Target{Address: a.to})
		return c, false, err
	}
}

// bytes passes a connection to the application as it is.
func (p *Proxy) bytes(ctx context.Context, a arrival, d stream.Direction) {
	c, _, err := p.application(a)(ctx)
	if err != nil {
		p.refuse(d, a.conn, refusedUnreachable, "to", a.to, "error", err)
		return
	}
	p.passed(d, !a.peer.IsZero(), outcome{client: side{Conn: a.conn}, server: side{Conn: c}})
}

// requests hands a connection to the Handler.
func (p *Proxy) requests(ctx context.Context, d stream.Direction, protocol stream.Protocol, a arrival) {
	p.count.open(d, !a.peer.IsZero(), protocol)
	s := &stream.Stream{
		Conn: a.conn, Direction: d, Protocol: protocol, Source: a.from, Destination: a.to, Peer: a.peer, Draining: p.draining,
	}
	switch {
	case d == stream.Outbound: // the client's socket is here
		s.Reads = func() bool { return capture.Held(p.config.NetNS, a.from, a.to) }
	case a.peer.IsZero(): // there is no way to know
		s.Reads = func() bool { return true }
	}
	err := p.handler.ServeStream(ctx, s)
	_ = a.conn.Close()
	if err != nil {
		p.config.Log.Debug("requests", "pod", p.config.Workload, "direction", d, "from", a.from, "to", a.to, "error", err)
	}
}

// passed carries bytes until the end.
func (p *Proxy) passed(d stream.Direction, secure bool, out outcome) {
	p.count.open(d, secure, stream.TCP)
	there, back, err := pass(out.client, out.server)
	p.count.passed(d, there, back)
	if err != nil {
		p.config.Log.Debug("reset", "pod", p.config.Workload, "direction", d, "error", err)
	}
}

func (p *Proxy) refuse(d stream.Direction, c net.Conn, reason string, about ...any) {
	p.count.refuse(d, reason)
	if p.logged.Allow() {
		p.config.Log.Info("refused", append([]any{"pod", p.config.Workload.String(), "direction", d.String(), "reason", reason}, about...)...)
	}
	reset(c)
}
