package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
	"golang.org/x/sync/errgroup"

	"github.com/podplumb/podplumb/examples/ingress/strict"
)

const (
	headerTimeout = 10 * time.Second
	headerMost    = 64 << 10         // bytes of all headers of a request
	goodbye       = 10 * time.Second // for requests under way at the end
	writeTimeout  = time.Minute
)

// Config says how connections are treated. The zero Config is HTTP in clear.
type Config struct {
	Handler http.Handler

	// Certificate makes it TLS. An error means that there is none for the name.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// Proxies are the networks of load balancers that begin every connection with the client's address in the PROXY
	// protocol (version 1 or 2). With any, connections from elsewhere are refused.
	Proxies []netip.Prefix

	// HeaderTimeout is how long a client may take for the headers of a request, of the PROXY protocol, and for the handshake of
	// TLS. Default 10 s.
	HeaderTimeout time.Duration

	// WriteTimeout is how long a client may take nothing of what is sent to it. Default a minute.
	WriteTimeout time.Duration

	// Context is given to the requests of each connection; ctx is the server's. May be nil.
	Context func(ctx context.Context, secure bool) context.Context
}

// Serve serves until ctx ends, then lets requests under way end for a while. It closes the listener.
func Serve(ctx context.Context, listener net.Listener, config Config) error {
	if config.HeaderTimeout == 0 {
		config.HeaderTimeout = headerTimeout
	}
	if config.WriteTimeout == 0 {
		config.WriteTimeout = writeTimeout
	}
	listener = &timedListener{listener, config.WriteTimeout}
	if len(config.Proxies) > 0 {
		listener = &proxyproto.Listener{Listener: listener, ReadHeaderTimeout: config.HeaderTimeout, ConnPolicy: config.trusted}
	}
	group, ctx := errgroup.WithContext(ctx)
	serve := func(l net.Listener, server *http.Server) {
		group.Go(func() error {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) && ctx.Err() == nil {
				return err
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			late, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
			defer cancel()
			if server.Shutdown(late) != nil {
				_ = server.Close()
			}
			return nil
		})
	}
	if config.Certificate == nil {
		serve(&strictListener{listener}, config.server(false, func(p *http.Protocols) { p.SetHTTP1(true); p.SetUnencryptedHTTP2(true) }))
		return group.Wait()
	}
	one, two := newQueue(listener.Addr()), newQueue(listener.Addr())
	serve(one, config.server(true, func(p *http.Protocols) { p.SetHTTP1(true) }))
	serve(two, config.server(true, func(p *http.Protocols) { p.SetHTTP2(true) }))
	group.Go(func() error {
		<-ctx.Done()
		return listener.Close()
	})
	group.Go(func() error { return config.accept(ctx, listener, one, two) })
	return group.Wait()
}

func (c *Config) server(secure bool, protocols func(*http.Protocols)) *http.Server {
	s := &http.Server{
		Handler: c.Handler, ReadHeaderTimeout: c.HeaderTimeout, MaxHeaderBytes: headerMost, IdleTimeout: 2 * time.Minute, Protocols: new(http.Protocols),
		ErrorLog: log.New(io.Discard, "", 0), // of clients' faults
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if ctx = strict.Context(ctx, conn); c.Context != nil {
				ctx = c.Context(ctx, secure)
			}
			return ctx
		},
	}
	protocols(s.Protocols)
	return s
}

// accept takes the TLS off and hands connections over by the protocol that was agreed on.
func (c *Config) accept(ctx context.Context, listener net.Listener, one, two *queue) error {
	certificate := func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		found, err := c.Certificate(hello)
		if err != nil {
			return nil, nil // so the client is told that its name is not known (RFC 6066, 3), and not of a fault here
		}
		return found, nil
	}
	config := &tls.Config{GetCertificate: certificate, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	var handshakes sync.WaitGroup
	defer handshakes.Wait()
	for {
		conn, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			var temporary net.Error
			if errors.As(err, &temporary) && temporary.Timeout() || errors.Is(err, proxyproto.ErrInvalidUpstream) {
				continue
			}
			return err
		}
		handshakes.Go(func() {
			secure := tls.Server(conn, config)
			late, cancel := context.WithTimeout(ctx, c.HeaderTimeout)
			defer cancel()
			if err := secure.HandshakeContext(late); err != nil {
				_ = conn.Close()
				return
			}
			if secure.ConnectionState().NegotiatedProtocol == "h2" {
				two.put(secure)
			} else {
				one.put(strict.NewConn(secure))
			}
		})
	}
}

func (c *Config) trusted(from proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
	a, err := netip.ParseAddrPort(from.Upstream.String())
	if err == nil && slices.ContainsFunc(c.Proxies, func(p netip.Prefix) bool { return p.Contains(a.Addr().Unmap()) }) {
		return proxyproto.REQUIRE, nil
	}
	return proxyproto.REJECT, proxyproto.ErrInvalidUpstream
}

type strictListener struct{ net.Listener }

// Accept implements net.Listener.
func (l *strictListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return strict.NewConn(c), nil
}

// queue is a listener whose connections were accepted elsewhere.
type queue struct {
	address net.Addr
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func newQueue(address net.Addr) *queue {
	return &queue{address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (q *queue) put(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.closed:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.address }
