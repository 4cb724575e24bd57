package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	idleMost     = 256 // connections to an endpoint that wait for the next request
	idleTime     = time.Minute
	responseMost = 1 << 20 // bytes of the headers of a response
)

// direct sends requests without a body over HTTP/1 and reads the responses, all in the goroutine that asks. http.Transport has two
// more for each connection, and what is handed over between the three costs about as much as all the rest.
type direct struct {
	dial Dial

	mu     sync.Mutex
	idle   map[netip.AddrPort][]*directConn // the last used last
	sweep  *time.Timer                      // runs while there are any
	closed bool
}

// directConn is a connection to an endpoint. One request at a time has it.
type directConn struct {
	net.Conn
	raw   syscall.RawConn
	owner *direct
	to    netip.AddrPort
	in    *bufio.Reader
	out   *bufio.Writer
	left  int // bytes that the headers may still have; negative: no headers are read
	since time.Time
}

// fits says whether direct can send a request: it has no body, is not to become anything else, and may be sent again when a
// connection turns out to be dead.
func fits(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
	default:
		return false
	}
	if r.Body != nil && r.Body != http.NoBody || len(r.Trailer) > 0 || r.Host == "" || !httpguts.ValidHostHeader(r.Host) {
		return false
	}
	for _, name := range []string{"Upgrade", "Expect", "Transfer-Encoding"} {
		if len(r.Header[name]) > 0 {
			return false
		}
	}
	return true
}

// RoundTrip implements http.RoundTripper for requests that fit. The URL's host is the endpoint.
func (d *direct) RoundTrip(r *http.Request, to netip.AddrPort) (*http.Response, error) {
	for {
		c, used, err := d.conn(r.Context(), to)
		if err != nil {
			return nil, err
		}
		response, silent, err := c.roundTrip(r)
		if err == nil {
			return response, nil
		}
		_ = c.Close()
		if !used || !silent || r.Context().Err() != nil { // else it ended just when it was to be used again
			return nil, err
		}
	}
}

// conn returns a connection, and whether it was used before.
func (d *direct) conn(ctx context.Context, to netip.AddrPort) (c *directConn, used bool, err error) {
	for {
		if c = d.take(to); c == nil {
			break
		}
		if time.Since(c.since) < idleTime && c.quiet() {
			return c, true, nil
		}
		_ = c.Close()
	}
	conn, err := d.dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, false, &dialError{err}
	}
	c = &directConn{Conn: conn, owner: d, to: to, left: -1}
	if s, ok := conn.(syscall.Conn); ok {
		if c.raw, err = s.SyscallConn(); err != nil {
			_ = conn.Close()
			return nil, false, err
		}
	}
	const buffer = 4 << 10
	c.in, c.out = bufio.NewReaderSize(c, buffer), bufio.NewWriterSize(conn, buffer)
	return c, false, nil
}

func (d *direct) take(to netip.AddrPort) *directConn {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.idle[to]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	list[len(list)-1] = nil
	d.idle[to] = list[:len(list)-1]
	return c
}

// quiet says whether the connection is open and nothing came that nobody asked for.
func (c *directConn) quiet() bool {
	quiet := false
	err := c.raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(err, syscall.EAGAIN)
		return true
	})
	return err == nil && quiet
}

// give takes back a connection whose response was read to its end.
func (d *direct) give(c *directConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || c.raw == nil || c.in.Buffered() > 0 || len(d.idle[c.to]) >= idleMost {
		_ = c.Close()
		return
	}
	if d.idle == nil {
		d.idle = map[netip.AddrPort][]*directConn{}
	}
	c.since = time.Now()
	d.idle[c.to] = append(d.idle[c.to], c)
	if d.sweep == nil {
		d.sweep = time.AfterFunc(idleTime, d.clean)
	}
}

// clean closes what nobody has used for a while.
func (d *direct) clean() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for to, list := range d.idle {
		old := 0
		for old < len(list) && time.Since(list[old].since) >= idleTime {
			_ = list[old].Close()
			old++
		}
		if d.idle[to] = append([]*directConn(nil), list[old:]...); old == len(list) {
			delete(d.idle, to)
		}
	}
	if d.sweep = nil; len(d.idle) > 0 && !d.closed {
		d.sweep = time.AfterFunc(idleTime/2, d.clean)
	}
}

// close closes the connections that are not in use, and those that are after their response.
func (d *direct) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, list := range d.idle {
		for _, c := range list {
			_ = c.Close()
		}
	}
	d.idle = nil
	if d.sweep != nil {
		d.sweep.Stop()
	}
}

var errLongHeaders = errors.New("the headers of the response are too long")

// Read reads from the connection, for headers not without end.
func (c *directConn) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errLongHeaders
	}
	if c.left > 0 && len(p) > c.left {
		p = p[:c.left]
	}
	n, err := c.Conn.Read(p)
	if c.left > 0 {
		c.left -= n
	}
	return n, err
}

// roundTrip sends the request and reads the headers of the response. silent says of an error that not one byte came back.
func (c *directConn) roundTrip(r *http.Request) (response *http.Response, silent bool, err error) {
	ctx := r.Context()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if err != nil {
			stop()
			if cause := ctx.Err(); cause != nil {
				err = cause
			}
		}
	}()
	if err := c.write(r); err != nil {
		return nil, false, err
	}
	if err := c.out.Flush(); err != nil {
		return nil, true, err
	}
	c.left = responseMost
	if _, err := c.in.Peek(1); err != nil {
		return nil, true, fmt.Errorf("read the response of %s: %w", c.to, noEOF(err))
	}
	for {
		response, err = http.ReadResponse(c.in, r)
		if err != nil {
			return nil, false, fmt.Errorf("read the response of %s: %w", c.to, noEOF(err))
		}
		if response.StatusCode >= http.StatusOK {
			break
		}
		if response.StatusCode == http.StatusSwitchingProtocols {
			return nil, false, fmt.Errorf("%s switches protocols without being asked", c.to)
		}
		if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(response.StatusCode, textproto.MIMEHeader(response.Header)); err != nil {
				return nil, false, err
			}
		}
	}
	c.left = -1
	body := &directBody{ReadCloser: response.Body, conn: c, stop: stop, keep: !response.Close}
	if response.Body == http.NoBody || response.ContentLength == 0 || r.Method == http.MethodHead {
		body.end()
	}
	response.Body = body
	return response, false, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

var errHeader = errors.New("a header has a line break in it")

// write writes the request as RFC 9112 has it.
func (c *directConn) write(r *http.Request) error {
	w := c.out
	put := func(parts ...string) {
		for _, p := range parts {
			_, _ = w.WriteString(p) // Flush tells
		}
	}
	put(r.Method, " ", r.URL.RequestURI(), " HTTP/1.1\r\nHost: ", r.Host, "\r\n")
	for name, values := range r.Header {
		switch name {
		case "Host", "Content-Length", "Trailer", "Connection":
			continue
		case "User-Agent":
			if len(values) > 0 && values[0] == "" {
				continue // the reverse proxy's way to say that there is none
			}
		}
		for _, v := range values {
			if broken(name) || broken(v) { // the server would not have let it in; a filter may have added it
				return errHeader
			}
			put(name, ": ", strings.TrimSpace(v), "\r\n")
		}
	}
	put("\r\n")
	return nil
}

func broken(s string) bool {
	return strings.IndexByte(s, '\n') >= 0 || strings.IndexByte(s, '\r') >= 0 || strings.IndexByte(s, 0) >= 0
}

// directBody gives the connection back at its end.
type directBody struct {
	io.ReadCloser
	conn *directConn
	stop func() bool
	keep bool
	done bool
}

// Read implements io.Reader.
func (b *directBody) Read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		b.end()
	case err != nil:
		b.keep = false
		b.end()
	}
	return n, err
}

// end ends the use of the connection. The response was read to its end, or keep is false.
func (b *directBody) end() {
	if b.done {
		return
	}
	b.done = true
	if !b.stop() || !b.keep { // the request was given up, and the connection has a deadline
		_ = b.conn.Close()
		return
	}
	b.conn.owner.give(b.conn)
}

// Buffered is how much has come and was not read.
func (b *directBody) Buffered() int {
	if b.done {
		return 0
	}
	return b.conn.in.Buffered()
}

// Close implements io.Closer. What was not read is not worth reading.
func (b *directBody) Close() error {
	if !b.done {
		b.keep = false
		b.end()
	}
	return nil
}
