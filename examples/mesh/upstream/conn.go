package upstream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	headLimit    = 1 << 20                // bytes of a response's head, as net/http has for requests
	continueWait = time.Second            // for "100 Continue"; then the body goes without it (RFC 9110, 10.1.1)
	bodyWait     = 2 * time.Millisecond   // how long the head waits for the beginning of the body, to leave with it
	copyBuffer   = 32 << 10               // bytes
	past         = 1                      // a deadline that has passed, in seconds of Unix time
	keepWaiting  = 100 * time.Millisecond // for the end of an upload after its response; then the connection is closed
)

// conn is an HTTP/1.1 connection to a server. It is used by one exchange at a time.
type conn struct {
	nc      net.Conn
	raw     syscall.RawConn // nil if there is no socket below
	in      *bufio.Reader
	out     *bufio.Writer
	left    int64 // bytes that may be read until it is too much; see Read
	made    time.Time
	idle    time.Time // since then
	used    bool      // by an exchange before this one
	renewed uint64    // the pool's count of renewals when it was made
	got     bool      // something was read in this exchange
}

func newConn(nc net.Conn, renewed uint64) *conn {
	c := &conn{nc: nc, made: time.Now(), renewed: renewed}
	c.in, c.out = bufio.NewReader(c), bufio.NewWriter(nc)
	below := nc
	for {
		if s, ok := below.(syscall.Conn); ok {
			c.raw, _ = s.SyscallConn()
			return c
		}
		wrapped, ok := below.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		below = wrapped.NetConn()
	}
}

// Read reads from the connection while a head is not too long.
func (c *conn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHead
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.nc.Read(p)
	c.left -= int64(n)
	c.got = c.got || n > 0
	return n, err
}

// upload is a request's body on its way.
type upload struct {
	done    chan struct{}
	proceed chan struct{} // closed when the body may be sent; nil: at once
	once    sync.Once
	err     error // of the client; read it after done
	whole   atomic.Bool
	vain    atomic.Bool // the exchange is over
}

func (u *upload) begin() {
	if u != nil && u.proceed != nil {
		u.once.Do(func() { close(u.proceed) })
	}
}

// stop has a body that waits to be asked for not be sent any more.
func (u *upload) stop() {
	u.vain.Store(true)
	u.begin()
}

// exchange carries a request and reads the head of its response. The returned upload is nil for a request without a body.
func (c *conn) exchange(ctx context.Context, r *http.Request, informational func(int, http.Header) error) (*http.Response, *upload, error) {
	c.got, c.left = false, headLimit
	if err := c.head(r); err != nil {
		return nil, nil, err
	}
	var up *upload
	if r.Body == nil || r.Body == http.NoBody {
		if err := c.out.Flush(); err != nil {
			return nil, nil, err
		}
	} else {
		up = &upload{done: make(chan struct{})}
		if strings.EqualFold(r.Header.Get("Expect"), "100-continue") {
			up.proceed = make(chan struct{})
		}
		go c.send(ctx, r, up)
	}
	for {
		response, err := http.ReadResponse(c.in, r)
		switch {
		case err != nil:
			return nil, up, err
		case response.StatusCode == http.StatusContinue:
			up.begin()
		case response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols:
			c.left = 1<<63 - 1
			return response, up, nil
		case informational != nil:
			if err := informational(response.StatusCode, response.Header); err != nil {
				return nil, up, err
			}
		}
		c.left = headLimit
	}
}

// send writes the body. Nobody else writes meanwhile.
func (c *conn) send(ctx context.Context, r *http.Request, up *upload) {
	defer close(up.done)
	if up.proceed != nil {
		if err := c.out.Flush(); err != nil {
			return
		}
		wait := time.NewTimer(continueWait)
		defer wait.Stop()
		select {
		case <-up.proceed:
		case <-wait.C:
		case <-ctx.Done():
			return
		}
		if up.vain.Load() {
			return
		}
	}
	var mu sync.Mutex
	ended := false
	early := time.AfterFunc(bodyWait, func() { // the server may want to see the head before the client sends more
		mu.Lock()
		defer mu.Unlock()
		if !ended {
			_ = c.out.Flush()
		}
	})
	defer func() {
		early.Stop()
		mu.Lock()
		ended = true
		mu.Unlock()
	}()
	buffer, _ := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	chunked, sent := r.ContentLength <= 0, int64(0)
	for {
		n, err := r.Body.Read(*buffer)
		mu.Lock()
		if sent += int64(n); n > 0 && !c.chunk((*buffer)[:n], chunked) {
			mu.Unlock()
			return // the reader finds out why
		}
		last := err == io.EOF && (chunked || sent == r.ContentLength) || err == nil && !chunked && sent == r.ContentLength
		if last && chunked {
			c.lastChunk(r.Trailer)
		}
		flushed := c.out.Flush()
		mu.Unlock()
		switch {
		case last:
			up.whole.Store(flushed == nil)
			return
		case err != nil:
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			up.err = err
			_ = c.nc.SetDeadline(time.Unix(past, 0)) // there is no other way to say that a body ends too early
			return
		case flushed != nil:
			return
		}
	}
}

var buffers = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}

func (c *conn) chunk(p []byte, chunked bool) bool {
	if !chunked {
		_, err := c.out.Write(p)
		return err == nil
	}
	_, _ = c.out.Write(strconv.AppendUint(c.out.AvailableBuffer(), uint64(len(p)), 16))
	_, _ = c.out.WriteString("\r\n")
	_, _ = c.out.Write(p)
	_, err := c.out.WriteString("\r\n")
	return err == nil
}

func (c *conn) lastChunk(trailer http.Header) {
	_, _ = c.out.WriteString("0\r\n")
	c.fields(trailer)
	_, _ = c.out.WriteString("\r\n")
}

// head writes the request line and the headers.
func (c *conn) head(r *http.Request) error {
	w := c.out
	target := r.RequestURI
	if target == "" {
		target = r.URL.RequestURI()
	}
	if !plain(target) || !plain(r.Host) || !plain(r.Method) {
		return errHeader
	}
	_, _ = w.WriteString(r.Method)
	_ = w.WriteByte(' ')
	_, _ = w.WriteString(target)
	_, _ = w.WriteString(" HTTP/1.1\r\nHost: ")
	_, _ = w.WriteString(r.Host)
	_, _ = w.WriteString("\r\n")
	if !c.fields(r.Header) {
		return errHeader
	}
	switch body := r.Body != nil && r.Body != http.NoBody; {
	case body && r.ContentLength <= 0: // 0 with a body is not known, as net/http has it
		_, _ = w.WriteString("Transfer-Encoding: chunked\r\n")
		if len(r.Trailer) > 0 {
			separator := "Trailer: "
			for name := range r.Trailer {
				_, _ = w.WriteString(separator)
				_, _ = w.WriteString(name)
				separator = ", "
			}
			_, _ = w.WriteString("\r\n")
		}
	case body, r.Header["Content-Length"] != nil:
		_, _ = w.WriteString("Content-Length: ")
		_, _ = w.Write(strconv.AppendInt(w.AvailableBuffer(), r.ContentLength, 10))
		_, _ = w.WriteString("\r\n")
	}
	_, err := w.WriteString("\r\n")
	return err
}

// fields writes headers, without those that tell the framing. It is false if one would break it.
func (c *conn) fields(h http.Header) bool {
	for name, values := range h {
		if name == "Content-Length" || name == "Transfer-Encoding" || name == "Host" || name == "Trailer" {
			continue
		}
		for _, value := range values {
			if !plain(value) {
				return false
			}
			_, _ = c.out.WriteString(name)
			_, _ = c.out.WriteString(": ")
			_, _ = c.out.WriteString(value)
			_, _ = c.out.WriteString("\r\n")
		}
	}
	return true
}

func plain(s string) bool {
	for i := range len(s) {
		if s[i] == '\n' || s[i] == '\r' || s[i] == 0 {
			return false
		}
	}
	return true
}
