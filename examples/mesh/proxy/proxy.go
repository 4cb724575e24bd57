package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/podplumb/podplumb/examples/mesh/capture"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/netns"
)

// Config says whose proxy it is and what it works with.
type Config struct {
	// Workload is the pod.
	Workload *stream.Workload

	// NetNS is the pod's network namespace, for a proxy outside of it; nil is
	// the process's own.
	NetNS *netns.NS

	// Mark is set on the proxy's sockets (SO_MARK), for a proxy that has no
	// user of its own in the pod. Zero sets none.
	Mark uint32

	Identity Identity        // required
	Resolver stream.Resolver // required

	// Handler makes what serves HTTP. Without it, HTTP passes as bytes.
	Handler func(stream.Dialer) stream.Handler

	// Policy is asked for each connection; nil is the zero Policy.
	Policy func() Policy

	// Cluster are the networks in which the cluster has its pods and Services.
	// What has an address there that the Resolver does not know is refused: it
	// may be a pod of the mesh that is too new.
	Cluster []netip.Prefix

	// NameServer is the one that captured questions go to; without it
	// they are not served.
	NameServer netip.AddrPort

	// Drain is how long connections have to end by themselves when the proxy
	// is to end; zero is ten seconds, negative is no time at all.
	Drain time.Duration

	Counts *Counts      // may be nil
	Log    *slog.Logger // may be nil
}

// Time limits.
const (
	connectWithin   = 3 * time.Second
	handshakeWithin = 5 * time.Second
	helloWithin     = 3 * time.Second // for a client to begin its handshake, which one of the mesh does at once
)

// Proxy is the proxy of one pod.
type Proxy struct {
	config  Config
	count   count
	tls     *tls.Config
	handler stream.Handler
	habits  habits
	dialer  func(ctx context.Context, network, address string) (net.Conn, error)

	logged    *rate.Limiter // of refusals, which others can cause
	listeners []net.Listener
	questions []net.PacketConn
	draining  chan struct{}
}

var _ stream.Dialer = (*Proxy)(nil)

// New makes a Proxy. It opens nothing yet.
func New(c Config) *Proxy {
	if c.Drain == 0 {
		c.Drain = 10 * time.Second
	}
	if c.Policy == nil {
		c.Policy = func() Policy { return Policy{} }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{
		config: c, count: count{c.Counts, c.Workload.String()}, tls: serverConfig(c.Identity), draining: make(chan struct{}), logged: rate.NewLimiter(10, 100),
	}
	d := net.Dialer{Timeout: connectWithin, Control: control(c.Mark)}
	p.dialer = d.DialContext
	if c.NetNS != nil {
		p.dialer = (&netns.Dialer{NS: c.NetNS, Dialer: d}).DialContext
	}
	if c.Handler != nil {
		p.handler = c.Handler(p)
	}
	return p
}

// Listen opens the proxy's ports, so that it may be captured.
func (p *Proxy) Listen(ctx context.Context) error {
	err := p.listen(ctx)
	if err != nil {
		p.close()
		return fmt.Errorf("proxy of %s: %w", p.config.Workload, err)
	}
	return nil
}

func (p *Proxy) listen(ctx context.Context) error {
	open, packets := new(net.ListenConfig).Listen, new(net.ListenConfig).ListenPacket
	if ns := p.config.NetNS; ns != nil {
		open, packets = ns.Listen, ns.ListenPacket
	}
	for _, port := range []uint16{capture.InboundPort, capture.OutboundPort} {
		l, err := open(ctx, "tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		p.listeners = append(p.listeners, l)
	}
	if !p.config.NameServer.IsValid() {
		return nil
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		at := net.JoinHostPort(host, fmt.Sprint(capture.DNSPort))
		l, err := open(ctx, "tcp", at)
		if errors.Is(err, syscall.EADDRNOTAVAIL) {
			continue // a pod without this family
		}
		if err != nil {
			return err
		}
		p.listeners = append(p.listeners, l)
		c, err := packets(ctx, "udp", at)
		if err != nil {
			return err
		}
		p.questions = append(p.questions, c)
	}
	return nil
}

// Close closes the ports and the Handler of a proxy that is not to serve.
func (p *Proxy) Close() error {
	p.close()
	p.closeHandler()
	return nil
}

func (p *Proxy) closeHandler() {
	if h, ok := p.handler.(interface{ Close() }); ok {
		h.Close()
	}
}

func (p *Proxy) close() {
	for _, l := range p.listeners {
		_ = l.Close()
	}
	for _, c := range p.questions {
		_ = c.Close()
	}
}

// Serve serves until ctx ends, and then what is under way for a while longer
// (Config.Drain). All its connections are closed when it returns.
func (p *Proxy) Serve(ctx context.Context) error {
	if len(p.listeners) == 0 {
		if err := p.Listen(ctx); err != nil {
			return err
		}
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var running sync.WaitGroup
	defer p.closeHandler()
	renewing, renewed := context.WithCancel(ctx)
	defer renewed()
	running.Go(func() { p.renew(renewing) })
	failed := make(chan error, len(p.listeners)+len(p.questions))
	for i, l := range p.listeners {
		serve := [...]func(context.Context, net.Conn){p.inbound, p.outbound, p.question, p.question}[i]
		running.Go(func() { failed <- p.accept(serving, l, serve, &running) })
	}
	for _, c := range p.questions {
		running.Go(func() { failed <- p.answer(serving, c, &running) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	renewed()
	p.close()
	close(p.draining)
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(max(0, p.config.Drain)):
		cancel()
		<-done
	}
	return err
}

// renew lets the Handler's connections end that were made under a former
// identity, or trusting former roots.
func (p *Proxy) renew(ctx context.Context) {
	h, renews := p.handler.(interface{ Renew() })
	me, changes := p.config.Identity.(interface{ Updated() <-chan struct{} })
	if !renews || !changes {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-me.Updated():
			h.Renew()
		}
	}
}

// accept serves each connection of a listener in the background, until it is
// closed.
func (p *Proxy) accept(ctx context.Context, l net.Listener, serve func(context.Context, net.Conn), running *sync.WaitGroup) error {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil: // such as too many open files
			p.config.Log.Error("accept", "error", err)
			select {
			case <-ctx.Done():
				return nil
			case <-p.draining:
				return nil
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		running.Go(func() {
			defer context.AfterFunc(ctx, func() { reset(c) })()
			serve(ctx, c)
		})
	}
}

// Dial implements stream.Dialer.
func (p *Proxy) Dial(ctx context.Context, to stream.Target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWithin+handshakeWithin)
	defer cancel()
	if a := to.Address.Addr(); to.Peer.IsZero() && !p.own(a) && p.inCluster(a) && isForeign(p.config.Resolver.Resolve(to.Address)) {
		return nil, fmt.Errorf("%s: %w", to.Address, errUnknown)
	}
	c, err := p.dialer(ctx, "tcp", to.Address.String())
	if err != nil {
		return nil, err
	}
	// What the pod opens to itself is never captured, so nobody would answer
	// the handshake.
	if to.Peer.IsZero() || p.own(to.Address.Addr()) {
		return c, nil
	}
	s, err := secure(ctx, c, p.config.Identity, to.Peer, to.Protocol)
	if err != nil {
		return nil, &identityError{fmt.Errorf("%s as %s: %w", to.Address, to.Peer, err)}
	}
	return s, nil
}

// identityError tells that somebody was reached, and not the one expected.
type identityError struct{ error }

func (e *identityError) Unwrap() error { return e.error }

func (p *Proxy) own(a netip.Addr) bool { return slices.Contains(p.config.Workload.Addresses, a) }

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := t.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
