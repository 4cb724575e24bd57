package proxy

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/podplumb/podplumb/examples/ingress/upstream"
	"github.com/podplumb/podplumb/examples/internal/httproute"
)

const (
	mirrorLimit = 30 * time.Second // for the answer to a mirrored request
	mirrorMost  = 1024             // mirrored requests under way; further ones are not mirrored
	drainMost   = 64 << 10         // of the response before another try, so that its connection can be used again
)

// try sends a request of a Gateway as often as its rule says, and copies of it to the mirrors. Nothing but the first
// response that counts waits for anything.
func (p *Proxy) try(r *http.Request, on *passage) (*http.Response, error) {
	upgrade := r.Header.Get("Upgrade") != ""
	retry := on.match.Retry
	if upgrade {
		retry = nil
	}
	var mirrors []httproute.Mirror
	if !upgrade {
		mirrors = drawMirrors(on)
	}
	if r.Body != nil && r.Body != http.NoBody && (retry != nil || len(mirrors) > 0) {
		on.body = newShared(r.Body)
	}
	for i := range mirrors {
		p.mirror(r, on, &mirrors[i])
	}
	for n := 0; ; n++ {
		response, err := p.once(r, on, upgrade)
		if cause := context.Cause(r.Context()); err != nil && errors.Is(cause, context.DeadlineExceeded) {
			return nil, cause
		}
		if retry == nil || n >= retry.Attempts || !again(r, retry, response, err) || on.body != nil && !on.body.whole() {
			return response, err
		}
		if response != nil {
			_, _ = io.CopyN(io.Discard, response.Body, drainMost)
			_ = response.Body.Close()
		}
		select {
		case <-time.After(retry.Backoff):
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
	}
}

// errSlow is the cause for which a try ends.
var errSlow = errors.New("the backend did not answer in time")

// once sends the request, for as long as a try may take.
func (p *Proxy) once(r *http.Request, on *passage, upgrade bool) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := func() bool { return true }
	if limit := on.match.Timeouts.BackendRequest; limit > 0 {
		stop = time.AfterFunc(limit, func() { cancel(errSlow) }).Stop
	}
	out := r.WithContext(ctx)
	var body *reader
	if on.body != nil {
		body = on.body.lead()
		out.Body = body
	}
	response, err := p.transport.RoundTrip(out, on.snapshot.Endpoints, on.backend, &on.endpoint)
	if err != nil {
		stop()
		if errors.Is(context.Cause(ctx), errSlow) {
			err = &slowError{err}
		}
		cancel(nil)
		if body != nil {
			_ = body.Close()
		}
		return nil, err
	}
	if upgrade && response.StatusCode == http.StatusSwitchingProtocols {
		stop()
		context.AfterFunc(r.Context(), func() { cancel(nil) }) // the tunnel lasts as long as the request
		return response, nil
	}
	response.Body = &ending{response.Body, func() { stop(); cancel(nil) }}
	return response, nil
}

// slowError is a try that took too long.
type slowError struct{ error }

func (e *slowError) Unwrap() error   { return e.error }
func (e *slowError) Is(t error) bool { return t == context.DeadlineExceeded }

// ending does something when a body is closed.
type ending struct {
	io.ReadCloser
	then func()
}

func (e *ending) Close() error {
	defer e.then()
	return e.ReadCloser.Close()
}

// again says whether the outcome of a try is one to try again after. When it is not known whether the backend has acted, that
// is so only for methods that may be repeated (RFC 9110, 9.2.2).
func again(r *http.Request, retry *httproute.Retry, response *http.Response, err error) bool {
	if err == nil {
		return retry.On(response.StatusCode)
	}
	if errors.Is(err, upstream.ErrNoService) || errors.Is(err, upstream.ErrNoEndpoints) {
		return false
	}
	return upstream.NothingSent(err) ||
		slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete}, r.Method)
}

func drawMirrors(on *passage) (drawn []httproute.Mirror) {
	for _, list := range [][]httproute.Mirror{on.match.Filters.Mirrors, on.chosen.Filters.Mirrors} {
		for _, m := range list {
			if m.Draw(rand.IntN) {
				drawn = append(drawn, m)
			}
		}
	}
	return drawn
}

// mirror sends a copy of the request and forgets about the answer.
func (p *Proxy) mirror(r *http.Request, on *passage, m *httproute.Mirror) {
	select {
	case p.mirrors <- struct{}{}:
	default:
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), mirrorLimit)
	out := r.Clone(ctx)
	out.Body = nil
	if on.body != nil {
		out.Body = on.body.follow()
	}
	endpoints, backend := on.snapshot.Endpoints, backendOf(m.Target)
	go func() {
		defer func() { <-p.mirrors }()
		defer cancel()
		response, err := p.transport.RoundTrip(out, endpoints, backend, nil)
		if out.Body != nil {
			_ = out.Body.Close()
		}
		if err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
	}()
}
