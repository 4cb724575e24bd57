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
// TCP means that they pass. The server is connected to at once, or a moment
// later if wait is set, so that it can speak first.
func race(ctx context.Context, client net.Conn, wait bool, connect connecting, classify func([]byte) (stream.Protocol, bool)) (outcome, error) {
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
		begin    = time.NewTimer(0)
		giveUp   <-chan time.Time
		reached  chan dialed
		server   net.Conn
		answered <-chan begun
		secure   bool
		passes   = make(chan begun, 1) // what passes of the client first
		decided  bool
	)
	defer begin.Stop()
	if wait {
		begin.Reset(head)
	}
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
	tcp := func(first <-chan begun) outcome {
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
				return tcp(passes), nil
			}
		case <-giveUp:
			giveUp = nil
			if said != nil {
				dial()
				decided = true
				if server != nil {
					return tcp(join(heard, said)), nil
				}
			}
		case d := <-reached:
			if d.err != nil {
				return outcome{}, d.err
			}
			server, secure, reached = d.conn, d.secure, make(chan dialed)
			answered = listen(server)
			if decided {
				if said != nil {
					return tcp(join(heard, said)), nil
				}
				return tcp(passes), nil
			}
		case b := <-answered:
			again := make(chan begun, 1)
			again <- b
			answered = again
			if said != nil {
				return tcp(join(heard, said)), nil
			}
			return tcp(passes), nil
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
