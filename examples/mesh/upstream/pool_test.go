package upstream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

// to makes a Pool to an address and counts its connections.
func to(t *testing.T, address string, config upstream.Config) (*upstream.Pool, *atomic.Int64) {
	t.Helper()
	dialed := new(atomic.Int64)
	config.Dial = func(ctx context.Context, _ int) (net.Conn, error) {
		dialed.Add(1)
		return (&net.Dialer{}).DialContext(ctx, "tcp", address)
	}
	p := upstream.New(config)
	t.Cleanup(p.Close)
	return p, dialed
}

func serve(t *testing.T, handler http.HandlerFunc) (address string) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// raw serves connections by hand.
func raw(t *testing.T, serve func(n int, c net.Conn, in *bufio.Reader)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	t.Cleanup(func() { l.Close(); running.Wait() })
	running.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { defer c.Close(); serve(n, c, bufio.NewReader(c)) })
		}
	})
	return l.Addr().String()
}

func request(t *testing.T, method string, major int, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://shop.example/path?q=1", body)
	require.NoError(t, err)
	r.ProtoMajor = major
	return r
}

func read(t *testing.T, response *http.Response, err error) string {
	t.Helper()
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body)
}

func TestRequests(t *testing.T) {
	t.Parallel()
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("X-Seen", fmt.Sprint(r.Method, " ", r.Proto, " ", r.Host, " ", r.RequestURI, " ", r.ContentLength, " ", r.Header["X-A"], " ", r.Trailer))
		w.WriteHeader(http.StatusAccepted)
		fmt.Fprintf(w, "%s", body)
		w.Header().Set("X-Sum", "7")
	})
	for major, proto := range map[int]string{1: "HTTP/1.1", 2: "HTTP/2.0"} {
		p, dialed := to(t, address, upstream.Config{})
		r := request(t, http.MethodGet, major, nil)
		r.Header["X-A"] = []string{"1", "2"}
		response, err := p.RoundTrip(r, nil)
		require.Empty(t, read(t, response, err))
		require.Equal(t, "GET "+proto+" shop.example /path?q=1 0 [1 2] map[]", response.Header.Get("X-Seen"))
		require.Equal(t, http.StatusAccepted, response.StatusCode)

		r = request(t, http.MethodPost, major, strings.NewReader("hello"))
		response, err = p.RoundTrip(r, nil)
		require.Equal(t, "hello", read(t, response, err))
		require.Equal(t, "POST "+proto+" shop.example /path?q=1 5 [] map[]", response.Header.Get("X-Seen"))
		require.Equal(t, "7", response.Trailer.Get("X-Sum"))

		r = request(t, http.MethodPost, major, io.NopCloser(strings.NewReader(strings.Repeat("x", 100_000)))) // of unknown length
		r.ContentLength = -1
		r.Trailer = http.Header{"X-T": {"8"}}
		response, err = p.RoundTrip(r, nil)
		require.Len(t, read(t, response, err), 100_000)
		require.Equal(t, "POST "+proto+" shop.example /path?q=1 -1 [] map[X-T:[8]]", response.Header.Get("X-Seen"))

		r = request(t, http.MethodHead, major, nil)
		response, err = p.RoundTrip(r, nil)
		require.Empty(t, read(t, response, err))
		require.Equal(t, int64(1), dialed.Load(), "all over one connection")
	}
}

// A server that answers while it still reads: both ways at once.
func TestDuplex(t *testing.T) {
	t.Parallel()
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintln(w, "echo", lines.Text())
			_ = http.NewResponseController(w).Flush()
		}
	})
	for _, major := range []int{1, 2} {
		p, dialed := to(t, address, upstream.Config{})
		for range 3 {
			in, out := io.Pipe()
			r := request(t, http.MethodPost, major, in)
			response, err := p.RoundTrip(r, nil)
			require.NoError(t, err)
			lines := bufio.NewReader(response.Body)
			for i := range 3 {
				fmt.Fprintln(out, i)
				line, err := lines.ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf("echo %d\n", i), line)
			}
			out.Close()
			_, err = lines.ReadByte()
			require.ErrorIs(t, err, io.EOF)
			response.Body.Close()
		}
		require.Equal(t, int64(1), dialed.Load())
	}
}

func TestContinue(t *testing.T) {
	t.Parallel()
	address := raw(t, func(_ int, c net.Conn, in *bufio.Reader) {
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			if r.Header.Get("Refuse") != "" {
				fmt.Fprint(c, "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				return
			}
			fmt.Fprint(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		}
	})
	p, dialed := to(t, address, upstream.Config{})
	r := request(t, http.MethodPut, 1, strings.NewReader("hello"))
	r.Header.Set("Expect", "100-continue")
	var hints []string
	begin := time.Now()
	response, err := p.RoundTrip(r, func(code int, h http.Header) error {
		hints = append(hints, fmt.Sprint(code, h.Get("Link")))
		return nil
	})
	require.Equal(t, "hello", read(t, response, err))
	require.Equal(t, []string{"103</a>"}, hints)
	require.Less(t, time.Since(begin), 900*time.Millisecond, "the body did not wait for the timeout")

	body := &watched{Reader: strings.NewReader("hello")}
	r = request(t, http.MethodPut, 1, body)
	r.ContentLength = 5
	r.Header.Set("Expect", "100-continue")
	r.Header.Set("Refuse", "yes")
	response, err = p.RoundTrip(r, nil)
	require.Empty(t, read(t, response, err))
	require.Equal(t, http.StatusForbidden, response.StatusCode)
	require.False(t, body.read.Load(), "a body that nobody wants is not read")
	require.Equal(t, int64(1), dialed.Load())
}

type watched struct {
	io.Reader
	read atomic.Bool
}

func (w *watched) Read(p []byte) (int, error) { w.read.Store(true); return w.Reader.Read(p) }

// Connections that the server closed while they were idle are not used; those it closes as they are used are tried again.
func TestStale(t *testing.T) {
	t.Parallel()
	var answered atomic.Int64
	address := raw(t, func(n int, c net.Conn, in *bufio.Reader) {
		for range 2 {
			if _, err := http.ReadRequest(in); err != nil {
				return
			}
			if answered.Add(1); n == 0 && answered.Load() == 2 {
				return // reads a second request and goes
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", n)
		}
	})
	p, dialed := to(t, address, upstream.Config{})
	require.Equal(t, "0", func() string { r, err := p.RoundTrip(request(t, "GET", 1, nil), nil); return read(t, r, err) }())
	require.Equal(t, "1", func() string { r, err := p.RoundTrip(request(t, "GET", 1, nil), nil); return read(t, r, err) }())
	require.Equal(t, int64(2), dialed.Load())
	require.Equal(t, "1", func() string { r, err := p.RoundTrip(request(t, "GET", 1, nil), nil); return read(t, r, err) }())
	// The server has closed that one now: it must not be used, not even for what cannot be tried again.
	require.Eventually(t, func() bool {
		r, err := p.RoundTrip(request(t, "POST", 1, strings.NewReader("x")), nil)
		return read(t, r, err) == "2"
	}, 5*time.Second, time.Millisecond)

	one := raw(t, func(n int, c net.Conn, in *bufio.Reader) {
		_, _ = http.ReadRequest(in)
		if n == 0 {
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			_, _ = http.ReadRequest(in)
		}
	})
	p, _ = to(t, one, upstream.Config{})
	r, err := p.RoundTrip(request(t, "GET", 1, nil), nil)
	require.Empty(t, read(t, r, err))
	_, err = p.RoundTrip(request(t, "POST", 1, nil), nil)
	var stale *upstream.Stale
	require.ErrorAs(t, err, &stale, "a POST is not sent again")
	_, err = p.RoundTrip(request(t, "GET", 1, nil), nil)
	require.Error(t, err)
	require.NotErrorAs(t, err, &stale, "over a new connection it is the server's fault")
}

func TestLimits(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	address := serve(t, func(_ http.ResponseWriter, _ *http.Request) { <-release })
	p, dialed := to(t, address, upstream.Config{Connections: 2, Pending: 2})
	results := make(chan error, 5)
	for range 4 {
		go func() {
			r, err := p.RoundTrip(request(t, "GET", 1, nil), nil)
			if err == nil {
				r.Body.Close()
			}
			results <- err
		}()
	}
	require.Eventually(t, func() bool { _, _, waiting := p.Open(); return waiting == 2 }, 5*time.Second, time.Millisecond)
	_, over := p.RoundTrip(request(t, "GET", 1, nil), nil)
	require.ErrorIs(t, over, upstream.ErrOverflow)
	var notSent *upstream.NotSent
	require.ErrorAs(t, over, &notSent)
	close(release)
	for range 4 {
		require.NoError(t, <-results)
	}
	require.Equal(t, int64(2), dialed.Load())
	open, idle, _ := p.Open()
	require.Equal(t, []int{2, 2}, []int{open, idle})

	dead, _ := to(t, "127.0.0.1:1", upstream.Config{})
	for range 3 {
		_, err := dead.RoundTrip(request(t, "GET", 1, nil), nil)
		require.ErrorAs(t, err, &notSent)
		_, err = dead.RoundTrip(request(t, "GET", 2, nil), nil)
		require.ErrorAs(t, err, &notSent)
	}
	open, _, _ = dead.Open()
	require.Zero(t, open)
}

// Renewal under load: no request fails, and connections are new afterwards.
func TestRenew(t *testing.T) {
	t.Parallel()
	for _, major := range []int{1, 2} {
		address := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
		p, dialed := to(t, address, upstream.Config{})
		var load sync.WaitGroup
		var failed atomic.Value
		for range 8 {
			load.Go(func() {
				for range 200 {
					response, err := p.RoundTrip(request(t, "GET", major, nil), nil)
					if err == nil {
						_, err = io.Copy(io.Discard, response.Body)
						response.Body.Close()
					}
					if err != nil {
						failed.Store(err)
					}
				}
			})
		}
		for range 20 {
			time.Sleep(time.Millisecond)
			p.Renew()
		}
		load.Wait()
		require.Nil(t, failed.Load())
		before := dialed.Load()
		require.Greater(t, before, int64(2))
		p.Renew()
		response, err := p.RoundTrip(request(t, "GET", major, nil), nil)
		require.Equal(t, "ok", read(t, response, err))
		require.Equal(t, before+1, dialed.Load())
		open, idle, _ := p.Open()
		require.Equal(t, open, idle)
	}
}

// What is given up midway leaves nothing behind.
func TestCancel(t *testing.T) {
	before := runtime.NumGoroutine()
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	for _, major := range []int{1, 2} {
		p, _ := to(t, address, upstream.Config{IdleTime: 100 * time.Millisecond}) // of a connection whose last stream ends after Close
		for _, body := range []bool{false, true} {
			ctx, cancel := context.WithCancelCause(t.Context())
			in, out := io.Pipe()
			r := request(t, http.MethodPost, major, nil)
			if body {
				r = request(t, http.MethodPost, major, in)
			}
			response, err := p.RoundTrip(r.WithContext(ctx), nil)
			require.NoError(t, err)
			cause := errors.New("enough")
			time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
			_, err = io.ReadAll(response.Body)
			require.Error(t, err)
			require.ErrorIs(t, err, cause)
			response.Body.Close()
			out.Close()
		}
		open, _, _ := p.Open()
		require.Zero(t, open)
		p.Close()
		_, err := p.RoundTrip(request(t, "GET", major, nil), nil)
		require.ErrorIs(t, err, upstream.ErrClosed)
	}
	if !eventually(func() bool { return runtime.NumGoroutine() <= before+3 }) { // the server's
		stacks := make([]byte, 1<<20)
		t.Fatalf("goroutines are left:\n%s", stacks[:runtime.Stack(stacks, true)])
	}
}

func TestBadServers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"nonsense":        "nonsense\r\n\r\n",
		"nothing":         "",
		"half a head":     "HTTP/1.1 200 OK\r\nX: ",
		"an endless head": "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 1100),
		"hints for ever":  strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 3),
	} {
		address := raw(t, func(_ int, c net.Conn, in *bufio.Reader) {
			_, _ = http.ReadRequest(in)
			_, _ = io.WriteString(c, answer)
		})
		p, _ := to(t, address, upstream.Config{})
		_, err := p.RoundTrip(request(t, "GET", 1, nil), nil)
		require.Error(t, err, name)
		open, _, _ := p.Open()
		require.Zero(t, open, name)
	}
	surplus := raw(t, func(n int, c net.Conn, in *bufio.Reader) {
		_, _ = http.ReadRequest(in)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%dHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong", n)
		_, _ = in.ReadByte()
	})
	p, _ := to(t, surplus, upstream.Config{})
	for _, want := range []string{"0", "1"} {
		r, err := p.RoundTrip(request(t, "GET", 1, nil), nil)
		require.Equal(t, want, read(t, r, err), "what nobody asked for is nobody's response")
	}
	r := request(t, "GET", 1, nil)
	r.Header["X"] = []string{"a\r\nSmuggled: yes"}
	_, err := p.RoundTrip(r, nil)
	require.Error(t, err)
}

// A body that ends too early is never taken for a whole one.
func TestShortBody(t *testing.T) {
	t.Parallel()
	whole := make(chan bool, 1)
	address := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		whole <- err == nil
	})
	for _, major := range []int{1, 2} {
		p, _ := to(t, address, upstream.Config{})
		in, out := io.Pipe()
		go func() {
			fmt.Fprint(out, "half")
			out.CloseWithError(errors.New("the client went away"))
		}()
		_, err := p.RoundTrip(request(t, http.MethodPost, major, in), nil)
		require.Error(t, err)
		if major == 1 {
			var body *upstream.BodyError
			require.ErrorAs(t, err, &body)
		}
		require.False(t, <-whole)
	}
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	address := raw(t, func(_ int, c net.Conn, in *bufio.Reader) {
		_, _ = http.ReadRequest(in)
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst ")
		_, _ = io.Copy(c, in)
	})
	p, _ := to(t, address, upstream.Config{})
	response, err := p.RoundTrip(request(t, "GET", 1, nil), nil)
	require.NoError(t, err)
	both, ok := response.Body.(io.ReadWriteCloser)
	require.True(t, ok)
	fmt.Fprint(both, "second")
	require.NoError(t, both.(interface{ CloseWrite() error }).CloseWrite())
	got, err := io.ReadAll(both)
	require.NoError(t, err)
	require.Equal(t, "first second", string(got))
	both.Close()
	open, _, _ := p.Open()
	require.Zero(t, open)
}

func eventually(f func() bool) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return true
		}
	}
	return false
}
