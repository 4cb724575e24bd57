package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// body is a response's body that gives the connection back at its end.
type body struct {
	io.ReadCloser
	conn     *conn
	pool     *Pool
	up       *upload
	keep     bool
	stop     func() bool // watching the context
	ctx      context.Context
	finished bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.finished {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.finish(true)
	default:
		if cause := context.Cause(b.ctx); cause != nil {
			err = cause
		}
		b.finish(false)
	}
	return n, err
}

// Close ends the exchange. If the body was not read to its end, that costs the connection.
func (b *body) Close() error {
	b.finish(false)
	return nil
}

func (b *body) finish(whole bool) {
	if b.finished {
		return
	}
	b.finished = true
	if b.up != nil {
		b.up.stop()
	}
	if !b.stop() { // the context has ended: the connection's deadlines have passed
		whole = false
	}
	if whole && b.up != nil {
		select {
		case <-b.up.done:
			whole = b.up.whole.Load()
		default:
			whole = b.ended()
		}
	}
	b.pool.put(b.conn, whole && b.keep)
}

// ended waits a moment for the upload: a server may answer before it has read the last chunk.
func (b *body) ended() bool {
	wait := time.NewTimer(keepWaiting)
	defer wait.Stop()
	select {
	case <-b.up.done:
		return b.up.whole.Load()
	case <-wait.C:
		return false
	}
}

// switches says whether the connection speaks something else after the response.
func switches(r *http.Request, response *http.Response) bool {
	return response.StatusCode == http.StatusSwitchingProtocols || r.Method == http.MethodConnect && response.StatusCode/100 == 2
}

// tunnel is the body of a response that switches protocols.
type tunnel struct {
	conn *conn
	pool *Pool
	once sync.Once
}

func (t *tunnel) Read(p []byte) (int, error)  { return t.conn.in.Read(p) }
func (t *tunnel) Write(p []byte) (int, error) { return t.conn.nc.Write(p) }

func (t *tunnel) CloseWrite() error {
	if half, ok := t.conn.nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (t *tunnel) Close() error {
	t.once.Do(func() { t.pool.put(t.conn, false) })
	return nil
}

// h2body counts a stream until its end.
type h2body struct {
	io.ReadCloser
	ctx  context.Context
	once sync.Once
	end  func()
}

func (b *h2body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		if cause := context.Cause(b.ctx); cause != nil && !errors.Is(err, io.EOF) {
			err = cause
		}
		b.once.Do(b.end)
	}
	return n, err
}

func (b *h2body) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.end)
	return err
}
