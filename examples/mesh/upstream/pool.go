package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config of a Pool.
type Config struct {
	Dial        func(ctx context.Context, major int) (net.Conn, error) // makes a connection for HTTP/1.1 or HTTP/2 (major 2)
	Connections int                                                    // for HTTP/1.1, at most; 0: 1024
	Pending     int                                                    // requests that wait for one of them, at most; 0: 1024
	IdleTime    time.Duration                                          // after which an idle connection is closed; 0: 1 min
	MaxAge      time.Duration                                          // after which a connection takes no new request; 0: 1 h
	DialTime    time.Duration                                          // for a connection to be made; 0: 5 s
}

// Pool has the connections to one server. Make it with New.
type Pool struct {
	config Config

	mu      sync.Mutex
	idle    []*conn // the one used last is at the end
	open    int     // connections, idle or not, or being made
	waiting []chan grant
	renewed uint64
	closed  bool
	retired bool
	h2      *http.Transport
	h2made  time.Time
	streams int
	sweep   *time.Timer
}

// grant is a connection, or the right to make one.
type grant struct {
	conn *conn
	err  error
}

// New makes a Pool. It connects when there is a request.
func New(config Config) *Pool {
	def := func(n *int, to int) {
		if *n == 0 {
			*n = to
		}
	}
	def(&config.Connections, 1024)
	def(&config.Pending, 1024)
	for d, to := range map[*time.Duration]time.Duration{&config.IdleTime: time.Minute, &config.MaxAge: time.Hour, &config.DialTime: 5 * time.Second} {
		if *d == 0 {
			*d = to
		}
	}
	return &Pool{config: config}
}

// Renew lets connections made so far end with the requests that they have: what the next ones are made with has changed.
func (p *Pool) Renew() {
	p.mu.Lock()
	p.renewed++
	idle := p.idle
	p.idle, p.open = nil, p.open-len(idle)
	h2 := p.h2
	p.h2 = nil
	p.mu.Unlock()
	shut(idle, h2)
}

// Retire is Renew, and has connections made from now on end with their first request: the server is gone from the
// endpoints, but somebody may have chosen it already.
func (p *Pool) Retire() {
	p.mu.Lock()
	p.retired = true
	p.mu.Unlock()
	p.Renew()
}

// Close is Renew, and has new requests fail with ErrClosed.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	waiting := p.waiting
	p.waiting = nil
	if p.sweep != nil {
		p.sweep.Stop()
	}
	p.mu.Unlock()
	for _, w := range waiting {
		w <- grant{err: &NotSent{ErrClosed}}
	}
	p.Renew()
}

func shut(idle []*conn, h2 *http.Transport) {
	for _, c := range idle {
		_ = c.nc.Close()
	}
	if h2 != nil {
		h2.CloseIdleConnections() // and those with streams when they are idle
	}
}

// Open returns how many HTTP/1.1 connections there are, how many of them are idle, and how many requests wait for one.
func (p *Pool) Open() (open, idle, waiting int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open, len(p.idle), len(p.waiting)
}

// RoundTrip carries a request. Its headers go as they are, without those that tell the framing; the target is RequestURI,
// or if that is empty the URL's. HTTP/2 requests (ProtoMajor 2) go over HTTP/2, all others over HTTP/1.1. The function is
// called with informational responses but "100 Continue"; it may be nil. The body of the response has to be closed; that of
// a "101 Switching Protocols", or of what says yes to a CONNECT, is an io.ReadWriteCloser, and does not end with the
// request's context.
func (p *Pool) RoundTrip(r *http.Request, informational func(code int, header http.Header) error) (*http.Response, error) {
	if r.ProtoMajor == 2 {
		return p.roundTrip2(r, informational)
	}
	ctx := r.Context()
	c, err := p.get(ctx)
	if err != nil {
		return nil, err
	}
	response, err := p.roundTrip1(ctx, c, r, informational)
	var stale *Stale
	if errors.As(err, &stale) && ctx.Err() == nil && (r.Body == nil || r.Body == http.NoBody) && idempotent(r) {
		p.Renew() // once more, and not over another of that age: the server may have ended them all
		if c, err = p.get(ctx); err != nil {
			return nil, err
		}
		return p.roundTrip1(ctx, c, r, informational)
	}
	return response, err
}

// idempotent as in RFC 9110, 9.2.2.
func idempotent(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

func (p *Pool) roundTrip1(ctx context.Context, c *conn, r *http.Request, informational func(int, http.Header) error) (*http.Response, error) {
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() { _ = c.nc.SetDeadline(time.Unix(past, 0)) })
	}
	again := c.used
	c.used = true
	response, up, err := c.exchange(ctx, r, informational)
	if err != nil {
		stop()
		p.put(c, false)
		if up != nil {
			up.stop()
			select {
			case <-up.done:
				if up.err != nil {
					return nil, &BodyError{up.err}
				}
			default:
			}
		}
		switch cause := context.Cause(ctx); {
		case cause != nil:
			return nil, cause
		case errors.Is(err, errHeader):
			return nil, err
		case again && !c.got:
			return nil, &Stale{err}
		}
		return nil, err
	}
	if switches(r, response) {
		if !stop() { // from now on the context means nothing to the connection
			p.put(c, false)
			return nil, context.Cause(ctx)
		}
		response.Body = &tunnel{conn: c, pool: p}
		return response, nil
	}
	b := &body{ReadCloser: response.Body, conn: c, pool: p, up: up, keep: !response.Close, stop: stop, ctx: ctx}
	if response.Body == http.NoBody {
		b.finish(true)
		return response, nil
	}
	response.Body = b
	return response, nil
}

// get returns an idle connection that is alive, or makes one, or waits for one.
func (p *Pool) get(ctx context.Context) (*conn, error) {
	for {
		p.mu.Lock()
		switch n := len(p.idle); {
		case p.closed:
			p.mu.Unlock()
			return nil, &NotSent{ErrClosed}
		case n > 0:
			c := p.idle[n-1]
			p.idle = p.idle[:n-1]
			p.mu.Unlock()
			if time.Since(c.made) < p.config.MaxAge && c.alive() {
				return c, nil
			}
			p.put(c, false)
			continue
		case p.open < p.config.Connections:
			p.open++
			renewed := p.renewed
			p.mu.Unlock()
			return p.dial(ctx, renewed)
		case len(p.waiting) >= p.config.Pending:
			p.mu.Unlock()
			return nil, &NotSent{ErrOverflow}
		}
		turn := make(chan grant, 1)
		p.waiting = append(p.waiting, turn)
		renewed := p.renewed
		p.mu.Unlock()
		select {
		case g := <-turn:
			switch {
			case g.err != nil:
				return nil, g.err
			case g.conn == nil:
				return p.dial(ctx, renewed)
			}
			return g.conn, nil
		case <-ctx.Done():
			p.leave(turn)
			return nil, &NotSent{context.Cause(ctx)}
		}
	}
}

// leave gives back what came to one who waits no more.
func (p *Pool) leave(turn chan grant) {
	p.mu.Lock()
	for i, w := range p.waiting {
		if w == turn {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			p.mu.Unlock()
			return
		}
	}
	p.mu.Unlock()
	if g := <-turn; g.conn != nil {
		p.put(g.conn, true)
	} else if g.err == nil {
		p.release()
	}
}

func (p *Pool) dial(ctx context.Context, renewed uint64) (*conn, error) {
	nc, err := p.connect(ctx, 1)
	if err != nil {
		p.release()
		return nil, err
	}
	return newConn(nc, renewed), nil
}

func (p *Pool) connect(ctx context.Context, major int) (net.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, p.config.DialTime)
	defer cancel()
	nc, err := p.config.Dial(limited, major)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, &NotSent{cause}
		}
		return nil, &NotSent{err}
	}
	return nc, nil
}

// release gives a connection's place to the next who waits.
func (p *Pool) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 {
		p.waiting[0] <- grant{}
		p.waiting = p.waiting[1:]
		return
	}
	p.open--
}

// put takes a connection back.
func (p *Pool) put(c *conn, keep bool) {
	if keep && c.in.Buffered() == 0 {
		p.mu.Lock()
		if !p.closed && c.renewed == p.renewed && (!p.retired || len(p.waiting) > 0) {
			if len(p.waiting) > 0 {
				p.waiting[0] <- grant{conn: c}
				p.waiting = p.waiting[1:]
			} else {
				c.idle = time.Now()
				p.idle = append(p.idle, c)
				p.watch()
			}
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
	}
	_ = c.nc.Close()
	p.release()
}

// watch has idle connections closed in time. The lock is held.
func (p *Pool) watch() {
	if p.sweep == nil {
		p.sweep = time.AfterFunc(p.config.IdleTime, p.clean)
	}
}

func (p *Pool) clean() {
	p.mu.Lock()
	till, old := time.Now().Add(-p.config.IdleTime), 0
	for old < len(p.idle) && !p.idle[old].idle.After(till) {
		old++
	}
	closing := append([]*conn(nil), p.idle[:old]...)
	p.idle = append(p.idle[:0], p.idle[old:]...)
	p.open -= old
	p.sweep = nil
	if len(p.idle) > 0 && !p.closed {
		p.sweep = time.AfterFunc(time.Until(p.idle[0].idle.Add(p.config.IdleTime)), p.clean)
	}
	p.mu.Unlock()
	shut(closing, nil)
}
