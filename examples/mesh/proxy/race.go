package proxy

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/podplumb/podplumb/examples/mesh/stream"
)

const (
	// unfinished is how long a client that began as an HTTP client does may
	// take for the rest of its first line, before its bytes pass as they are.
	unfinished = 100 * time.Millisecond

	// head is how long a client is given to speak before the other side is
	// connected to, where the last one spoke HTTP: most connections that were
	// made in advance would be thrown away.
	head = 10 * time.Millisecond
)

// waits are what a race waits for.
type waits struct {
	// dial is how long a client is given to speak before the server is
	// connected to.
	dial time.Duration

	// hold is how long a client is given to speak before it is shown what the
	// server said first.
	hold time.Duration
}

// outcome is what a race has found out.
type outcome struct {
	// protocol is HTTP1 or HTTP2 if the client speaks it; client has its first
	// bytes to be read again. Else it is TCP, and both sides pass.
	protocol stream.Protocol
	client   side
	server   side
	secure   bool // the server was reached by mutual TLS
}

// connecting connects to the server; secure says whether by mutual TLS.
type connecting func(ctx context.Context) (c net.Conn, secure bool, err error)

// race finds out who speaks first. classify looks at the client's first bytes;
// TCP means that they pass. The server is connected to at once, as far as wait
// does not say otherwise, so that it can speak first.
func race(ctx context.Context, client net.Conn, wait waits, connect connecting, classify func([]byte) (stream.Protocol, bool)) (outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type dialed struct {
		conn   net.Conn
		secure bool
		err    error
	}
	var (
		said     = listen(client)
		heard    []byte // of the client, when not all of its first line
		begin    = time.NewTimer(wait.dial)
		shown    = time.Now().Add(wait.hold)
		show     <-chan time.Time
		giveUp   <-chan time.Time
		reached  chan dialed
		server   net.Conn
		answered <-chan begun // what the server says first
		listens  <-chan begun // the same, until it was heard
		secure   bool
		passes   = make(chan begun, 1) // what passes of the client first
		decided  bool
	)
	defer begin.Stop()
	dial := func() {
		if reached != nil {
			return
		}
		reached = make(chan dialed, 1)
		to := reached
		go func() {
			c, secure, err := connect(ctx)
			to <- dialed{c, secure, err}
		}()
	}
	lose := func() { // what was connected is not needed
		switch {
		case server != nil:
			_ = server.Close()
		case reached != nil:
			to := reached
			go func() {
				if d := <-to; d.conn != nil {
					_ = d.conn.Close()
				}
			}()
		}
	}
	tcp := func() outcome {
		first := (<-chan begun)(passes)
		if said != nil {
			first = join(heard, said)
		}
		return outcome{protocol: stream.TCP, client: side{client, first}, server: side{server, answered}, secure: secure}
	}
	for {
		select {
		case <-ctx.Done():
			lose()
			return outcome{}, ctx.Err()
		case <-begin.C:
			dial()
		case b := <-said:
			said = nil
			heard = append(heard, b.data...)
			p, more := classify(heard)
			switch {
			case b.err != nil || len(heard) >= longestLine:
				passes <- begun{heard, b.err}
				decided = true
			case more:
				said = listen(client)
				if giveUp == nil {
					giveUp = time.After(unfinished)
				}
				continue
			case p != stream.TCP:
				cancel()
				lose()
				return outcome{protocol: p, client: side{Conn: replay(client, heard)}}, nil
			default:
				passes <- begun{heard, nil}
				decided = true
			}
			dial()
			if server != nil {
				return tcp(), nil
			}
		case <-giveUp:
			giveUp = nil
			if said != nil {
				dial()
				decided = true
				if server != nil {
					return tcp(), nil
				}
			}
		case d := <-reached:
			if d.err != nil {
				return outcome{}, d.err
			}
			server, secure, reached = d.conn, d.secure, make(chan dialed)
			answered = listen(server)
			if decided {
				return tcp(), nil
			}
			listens = answered
		case b := <-listens:
			listens = nil
			again := make(chan begun, 1)
			again <- b
			answered = again
			if left := time.Until(shown); left > 0 {
				show = time.After(left)
				continue
			}
			return tcp(), nil
		case <-show:
			return tcp(), nil
		}
	}
}

// join puts bytes before what is yet to come.
func join(heard []byte, said <-chan begun) <-chan begun {
	if len(heard) == 0 {
		return said
	}
	all := make(chan begun, 1)
	go func() {
		b := <-said
		all <- begun{append(heard[:len(heard):len(heard)], b.data...), b.err}
	}()
	return all
}

// dial is how long to wait before a server is connected to.
func (h *habits) dial(to netip.AddrPort) waits {
	if h.speaksHTTP(to) {
		return waits{dial: head}
	}
	return waits{}
}

// habits remembers of destinations whether HTTP was spoken last. It only
// decides when a server is connected to, and never what is spoken.
type habits struct {
	mu   sync.Mutex
	http map[netip.AddrPort]bool
}

const mostHabits = 4096

func (h *habits) speaksHTTP(to netip.AddrPort) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.http[to]
}

func (h *habits) learn(to netip.AddrPort, p stream.Protocol) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p != stream.HTTP1 && p != stream.HTTP2 {
		delete(h.http, to)
		return
	}
	if h.http == nil || len(h.http) >= mostHabits {
		h.http = map[netip.AddrPort]bool{}
	}
	h.http[to] = true
}
