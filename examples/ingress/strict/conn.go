package strict

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const lingerTime = 5 * time.Second

// Conn is a connection whose requests are looked at as they are read.
type Conn struct {
	net.Conn
	framing  framing
	refused  error
	instead  string
	switched atomic.Bool
	ended    atomic.Bool
	lingers  atomic.Bool
}

// NewConn looks at what is read from c from now on.
func NewConn(c net.Conn) *Conn { return &Conn{Conn: c} }

// Refused is the error with which reading ends after a request that was refused.
type Refused struct {
	Remote net.Addr
	Fault  string
}

func (e *Refused) Error() string { return fmt.Sprintf("%s: request refused: %s", e.Remote, e.Fault) }

// wrong is no part of any request: the server that reads it in place of one answers 400, after what it has to answer
// before that, and closes the connection. Inside a body it is an error of the body.
const wrong = "\x00\r\n\r\n"

// Read reads. In place of a request with a fault it gives one that every server refuses.
func (c *Conn) Read(p []byte) (int, error) {
	if c.refused != nil {
		n := copy(p, c.instead)
		if c.instead = c.instead[n:]; n == 0 && len(p) > 0 {
			return 0, c.refused
		}
		return n, nil
	}
	if c.ended.Load() {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p)
	if c.switched.Load() || c.framing.state == opaque {
		return n, err
	}
	good, fault := c.framing.take(p[:n])
	if fault == "" {
		return n, err
	}
	c.refused, c.instead = &Refused{c.RemoteAddr(), fault}, wrong
	if good > 0 {
		return good, nil
	}
	return c.Read(p)
}

// Switch ends the looking: the connection speaks another protocol now.
func (c *Conn) Switch() { c.switched.Store(true) }

// End lets nothing more be read, as if the client had closed the connection: the rest of a body that was given up is no request.
func (c *Conn) End() { c.ended.Store(true) }

// Linger has Close take for a while what still comes. A connection that is closed before that is reset, and the other end may never see
// what was written last.
func (c *Conn) Linger() { c.lingers.Store(true) }

// Close closes the connection.
func (c *Conn) Close() error {
	if !c.lingers.Swap(false) || c.CloseWrite() != nil {
		return c.Conn.Close()
	}
	go func() {
		_ = c.Conn.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.Copy(io.Discard, c.Conn)
		_ = c.Conn.Close()
	}()
	return nil
}

// CloseWrite closes the writing side, if the connection has one of its own.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

type key struct{}

// Context remembers the connection of a request; it fits http.Server.ConnContext.
func Context(ctx context.Context, c net.Conn) context.Context {
	if strict, ok := c.(*Conn); ok {
		return context.WithValue(ctx, key{}, strict)
	}
	return ctx
}

// From returns the connection that a request came over, or nil.
func From(ctx context.Context) *Conn {
	c, _ := ctx.Value(key{}).(*Conn)
	return c
}
