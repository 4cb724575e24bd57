package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/podplumb/podplumb/examples/ingress/listen"
	"github.com/podplumb/podplumb/examples/ingress/proxy"
	"github.com/podplumb/podplumb/examples/ingress/route"
)

// raw sends bytes and returns the code of the answer, 0 when the connection is closed without one.
func raw(t *testing.T, address, request string) int {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, _ = io.WriteString(c, request) // it may be refused before it is read to its end
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}

// What could mean two things never comes to a backend, over either of the listeners' protocols.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	var arrived atomic.Int64
	f := start(t, listen.Config{})
	address := server(t, "web", func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		fmt.Fprint(w, r.Host, " ", r.RequestURI)
	})
	f.use([]route.Rule{prefix("/", "web")}, backend{name: "web", addresses: []string{address}})
	const head = " HTTP/1.1\r\nHost: shop.example\r\n"
	for name, tt := range map[string]struct {
		request string
		want    int
	}{
		"length and chunks":        {"POST /" + head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"two lengths":              {"POST /" + head + "Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd", 400},
		"other lengths":            {"POST /" + head + "Content-Length: 4, 5\r\n\r\nabcd", 400},
		"bare line feed":           {"GET / HTTP/1.1\nHost: shop.example\n\n", 400},
		"folded line":              {"GET /" + head + "X-A: a\r\n b\r\n\r\n", 400},
		"space before the colon":   {"GET /" + head + "X-A : a\r\n\r\n", 400},
		"zero in a header":         {"GET /" + head + "X-A: a\x00b\r\n\r\n", 400},
		"h2c":                      {"GET /" + head + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", 400},
		"h2c among others":         {"GET /" + head + "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n", 400},
		"h2c in a second header":   {"GET /" + head + "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n", 400},
		"a chunk of another size":  {"POST /" + head + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n", 400},
		"coding with another name": {"POST /" + head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400},
		"two hosts":                {"GET /" + head + "Host: other.example\r\n\r\n", 400},
		"no host":                  {"GET / HTTP/1.1\r\n\r\n", 400},
		"host with a word as port": {"GET / HTTP/1.1\r\nHost: shop.example:80x\r\n\r\n", 400},
		"chunks in HTTP/1.0":       {"POST / HTTP/1.0\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"host with a path":         {"GET / HTTP/1.1\r\nHost: shop.example/x\r\n\r\n", 400},
		"a tunnel":                 {"CONNECT shop.example:80" + head + "\r\n", 405},
		"out of the root":          {"GET /../etc/passwd" + head + "\r\n", 404},
		"headers without end":      {"GET /" + head + strings.Repeat("X-A: "+strings.Repeat("a", 8000)+"\r\n", 200) + "\r\n", 431},
		"a line without end":       {"GET /" + strings.Repeat("a", 2<<20) + head + "\r\n", 0},
		"another protocol":         {"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			got := raw(t, f.clear, tt.request)
			if tt.want == 0 {
				require.Contains(t, []int{0, 400, 414, 431}, got)
				return
			}
			require.Equal(t, tt.want, got)
		})
	}
	require.Zero(t, arrived.Load(), "came to the backend")
	// In the absolute form the target's host counts and not the header's (RFC 9112, 3.2.2).
	require.Equal(t, 200, raw(t, f.clear, "GET http://shop.example/a HTTP/1.1\r\nHost: other.example\r\n\r\n"))
	f.use([]route.Rule{{Origin: "x", Host: "shop.example", Path: route.Path{Kind: route.Prefix, Value: "/"}, To: prefix("/", "web").To}}, backend{name: "web", addresses: []string{address}})
	require.Equal(t, 200, raw(t, f.clear, "GET http://shop.example/a HTTP/1.1\r\nHost: other.example\r\n\r\n"))
	require.Equal(t, 404, raw(t, f.clear, "GET http://other.example/a HTTP/1.1\r\nHost: shop.example\r\n\r\n"))
}

// HTTP/2 can say what HTTP/1 cannot: none of it becomes a part of a request line.
func TestHostileHTTP2(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	f.use([]route.Rule{prefix("/", "web")}, backend{name: "web", addresses: []string{server(t, "web", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) })}})
	for _, headers := range [][4]string{
		{"GET", "shop.example", "/?a HTTP/1.1", "400"},
		{"GET /smuggled HTTP/1.1", "shop.example", "/", "400"},
		{"GET", "shop.example x", "/", "400"},
		{"GET", "shop.example:x", "/", "400"},
		{"GET", "shop.example", "/a b?c", "200"}, // is escaped
	} {
		c, err := net.Dial("tcp", f.clear)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = io.WriteString(c, http2.ClientPreface)
		require.NoError(t, err)
		framer := http2.NewFramer(c, c)
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		require.NoError(t, framer.WriteSettings())
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for i, name := range []string{":method", ":authority", ":path"} {
			require.NoError(t, encoder.WriteField(hpack.HeaderField{Name: name, Value: headers[i]}))
		}
		require.NoError(t, encoder.WriteField(hpack.HeaderField{Name: ":scheme", Value: "http"}))
		require.NoError(t, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
		for {
			frame, err := framer.ReadFrame()
			require.NoError(t, err, headers)
			if answer, ok := frame.(*http2.MetaHeadersFrame); ok {
				require.Equal(t, headers[3], answer.PseudoValue("status"), headers)
				break
			}
		}
	}
}

// The target comes to the backend as the client wrote it, but for elements of the path that are resolved.
func TestTargets(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	f.use([]route.Rule{prefix("/a", "web")}, backend{name: "web", addresses: []string{server(t, "web", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.RequestURI, " ", r.Header.Get("X-Real-Ip"))
	})}})
	for target, want := range map[string]string{
		"/a?b=1;c=2&d=%zz&e": "/a?b=1;c=2&d=%zz&e ",
		"/a/http%3A%2F%2Fx":  "/a/http%3A%2F%2Fx ",
		"/a/b%2Fc/./d":       "/a/b/c/d ",
		"/a//b%2F%2Fc":       "/a/b%2F%2Fc ",
		"/a/%2e%2e/a/c%20d/": "/a/c%20d/ ",
		"/a/%252e%252e/b//c": "/a/%252e%252e/b/c ",
		"/a/b%2F..%2F..%2Fc": "no rule for this host and path\n",
		"/a/..%2F..%2Fa":     "no rule for this host and path\n",
		"/a/b%2F..%2Fc":      "/a/c ",
	} {
		c, err := net.Dial("tcp", f.clear)
		require.NoError(t, err)
		defer c.Close()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nX-Real-IP: 192.0.2.1\r\n\r\n", target)
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.Equal(t, want, string(body), target)
	}
}

// Clients that do not go on are not waited for, at whatever point they stop, and others are served meanwhile.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{HeaderTimeout: 300 * time.Millisecond}, func(p *proxy.Proxy) http.Handler {
		p.BodyTimeout = 300 * time.Millisecond
		return p
	})
	f.use([]route.Rule{prefix("/", "web")}, backend{name: "web", addresses: []string{server(t, "web", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	})}})
	var slow []net.Conn
	for _, begin := range []string{"", "GET / HTTP/1.1\r\nHo", "GET / HTTP/1.1\r\nHost: x\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"} {
		c, err := net.Dial("tcp", f.clear)
		require.NoError(t, err)
		defer c.Close()
		_, err = io.WriteString(c, begin)
		require.NoError(t, err)
		slow = append(slow, c)
	}
	dripping, err := net.Dial("tcp", f.clear) // a byte now and then does not help in headers
	require.NoError(t, err)
	defer dripping.Close()
	go func() {
		for _, b := range []byte("GET / HTTP/1.1\r\nHost: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx") {
			if _, err := dripping.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	code, _ := get(t, http.DefaultClient, "http://"+f.clear+"/")
	require.Equal(t, 200, code)
	for i, c := range append(slow, dripping) {
		require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		_, err := io.Copy(io.Discard, c)
		var late net.Error
		require.False(t, err != nil && errors.As(err, &late) && late.Timeout(), "client %d is still waited for", i)
	}
	require.Equal(t, 408, raw(t, f.clear, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"), "it is the client that is late")
	require.Equal(t, 400, raw(t, f.clear, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n"))
	// One that goes on, slowly, is waited for.
	c, err := net.Dial("tcp", f.clear)
	require.NoError(t, err)
	defer c.Close()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\n")
	for range 6 {
		time.Sleep(100 * time.Millisecond)
		fmt.Fprint(c, "a")
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, "6 <nil>", string(body))
}

// A client that takes nothing of its response is given up, and its backend is told.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{WriteTimeout: 300 * time.Millisecond})
	gone := make(chan struct{})
	f.use([]route.Rule{prefix("/", "web")}, backend{name: "web", addresses: []string{server(t, "web", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write(make([]byte, 1<<20))
		}
		close(gone)
	})}})
	c, err := net.Dial("tcp", f.clear)
	require.NoError(t, err)
	defer c.Close()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		t.Fatal("it is still waited for")
	}
}

// A backend that takes a request and says nothing is not waited for without end, unless the client goes on with the body.
func TestSilentBackend(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{}, func(p *proxy.Proxy) http.Handler {
		p.AnswerTimeout = time.Second
		return p
	})
	f.use([]route.Rule{prefix("/", "web")}, backend{name: "web", addresses: []string{server(t, "web", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/silent" {
			<-r.Context().Done()
		}
	})}})
	require.Equal(t, 504, raw(t, f.clear, "GET /silent HTTP/1.1\r\nHost: x\r\n\r\n"))
	require.Equal(t, 504, raw(t, f.clear, "POST /silent HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na"))
	slow, in := io.Pipe()
	go func() {
		for range 8 {
			time.Sleep(200 * time.Millisecond)
			fmt.Fprint(in, "a")
		}
		_ = in.Close()
	}()
	response, err := http.Post("http://"+f.clear+"/", "", slow)
	require.NoError(t, err)
	_ = response.Body.Close()
	require.Equal(t, 200, response.StatusCode)
}

// A response may begin before the request has ended, and be all there is of it: the client can read it and go on.
func TestEarlyResponses(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	f.use([]route.Rule{prefix("/", "web")}, backend{name: "web", addresses: []string{server(t, "web", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		if r.URL.Path == "/refuse" {
			w.Header().Set("Content-Length", "8")
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			fmt.Fprint(w, "too much")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.Copy(io.Discard, r.Body)
			return
		}
		part := make([]byte, 3)
		for {
			n, err := io.ReadFull(r.Body, part)
			_, _ = w.Write(part[:n])
			_ = http.NewResponseController(w).Flush()
			if err != nil {
				return
			}
		}
	})}})
	c, err := net.Dial("tcp", f.clear)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	in := bufio.NewReader(c)
	fmt.Fprint(c, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
	response, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	part := make([]byte, 3)
	_, err = io.ReadFull(response.Body, part)
	require.NoError(t, err)
	require.Equal(t, "one", string(part))
	fmt.Fprint(c, "3\r\ntwo\r\n0\r\n\r\n")
	rest, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, "two", string(rest))

	// The rest of a small body is taken, and the connection used further; with a big one it ends, but not before the answer is read.
	send := func(path string, length, now int) {
		t.Helper()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, length, make([]byte, now))
		response, err = http.ReadResponse(in, nil)
		require.NoError(t, err, path)
		require.GreaterOrEqual(t, response.StatusCode, 400)
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, err)
		for left := length - now; left > 0; left -= 1 << 20 {
			_, err = c.Write(make([]byte, min(left, 1<<20)))
			require.NoError(t, err, path)
		}
	}
	send("/refuse", 100_000, 100)
	send("/../nowhere", 100_000, 100_000)
	for _, path := range []string{"/refuse", "/../nowhere"} {
		send(path, 8<<20, 100)
		_, err = in.ReadByte()
		require.ErrorIs(t, err, io.EOF)
		c, err = net.Dial("tcp", f.clear)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		in = bufio.NewReader(c)
	}
	// What comes late of a body is no request.
	fmt.Fprintf(c, "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
	response, err = http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
	_, err = io.Copy(io.Discard, response.Body)
	require.NoError(t, err)
	time.Sleep(time.Second)
	fmt.Fprint(c, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n")
	_, err = in.ReadByte()
	require.ErrorIs(t, err, io.EOF)
}

func TestProxyProtocolOfOthers(t *testing.T) {
	t.Parallel()
	const request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	one, two := "PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\n", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x08\x03\xe8\x00\x50"
	web := backend{name: "web", addresses: []string{server(t, "web", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Forwarded-For")) })}}
	// From a network that is not trusted nothing is taken.
	f := start(t, listen.Config{Proxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	f.use([]route.Rule{prefix("/", "web")}, web)
	for _, begin := range []string{"", one, two} {
		require.Zero(t, raw(t, f.clear, begin+request), begin)
	}
	// From a trusted one the header has to be there and whole.
	f = start(t, listen.Config{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	f.use([]route.Rule{prefix("/", "web")}, web)
	for begin, want := range map[string]int{one: 200, two: 200, "": 0, "PROXY TCP4 192.0.2.7\r\n": 0, "PROXY TCP4 192.0.2.7 192.0.2.8 99999 80\r\n": 0, strings.Replace(two, "\x21", "\x31", 1): 0} {
		require.Equal(t, want, raw(t, f.clear, begin+request), "%q", begin)
	}
	// Without any it is no request.
	f = start(t, listen.Config{})
	f.use([]route.Rule{prefix("/", "web")}, web)
	for _, begin := range []string{one, two} {
		require.Equal(t, 400, raw(t, f.clear, begin+request), begin)
	}
}

// What there is of a response is passed on before more is waited for, whether or not its length is known.
func TestSlowResponses(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	more := make(chan struct{})
	f.use([]route.Rule{prefix("/", "web")}, backend{name: "web", addresses: []string{server(t, "web", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "4")
		}
		for _, part := range []string{"ab", "cd"} {
			fmt.Fprint(w, part)
			_ = http.NewResponseController(w).Flush()
			if part == "ab" {
				<-more
			}
		}
	})}})
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for _, path := range []string{"/length", "/stream"} {
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+f.clear+path, strings.NewReader("body"))
			require.NoError(t, err)
			if method == http.MethodGet {
				r.Body, r.ContentLength = nil, 0
			}
			response, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			defer response.Body.Close()
			begin := make([]byte, 2)
			_, err = io.ReadFull(response.Body, begin)
			require.NoError(t, err)
			require.Equal(t, "ab", string(begin), "%s %s", method, path)
			more <- struct{}{}
			rest, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			require.Equal(t, "cd", string(rest))
		}
	}
}
