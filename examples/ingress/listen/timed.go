package listen

import (
	"errors"
	"net"
	"time"
)

type timedListener struct {
	net.Listener
	write time.Duration
}

// Accept implements net.Listener.
func (l *timedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &timed{c, l.write}, nil
}

// timed is a connection whose other end has to take what is written to it.
type timed struct {
	net.Conn
	write time.Duration
}

// Write implements net.Conn.
func (c *timed) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.write)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// CloseWrite closes the writing side, if the connection has one of its own.
func (c *timed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
