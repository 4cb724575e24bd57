package proxy

import (
	"io"
	"net/http"
	"sync"
)

// recorder notes the status and the length of a response. What else the writer can do, such as to flush or to be taken over, goes
// through Unwrap (http.ResponseController).
type recorder struct {
	http.ResponseWriter
	code    int
	written int64
}

// WriteHeader implements http.ResponseWriter. The last code counts but for those of informational responses, which come before it.
func (r *recorder) WriteHeader(code int) {
	if r.code == 0 && (code >= http.StatusOK || code == http.StatusSwitchingProtocols) {
		r.code = code
	}
	r.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	if r.code == 0 {
		r.code = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.written += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// status is the code of the response.
func (r *recorder) status() int {
	if r.code == 0 {
		return http.StatusOK // a handler that says nothing says that
	}
	return r.code
}

// prompt is a body of known length whose reader passes on what there is before it waits for more, and only then: a short response
// goes out in one piece with its headers.
type prompt struct {
	io.ReadCloser
	to    *recorder
	left  int64
	begun bool
}

// Read implements io.Reader.
func (p *prompt) Read(b []byte) (int, error) {
	there := -1
	if c, ok := p.ReadCloser.(interface{ Buffered() int }); ok {
		there = c.Buffered()
	}
	if p.left > 0 && (there == 0 || there < 0 && p.begun) {
		_ = http.NewResponseController(p.to).Flush() // it fails where the next Write does too
	}
	p.begun = true
	n, err := p.ReadCloser.Read(b)
	p.left -= int64(n)
	return n, err
}

// buffers are those through which bodies are copied.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return p[:]
	}
	return new([bufferSize]byte)[:]
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(p []byte) {
	if len(p) == bufferSize {
		b.pool.Put((*[bufferSize]byte)(p))
	}
}
