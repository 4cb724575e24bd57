package l7

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/podplumb/podplumb/examples/internal/httproute"
	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

const (
	mostMirrors = 64               // requests that are mirrored at a time; others are not
	mirrorTime  = 10 * time.Second // for each
)

// mirror sends the request to other backends too. Requests whose body is of unknown length or large are not mirrored: the
// client's own must not wait for that.
func (x *exchange) mirror(list []httproute.Mirror) {
	for i := range list {
		m := &list[i]
		if !m.Draw(rand.IntN) {
			continue
		}
		to, ok := x.proxy.backend(x.stream, m.Target)
		if !ok || x.body != nil && (x.r.ContentLength < 0 || x.r.ContentLength > bodyReplay) {
			continue
		}
		var body []byte
		if x.body != nil {
			var err error
			if body, err = io.ReadAll(x.body.from); err != nil {
				x.body.from = io.NopCloser(io.MultiReader(bytes.NewReader(body), broken{err}))
				return
			}
			x.body.from = io.NopCloser(bytes.NewReader(body))
		}
		select {
		case x.proxy.mirrors <- struct{}{}:
		default:
			continue
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), mirrorTime)
		r := x.r.Clone(ctx)
		r.Header.Del("Expect")
		if body != nil {
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		go func() {
			defer func() { <-x.proxy.mirrors }()
			defer cancel()
			shadow(r, to)
		}()
	}
}

func shadow(r *http.Request, to *destination) {
	turn := upstream.Pick(to.known.Load().list, nil, time.Now())
	if turn == nil {
		return
	}
	response, err := turn.Endpoint.RoundTrip(r, nil)
	if err == nil {
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	turn.End(verdict(response, err))
}

// broken is a body that ends with an error.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }
