package l7

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

// headWithin is how long the head of a response waits for the beginning of its body, to leave with it.
const headWithin = time.Millisecond

// respond gives the client the response.
func (x *exchange) respond(response *http.Response) {
	if x.switches(response) {
		x.tunnel(response)
		return
	}
	h := x.w.Header()
	clean(response.Header, false)
	for name, values := range response.Header {
		h[name] = values
	}
	if x.stream.Direction == stream.Inbound && strings.HasPrefix(strings.Join(h["Proxy-Status"], ","), proxyStatus) {
		delete(h, "Proxy-Status") // that is for us to say
	}
	announced := len(response.Trailer)
	for name := range response.Trailer {
		h.Add("Trailer", name)
	}
	if announced > 0 && x.r.ProtoMajor == 1 {
		delete(h, "Content-Length") // there is no place for trailers behind a length
	}
	for _, name := range []string{"Content-Type", "Date"} {
		if _, ok := h[name]; !ok {
			h[name] = nil // the server would add it
		}
	}
	for _, c := range x.changes {
		c.Apply(h)
	}
	if x.cors != nil {
		x.cors.Apply(h, x.r)
	}
	x.code = response.StatusCode
	x.w.WriteHeader(x.code)
	err := x.copy(response)
	_ = response.Body.Close()
	if x.grpc {
		x.grpcStatus = grpcStatusOf(response)
	}
	if err != nil {
		x.fault, x.abort = err, true
		x.endTurn(x.blame(nil, err), response, err)
		return
	}
	x.trailers(h, response, announced)
	x.endTurn(verdict(response, nil), response, nil)
}

func (x *exchange) trailers(h http.Header, response *http.Response, announced int) {
	prefix := ""
	if len(response.Trailer) != announced { // some came without a word before
		prefix = http.TrailerPrefix
	}
	for name, values := range response.Trailer {
		if len(values) > 0 {
			h[prefix+name] = values
		}
	}
}

// blame is the verdict on the endpoint where the client may be to blame.
func (x *exchange) blame(response *http.Response, err error) upstream.Verdict {
	var client *clientError
	if errors.As(err, &client) || x.gone() {
		return upstream.Neither
	}
	return verdict(response, err)
}

// clientError is an error in writing to the client.
type clientError struct{ error }

// copy carries the body. What has no known length goes on as it comes.
func (x *exchange) copy(response *http.Response) error {
	if response.Body == http.NoBody {
		return nil
	}
	known := response.ContentLength >= 0
	buffer, _ := copies.Get().(*[]byte)
	defer copies.Put(buffer)
	flush := http.NewResponseController(x.w).Flush
	var mu sync.Mutex
	over := false
	if !known {
		early := time.AfterFunc(headWithin, func() {
			mu.Lock()
			defer mu.Unlock()
			if !over {
				_ = flush()
			}
		})
		defer func() {
			early.Stop()
			mu.Lock()
			over = true // the response is its server's again
			mu.Unlock()
		}()
	}
	for {
		n, err := response.Body.Read(*buffer)
		if n > 0 {
			mu.Lock()
			over = true
			written, wrong := x.w.Write((*buffer)[:n])
			x.sent += int64(written)
			if wrong == nil && (!known || x.sent < response.ContentLength) && err == nil {
				wrong = flush()
			}
			mu.Unlock()
			if wrong != nil {
				return &clientError{wrong}
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}
