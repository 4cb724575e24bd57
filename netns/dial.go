package netns

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// Dialer connects from inside a namespace. Its DialContext fits
// [net/http.Transport]; [NS.DialContext] is a Dialer with only NS set.
type Dialer struct {
	// NS is the namespace to dial in. It must be set.
	NS *NS

	// Dialer holds the options of package net: Timeout, Deadline, LocalAddr,
	// FallbackDelay (zero: 300 ms, negative: no racing, RFC 8305), KeepAlive, Control.
	// Control runs inside the namespace. A nil Resolver means NS.Resolver().
	Dialer net.Dialer
}

// DialContext connects from inside the namespace, as net.Dialer's does: host names are
// resolved there, the addresses of both families race each other (RFC 8305), zones
// such as fe80::1%eth0 name links of the namespace, and ctx bounds it all. The
// connection may be used from any goroutine.
func (ns *NS) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return (&Dialer{NS: ns}).DialContext(ctx, network, address)
}

// Listen listens inside the namespace, for an [net/http.Server] for example; a host name is
// resolved there. An address without a host, such as ":80", serves IPv4 and IPv6. The listener
// may be used from any goroutine.
func (ns *NS) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var l net.Listener
	literal, err := ns.literal(ctx, network, address)
	if err == nil {
		err = ns.do("listen", func() error {
			l, err = listen(ctx, network, literal, (*net.ListenConfig).Listen)
			return err
		})
	}
	if err != nil {
		return nil, opError("listen", ns.object(), err)
	}
	return l, nil
}

// ListenPacket opens a packet socket, such as UDP, inside the namespace; otherwise it
// is as [NS.Listen].
func (ns *NS) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var c net.PacketConn
	literal, err := ns.literal(ctx, network, address)
	if err == nil {
		err = ns.do("listen", func() error {
			c, err = listen(ctx, network, literal, (*net.ListenConfig).ListenPacket)
			return err
		})
	}
	if err != nil {
		return nil, opError("listen", ns.object(), err)
	}
	return c, nil
}

// Resolver returns a resolver whose questions are sent from inside the namespace. It
// asks the servers of /etc/netns/NAME/resolv.conf in turn, when the handle has a Name
// and the file names any, as processes under `ip netns exec` do, and otherwise those of
// the caller's /etc/resolv.conf; what else is in the caller's file counts either way.
// Set its Dial to ask others. Its order of addresses is that of the caller's namespace;
// the Dialer sorts them again.
func (ns *NS) Resolver() *net.Resolver {
	var turn atomic.Uint32
	dial := func(ctx context.Context, network, server string) (net.Conn, error) {
		if servers := ns.nameServers(); len(servers) > 0 {
			server = servers[int(turn.Add(1)-1)%len(servers)]
		}
		return (&Dialer{NS: ns}).dial(ctx, network, server)
	}
	// Only the resolver written in Go asks for sockets instead of making its own.
	return &net.Resolver{PreferGo: true, Dial: dial}
}

// DialContext is described at [NS.DialContext].
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := d.NS.alive(); err != nil {
		return nil, opError("dial", d.NS.object(), err)
	}
	ctx, cancel := d.bound(ctx)
	defer cancel()
	c, err := d.dial(ctx, network, address)
	if err != nil {
		return nil, opError("dial", d.NS.object(), err)
	}
	return c, nil
}

// bound applies the Timeout and Deadline of the options to the whole.
func (d *Dialer) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline := d.Dialer.Deadline
	if d.Dialer.Timeout > 0 {
		if t := time.Now().Add(d.Dialer.Timeout); deadline.IsZero() || t.Before(deadline) {
			deadline = t
		}
	}
	if deadline.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline)
}

func (d *Dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !resolvable(network) {
		return d.dialOne(ctx, network, address)
	}
	targets, err := d.resolve(ctx, network, address)
	if err != nil {
		return nil, err
	}
	primaries, fallbacks := targets, []string(nil)
	if network == "tcp" && d.Dialer.FallbackDelay >= 0 {
		primaries, fallbacks = byFamily(targets)
	}
	if len(fallbacks) == 0 {
		return d.dialInTurn(ctx, network, primaries)
	}
	return d.race(ctx, network, primaries, fallbacks)
}

// resolvable reports whether addresses of network are host:port. What is left, Unix sockets
// and raw IP, is for package net to read.
func resolvable(network string) bool {
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
		return true
	}
	return false
}
