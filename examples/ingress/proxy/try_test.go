package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// flaky fails a number of times, in one of several ways, before it answers with the body that it got.
type flaky struct {
	fails int64
	how   func(http.ResponseWriter, *http.Request)
	tries atomic.Int64
	times lines
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	fmt.Fprintln(&f.times, time.Now().UnixNano())
	if f.tries.Add(1) <= f.fails {
		f.how(w, r)
		return
	}
	fmt.Fprintf(w, "%d bytes, %v", len(body), err)
}

func code(n int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) }
}

func reset(w http.ResponseWriter, _ *http.Request) {
	if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	g := startGate(t)
	slow := func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(2 * time.Second):
		case <-r.Context().Done():
		}
	}
	for _, c := range []struct {
		what, method, rule string
		body               int
		fails              int64
		how                func(http.ResponseWriter, *http.Request)
		code               int
		tries              int64
	}{
		{"a code, with the body again", "POST", `retry: {codes: [503], attempts: 3, backoff: 20ms}`, 100_000, 2, code(503), 200, 3},
		{"another code", "GET", `retry: {codes: [503], attempts: 3}`, 0, 2, code(500), 500, 1},
		{"too often", "GET", `retry: {codes: [503], attempts: 2, backoff: 1ms}`, 0, 9, code(503), 503, 3},
		{"no retries", "GET", `name: none`, 0, 1, code(503), 503, 1},
		{"a body that is not kept", "POST", `retry: {codes: [503], attempts: 3, backoff: 1ms}`, 2 << 20, 1, code(503), 503, 1},
		{"a broken connection, method that may be repeated", "PUT", `retry: {attempts: 2, backoff: 1ms}`, 10, 2, reset, 200, 3},
		{"a broken connection, method that may not", "POST", `retry: {attempts: 2, backoff: 1ms}`, 10, 1, reset, 502, 1},
		{"a slow backend", "PUT", `retry: {attempts: 1, backoff: 1ms}, timeouts: {backendRequest: 100ms}`, 10, 1, slow, 200, 2},
		{"a slow backend, method that may not be repeated", "POST", `retry: {attempts: 1, backoff: 1ms}, timeouts: {backendRequest: 100ms}`, 10, 1, slow, 504, 1},
		{"all of it takes too long", "GET", `retry: {codes: [503], attempts: 99, backoff: 40ms}, timeouts: {request: 200ms}`, 0, 99, code(503), 504, 0},
	} {
		f := &flaky{fails: c.fails, how: c.how}
		g.use(t, nil, []backend{{name: "b", addresses: []string{server(t, "", f.ServeHTTP)}}}, "{"+c.rule+", backendRefs: [{name: b, port: 80}]}")
		r, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+g.clear+"/", bytes.NewReader(make([]byte, c.body)))
		require.NoError(t, err)
		begin := time.Now()
		response, err := http.DefaultTransport.RoundTrip(r)
		require.NoError(t, err, c.what)
		got, err := io.ReadAll(response.Body)
		require.NoError(t, err, c.what)
		_ = response.Body.Close()
		require.Equal(t, c.code, response.StatusCode, c.what)
		if c.tries > 0 {
			require.Equal(t, c.tries, f.tries.Load(), c.what)
		}
		if c.code == http.StatusOK {
			require.Equal(t, fmt.Sprintf("%d bytes, <nil>", c.body), string(got), c.what)
		}
		require.Less(t, time.Since(begin), 1500*time.Millisecond, c.what)
		if strings.Contains(c.rule, "backoff: 20ms") {
			var a, b int64
			_, err := fmt.Sscan(f.times.String(), &a, &b)
			require.NoError(t, err)
			require.GreaterOrEqual(t, b-a, int64(20*time.Millisecond))
		}
	}
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	g := startGate(t)
	released := make(chan struct{})
	halfway := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ws" {
			echo(w, r)
			return
		}
		if strings.Contains(r.URL.Path, "body") {
			fmt.Fprint(w, "half")
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-released:
		case <-r.Context().Done():
			return
		}
		fmt.Fprint(w, "done")
	}
	to := `, backendRefs: [{name: b, port: 80}]}`
	g.use(t, nil, []backend{{name: "b", addresses: []string{server(t, "", halfway)}}},
		`{matches: [{path: {value: /request}}], timeouts: {request: 100ms}`+to,
		`{matches: [{path: {value: /backend}}], timeouts: {backendRequest: 100ms}`+to,
		`{matches: [{path: {value: /none}}], timeouts: {request: 0s, backendRequest: 0s}`+to,
		`{matches: [{path: {value: /ws}}], timeouts: {request: 100ms, backendRequest: 100ms}`+to)
	for _, path := range []string{"/request", "/backend"} {
		code, text := get(t, http.DefaultClient, "http://"+g.clear+path)
		require.Equal(t, http.StatusGatewayTimeout, code, path)
		require.Equal(t, "the backend did not answer in time", text)
		response, err := http.Get("http://" + g.clear + path + "/body")
		require.NoError(t, err)
		_, err = io.ReadAll(response.Body)
		require.Error(t, err, "a response that is cut off does not look whole: %s", path)
		_ = response.Body.Close()
	}
	c, err := net.Dial("tcp", g.clear)
	require.NoError(t, err)
	defer c.Close()
	fmt.Fprint(c, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	in := bufio.NewReader(c)
	_, err = http.ReadResponse(in, nil)
	require.NoError(t, err)
	time.AfterFunc(300*time.Millisecond, func() { close(released) })
	code, text := get(t, http.DefaultClient, "http://"+g.clear+"/none")
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "done", text)
	fmt.Fprint(c, "ping") // long after both timeouts
	got := make([]byte, 4)
	_, err = io.ReadFull(in, got)
	require.NoError(t, err)
}

// A mirror gets what the backend gets; however slow it is, nobody waits for it.
func TestMirrors(t *testing.T) {
	t.Parallel()
	g := startGate(t)
	got := make(chan string, 10)
	fast := func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		got <- fmt.Sprintf("%s %s %s %s %d %v", r.Method, r.Host, r.RequestURI, r.Header.Get("X-Set"), len(body), err)
	}
	stuck := make(chan struct{})
	defer close(stuck)
	slow := func(http.ResponseWriter, *http.Request) { <-stuck }
	whole := func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v", n, err)
	}
	mirror := func(name, share string) string {
		return fmt.Sprintf(`{type: RequestMirror, requestMirror: {backendRef: {name: %s, port: 80}%s}}`, name, share)
	}
	g.use(t, nil, []backend{
		{name: "b", addresses: []string{server(t, "", whole)}}, {name: "fast", addresses: []string{server(t, "", fast)}},
		{name: "slow", addresses: []string{server(t, "", slow)}}, {name: "never", addresses: []string{server(t, "", func(http.ResponseWriter, *http.Request) { got <- "never" })}}, {name: "empty"},
	}, `{matches: [{path: {value: /in}}], filters: [{type: URLRewrite, urlRewrite: {hostname: inner, path: {type: ReplacePrefixMatch, replacePrefixMatch: /out}}}, {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: "1"}]}}, `+
		strings.Join([]string{mirror("slow", ""), mirror("fast", ""), mirror("never", ", percent: 0"), mirror("empty", "")}, ", ")+`], backendRefs: [{name: b, port: 80}]}`)
	for _, size := range []int{0, 10, 5 << 20} { // the last is more than is kept for the slow one
		begin := time.Now()
		response, err := http.Post("http://"+g.clear+"/in/x", "text/plain", bytes.NewReader(make([]byte, size)))
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		_ = response.Body.Close()
		require.Equal(t, fmt.Sprintf("%d <nil>", size), string(body))
		require.Less(t, time.Since(begin), 5*time.Second)
		if size < 1<<20 {
			require.Equal(t, fmt.Sprintf("POST inner /out/x 1 %d <nil>", size), <-got)
		}
	}
}

// Many at once, with retries and mirrors that share the bodies.
func TestSharedBodies(t *testing.T) {
	t.Parallel()
	g := startGate(t)
	var n, mirrored atomic.Int64
	g.use(t, nil, []backend{
		{name: "b", addresses: []string{server(t, "", func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1)%3 == 0 { // sometimes before the body is read
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			body, _ := io.ReadAll(r.Body)
			_, _ = w.Write(body)
		})}},
		{name: "m", addresses: []string{server(t, "", func(_ http.ResponseWriter, r *http.Request) {
			if body, err := io.ReadAll(r.Body); err == nil && strings.HasPrefix(string(body), "request ") {
				mirrored.Add(1)
			}
		})}},
	}, `{retry: {codes: [503], attempts: 9, backoff: 1ms}, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}}}], backendRefs: [{name: b, port: 80}]}`)
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for j := range 20 {
				want := fmt.Sprintf("request %d of %d%s", j, i, strings.Repeat(".", 1000*j))
				response, err := http.Post("http://"+g.clear+"/", "text/plain", strings.NewReader(want))
				if !errIs(t, err) {
					return
				}
				body, err := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if !errIs(t, err) {
					return
				}
				if string(body) != want {
					t.Errorf("%d: got %d bytes of %d", response.StatusCode, len(body), len(want))
				}
			}
		})
	}
	clients.Wait()
	require.Eventually(t, func() bool { return mirrored.Load() == 160 }, 10*time.Second, 10*time.Millisecond)
}

func errIs(t *testing.T, err error) bool {
	if err != nil {
		t.Error(err)
	}
	return err == nil
}
