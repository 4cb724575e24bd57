package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
)

// replayed is a connection whose first bytes were read and are read again.
type replayed struct {
	net.Conn
	first []byte
}

// replay puts the bytes back.
func replay(c net.Conn, first []byte) net.Conn {
	if len(first) == 0 {
		return c
	}
	return &replayed{c, first}
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(p, r.first)
		if r.first = r.first[n:]; len(r.first) == 0 {
			r.first = nil
		}
		return n, nil
	}
	return r.Conn.Read(p)
}

// CloseWrite ends one direction.
func (r *replayed) CloseWrite() error { return closeWrite(r.Conn) }

// NetConn is the connection below.
func (r *replayed) NetConn() net.Conn { return r.Conn }

func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// reset ends a connection so that the other side sees that it failed.
func reset(c net.Conn) {
	inner := c
	for {
		below, ok := inner.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		inner = below.NetConn()
	}
	if tcp, ok := inner.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = inner.Close() // and not c: TLS would say farewell
}

// begun is what a side said first.
type begun struct {
	data []byte
	err  error
}

const firstRead = 4 << 10

// listen reads what a side says first.
func listen(c net.Conn) <-chan begun {
	said := make(chan begun, 1)
	go func() {
		buf := make([]byte, firstRead)
		n, err := c.Read(buf)
		said <- begun{buf[:n], err}
	}()
	return said
}

// side is one end of a connection that passes; first, when set, is what is
// read of it before anything else.
type side struct {
	net.Conn
	first <-chan begun
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// pass carries bytes both ways until both directions have ended, each by
// itself. What fails is reset on both sides. It returns how many bytes went
// from a to b and back.
func pass(a, b side) (there, back int64, err error) {
	var wrong [2]error
	var both sync.WaitGroup
	both.Add(1)
	go func() {
		defer both.Done()
		there, wrong[0] = carry(b.Conn, a)
		if wrong[0] != nil {
			reset(a.Conn)
			reset(b.Conn)
		}
	}()
	back, wrong[1] = carry(a.Conn, b)
	if wrong[1] != nil {
		reset(a.Conn)
		reset(b.Conn)
	}
	both.Wait()
	_ = a.Close()
	_ = b.Close()
	return there, back, errors.Join(wrong[0], wrong[1])
}

func carry(to net.Conn, from side) (n int64, err error) {
	if from.first != nil {
		said := <-from.first
		if len(said.data) > 0 {
			written, err := to.Write(said.data)
			n += int64(written)
			if err != nil {
				return n, err
			}
		}
		if said.err != nil && !errors.Is(said.err, io.EOF) {
			return n, said.err
		}
		if said.err != nil {
			return n, closeWrite(to)
		}
	}
	more, err := copyAll(to, from.Conn)
	n += more
	if err != nil {
		return n, err
	}
	return n, closeWrite(to)
}

// copyAll copies until the end. Between two TCP connections the kernel does it.
func copyAll(to, from net.Conn) (int64, error) {
	_, a := to.(*net.TCPConn)
	_, b := from.(*net.TCPConn)
	if a && b {
		return io.Copy(to, from)
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, *buf)
}
