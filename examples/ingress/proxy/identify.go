package proxy

import (
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// requestID is the header by which a request is found again in the logs of all that it passes.
const requestID = "X-Request-Id"

// identify gives a request an id, for the backend and for the client, unless it has one.
func identify(w http.ResponseWriter, r *http.Request) string {
	id := r.Header.Get(requestID)
	if !validID(id) {
		var b [16]byte
		for i := 0; i < len(b); i += 8 {
			n := rand.Uint64() //nolint:gosec // unlikely to be another's, that is all
			for j := range 8 {
				b[i+j] = byte(n >> (8 * j))
			}
		}
		id = hex.EncodeToString(b[:])
		r.Header.Set(requestID, id)
	}
	w.Header().Set(requestID, id)
	return id
}

// validID says whether an id of a client's can be put into logs and headers as it is.
func validID(id string) bool {
	const most = 128
	return id != "" && len(id) <= most && strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.:=+/") == ""
}

// patient ends a request of HTTP/1 whose client does not go on with its body. In HTTP/2 a body may be a stream that rests.
func (p *Proxy) patient(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && r.Body != nil && r.Body != http.NoBody && p.BodyTimeout > 0 {
		r.Body = &patience{r.Body, http.NewResponseController(w), p.BodyTimeout}
	}
}

// patience waits for each part of a body for so long.
type patience struct {
	io.ReadCloser
	control *http.ResponseController
	time    time.Duration
}

func (p *patience) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(p.time)) // the server sets another for the next request
	return p.ReadCloser.Read(b)
}
