package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/podplumb/podplumb/examples/ingress/strict"
)

// What is left of a body whose request was answered before its end is taken, so that the connection can be used further, if it is
// so little and comes so soon.
const (
	leaveMost = 256 << 10
	leaveTime = 500 * time.Millisecond
)

// patient ends a request of HTTP/1 whose client does not go on with its body. In HTTP/2 a body may be a stream that rests.
func (p *Proxy) patient(w http.ResponseWriter, r *http.Request) *patience {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	body := &patience{ReadCloser: r.Body}
	if r.ProtoMajor == 1 {
		body.control, body.time = http.NewResponseController(w), p.BodyTimeout
	}
	r.Body = body
	return body
}

// patience waits for each part of a body for so long.
type patience struct {
	io.ReadCloser
	control *http.ResponseController // nil in HTTP/2
	time    time.Duration            // 0: as long as it takes
	duplex  bool                     // the response may begin before the body has ended
	begun   atomic.Bool              // something of it was read
	whole   atomic.Bool              // it was read to its end
	broken  atomic.Int32             // the code for a body that has no end: 0, it may have one yet
	late    atomic.Bool              // the request was answered
}

// bothWays lets the response begin before a body has ended. The server would read the body to its end before it writes anything.
func (p *patience) bothWays() {
	if p != nil && p.control != nil {
		p.duplex = p.control.EnableFullDuplex() == nil
	}
}

// Read implements io.Reader.
func (p *patience) Read(b []byte) (int, error) {
	if p.time > 0 && !p.late.Load() {
		_ = p.control.SetReadDeadline(time.Now().Add(p.time)) // the server sets another for the next request
	}
	n, err := p.ReadCloser.Read(b)
	if n > 0 {
		p.begun.Store(true)
	}
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF):
		p.whole.Store(true)
	case err == nil || p.late.Load():
	case errors.As(err, &timeout) && timeout.Timeout():
		p.broken.Store(http.StatusRequestTimeout)
	default:
		p.broken.Store(http.StatusBadRequest)
	}
	return n, err
}

// Close does nothing: the server closes the body when its request is over.
func (p *patience) Close() error { return nil }

// takeLeave is the end of a request that may have been answered before the end of its body. If that does not come, the connection is
// closed, but not before the client could read the answer.
func (p *patience) takeLeave(w *recorder, r *http.Request) {
	if p == nil || p.control == nil || p.whole.Load() || w.code == http.StatusSwitchingProtocols {
		return
	}
	c := strict.From(r.Context())
	if c != nil {
		c.Linger()
	}
	if !p.duplex {
		return // the server does the same
	}
	_ = p.control.Flush()
	p.late.Store(true)
	asked := r.Header.Get("Expect") == "" || p.begun.Load() // else the client waits to be asked for it, and may not be any more
	if asked {
		_ = p.control.SetReadDeadline(time.Now().Add(leaveTime))
		_, _ = io.CopyN(io.Discard, p, leaveMost)
	}
	if c != nil && !p.whole.Load() {
		_ = p.control.SetReadDeadline(time.Unix(1, 0)) // the server would wait for more of it
		c.End()
	}
}

// within sends a request of an Ingress, and gives it up when for so long neither the client sends something nor the backend begins
// to answer. Streams of gRPC and tunnels may rest.
func within(limit time.Duration, r *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	if limit <= 0 || r.Header.Get("Upgrade") != "" || strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		return send(r)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	var answered atomic.Bool
	timer := time.AfterFunc(limit, func() {
		if !answered.Load() {
			cancel(errSlow)
		}
	})
	out := r.WithContext(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		out.Body = &prolonging{r.Body, timer, limit}
	}
	response, err := send(out)
	answered.Store(true)
	timer.Stop()
	if err != nil {
		if errors.Is(context.Cause(ctx), errSlow) {
			err = &slowError{err}
		}
		cancel(nil)
		return nil, err
	}
	return response, nil // the context ends with the request's
}

// prolonging is a body with which time begins anew.
type prolonging struct {
	io.ReadCloser
	timer *time.Timer
	limit time.Duration
}

// Read implements io.Reader.
func (p *prolonging) Read(b []byte) (int, error) {
	n, err := p.ReadCloser.Read(b)
	p.timer.Reset(p.limit)
	return n, err
}
