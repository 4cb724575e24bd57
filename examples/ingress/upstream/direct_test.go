package upstream_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podplumb/podplumb/examples/ingress/route"
	"github.com/podplumb/podplumb/examples/ingress/upstream"
)

var web = route.Backend{Namespace: "shop", Service: "web", Port: "http"}

// endpoint is a server that says what a test has it say, byte by byte.
type endpoint struct {
	connections atomic.Int64
	set         *upstream.Set
	transport   *upstream.Transport
}

// start serves each connection with a function that gets the requests one after the other and answers them.
func start(t *testing.T, serve func(n int64, request *http.Request, w io.Writer) (goOn bool)) *endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e := &endpoint{transport: upstream.NewTransport(nil)}
	var running sync.WaitGroup
	t.Cleanup(func() { e.transport.Close(); _ = l.Close(); running.Wait() })
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n := e.connections.Add(1)
			running.Go(func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for {
					r, err := http.ReadRequest(in)
					if err != nil || !serve(n, r, c) {
						return
					}
				}
			})
		}
	})
	a := netip.MustParseAddrPort(l.Addr().String())
	port, number := "http", int32(a.Port())
	about := metav1.ObjectMeta{Namespace: "shop", Name: "web", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}
	svc := &corev1.Service{ObjectMeta: about, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: port, Port: 80}}}}
	slice := &discoveryv1.EndpointSlice{ObjectMeta: about, Ports: []discoveryv1.EndpointPort{{Name: &port, Port: &number}}, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{a.Addr().String()}}}}
	e.set = upstream.NewSet(nil, []*corev1.Service{svc}, []*discoveryv1.EndpointSlice{slice})
	return e
}

func (e *endpoint) ask(ctx context.Context, method, path string) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://shop.example"+path, nil)
	if err != nil {
		return nil, "", err
	}
	response, err := e.transport.RoundTrip(r, e.set, web, nil)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response, string(body), err
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// Responses of all forms are read to their end, and not further.
func TestResponses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		method, answer string
		code           int
		body           string
		again          bool // the connection is used again
	}{
		"length":             {"GET", ok, 200, "ok", true},
		"no body":            {"GET", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", true},
		"length of nothing":  {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, "", true},
		"chunks":             {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", 200, "ok", true},
		"HEAD":               {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 200, "", true},
		"not modified":       {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", 304, "", true},
		"early hints":        {"GET", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + ok, 200, "ok", true},
		"says that it ends":  {"GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false},
		"more than it says":  {"GET", ok + "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled", 200, "ok", false},
		"an older version":   {"GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false},
		"a trailer, unasked": {"OPTIONS", "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n", 200, "ok", true},
	} {
		e := start(t, func(_ int64, _ *http.Request, w io.Writer) bool {
			_, err := io.WriteString(w, tt.answer)
			return err == nil
		})
		for range 2 {
			response, body, err := e.ask(t.Context(), tt.method, "/")
			require.NoError(t, err, name)
			require.Equal(t, tt.code, response.StatusCode, name)
			require.Equal(t, tt.body, body, name)
			if name == "a trailer, unasked" {
				require.Equal(t, "7", response.Trailer.Get("X-Sum"))
			}
		}
		want := int64(2)
		if tt.again {
			want = 1
		}
		require.Equal(t, want, e.connections.Load(), name)
	}
}

// What is no whole response is an error, and its connection is not used again.
func TestBrokenResponses(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"nothing":             "",
		"half a status":       "HTTP/1.1 20",
		"half the headers":    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
		"half the body":       "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok",
		"half a chunk":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok",
		"another protocol":    "SSH-2.0-OpenSSH\r\n",
		"a switch":            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
		"two lengths":         "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
		"headers without end": "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("a", 1000)+"\r\n", 1200),
	} {
		e := start(t, func(_ int64, _ *http.Request, w io.Writer) bool {
			_, _ = io.WriteString(w, answer)
			return false
		})
		_, _, err := e.ask(t.Context(), "GET", "/")
		require.Error(t, err, name)
		require.EqualValues(t, 1, e.connections.Load(), name)
	}
}

// A connection that ended while nobody used it, or on which something came that nobody asked for, is passed over.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	unasked := make(chan struct{})
	e := start(t, func(n int64, r *http.Request, w io.Writer) bool {
		_, _ = io.WriteString(w, ok)
		switch r.URL.Path {
		case "/end":
			return false
		case "/unasked":
			time.Sleep(20 * time.Millisecond) // after the response was read
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled")
			unasked <- struct{}{}
		}
		return true
	})
	for range 3 {
		_, body, err := e.ask(t.Context(), "GET", "/end")
		require.NoError(t, err)
		require.Equal(t, "ok", body)
	}
	require.EqualValues(t, 3, e.connections.Load())
	_, _, err := e.ask(t.Context(), "GET", "/unasked")
	require.NoError(t, err)
	<-unasked
	time.Sleep(20 * time.Millisecond)
	_, body, err := e.ask(t.Context(), "GET", "/")
	require.NoError(t, err)
	require.Equal(t, "ok", body)
}

// One that ends just as it gets a request is no fault of the request.
func TestEndsWhenUsed(t *testing.T) {
	t.Parallel()
	e := start(t, func(n int64, r *http.Request, w io.Writer) bool {
		if n == 1 && r.URL.Path == "/second" {
			return false
		}
		_, _ = io.WriteString(w, ok)
		return true
	})
	for _, path := range []string{"/first", "/second"} {
		_, body, err := e.ask(t.Context(), "GET", path)
		require.NoError(t, err)
		require.Equal(t, "ok", body)
	}
	require.EqualValues(t, 2, e.connections.Load())
}

// Whoever gives up does not wait, before the response and in the middle of it.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	e := start(t, func(_ int64, r *http.Request, w io.Writer) bool {
		if r.URL.Path == "/body" {
			_, _ = io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok")
		}
		return true
	})
	for _, path := range []string{"/headers", "/body"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begin := time.Now()
		_, _, err := e.ask(ctx, "GET", path)
		require.Error(t, err, path)
		require.Less(t, time.Since(begin), 10*time.Second, path)
		cancel()
	}
	require.EqualValues(t, 2, e.connections.Load(), "neither is used again")
}

// The request arrives as it was; informational responses are told.
func TestRequestsAsTheyAre(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	e := start(t, func(_ int64, r *http.Request, w io.Writer) bool {
		got <- fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Host, " ", r.Header)
		_, _ = io.WriteString(w, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"+ok)
		return true
	})
	var told []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		told = append(told, fmt.Sprint(code, header))
		return nil
	}})
	r, err := http.NewRequestWithContext(ctx, "GET", "http://x/a%2fb/c?q=1&q=%20", nil)
	require.NoError(t, err)
	r.Host = "shop.example:8080"
	r.Header = http.Header{"User-Agent": {""}, "Accept": {"a", "b"}, "X-Empty": {""}, "Cookie": {"a=b; c=d"}}
	response, err := e.transport.RoundTrip(r, e.set, web, nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, "GET /a%2fb/c?q=1&q=%20 shop.example:8080 map[Accept:[a b] Cookie:[a=b; c=d] X-Empty:[]]", <-got)
	require.Equal(t, []string{"103 map[Link:[</a.css>]]"}, told)
}

// Many at once, some of which give up: no response goes to another.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	e := start(t, func(_ int64, r *http.Request, w io.Writer) bool {
		_, err := fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.URL.Path), r.URL.Path)
		return err == nil
	})
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for j := range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				if j%7 == 0 {
					time.AfterFunc(50*time.Microsecond, cancel)
				}
				path := fmt.Sprintf("/%d/%d", i, j)
				_, body, err := e.ask(ctx, "GET", path)
				if err == nil && body != path || err != nil && j%7 != 0 {
					t.Errorf("%s: %q %v", path, body, err)
				}
				cancel()
			}
		})
	}
	all.Wait()
}
