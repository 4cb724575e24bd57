package l7_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/mesh/l7"
	"github.com/podplumb/podplumb/examples/mesh/stream"
)

// two makes a client and a server with a Service, in one family.
func two(t *testing.T, host string, config l7.Config, handler http.HandlerFunc) (m *mesh, client *pod, url string) {
	t.Helper()
	m = newMesh(t, config)
	client, server := m.pod("web"), m.pod("cart")
	ip := "10.96.0.1"
	if host == "::1" {
		ip = "fd00::1"
	}
	m.service(ip, "cart", server.serves(application(t, host, handler)))
	return m, client, "http://" + net.JoinHostPort(ip, "80")
}

var protocols = []stream.Protocol{stream.HTTP1, stream.HTTP2}

func TestRequests(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1"} {
		for _, protocol := range protocols {
			t.Run(fmt.Sprint(host, " ", protocol), func(t *testing.T) {
				t.Parallel()
				m, client, url := two(t, host, l7.Config{}, func(w http.ResponseWriter, r *http.Request) {
					body, err := io.ReadAll(r.Body)
					if err != nil {
						panic(http.ErrAbortHandler)
					}
					h := w.Header()
					h["Date"] = nil
					h.Set("X-Seen", fmt.Sprint(r.Method, " ", r.Proto, " ", r.Host, " ", r.RequestURI, " ", r.ContentLength, " T", r.Trailer.Get("X-T")))
					for _, name := range []string{"X-Forwarded-Client-Cert", "Connection", "Keep-Alive", "X-Hop", "Te", "Proxy-Authorization", "User-Agent", "X-Two"} {
						h["Got-"+name] = r.Header[name]
					}
					switch r.URL.Path {
					case "/none":
						w.WriteHeader(http.StatusNoContent)
						return
					case "/same":
						h.Set("Etag", `"1"`)
						w.WriteHeader(http.StatusNotModified)
						return
					case "/plain":
						h["Content-Type"] = nil
					case "/trailers":
						h.Set("Trailer", "X-Sum")
					}
					w.WriteHeader(http.StatusAccepted)
					_, _ = w.Write(body)
					h.Set("X-Sum", "7")
					h.Set(http.TrailerPrefix+"X-Late", "8")
				})
				c := client.client(protocol)
				proto := map[stream.Protocol]string{stream.HTTP1: "HTTP/1.1", stream.HTTP2: "HTTP/2.0"}[protocol]

				response, _ := do(t, c, "GET", url+"/a//b?q=1;2&%7e", nil, "Host: cart.shop:80", "X-Forwarded-Client-Cert: URI=spiffe://cluster.local/ns/shop/sa/admin", "Te: trailers", "Proxy-Authorization: x", "X-Two: 1", "X-Two: 2")
				require.Equal(t, "GET "+proto+" cart.shop:80 /a//b?q=1;2&%7e 0 T", response.Header.Get("X-Seen"))
				require.Equal(t, []string{"By=spiffe://cluster.local/ns/shop/sa/cart;URI=spiffe://cluster.local/ns/shop/sa/web"}, response.Header["Got-X-Forwarded-Client-Cert"])
				require.Equal(t, "trailers", response.Header.Get("Got-Te"))
				require.Equal(t, "x", response.Header.Get("Got-Proxy-Authorization"))
				require.Equal(t, []string{"1", "2"}, response.Header["Got-X-Two"])
				require.Empty(t, response.Header["Date"])
				response, _ = do(t, c, "GET", url+"/x", nil, "User-Agent: ")
				require.Empty(t, response.Header["Got-User-Agent"], "none is none")
				if protocol == stream.HTTP1 {
					response, _ = do(t, c, "GET", url+"/x", nil, "Connection: x-hop", "X-Hop: 1", "Keep-Alive: 5")
					require.Empty(t, response.Header["Got-X-Hop"])
					require.Empty(t, response.Header["Got-Keep-Alive"])
				}
				response, body := do(t, c, "POST", url+"/trailers", strings.NewReader("hello"))
				require.Equal(t, "hello", body)
				require.Equal(t, "7", response.Trailer.Get("X-Sum"))
				require.Equal(t, "8", response.Trailer.Get("X-Late"))
				require.Contains(t, response.Header.Get("X-Seen"), " 5 ")
				require.Equal(t, http.StatusAccepted, response.StatusCode)

				r, err := http.NewRequestWithContext(t.Context(), "PUT", url+"/big", io.NopCloser(strings.NewReader(strings.Repeat("x", 3<<20))))
				require.NoError(t, err)
				r.Trailer = http.Header{"X-T": {"9"}}
				response, err = c.Do(r)
				require.NoError(t, err)
				n, err := io.Copy(io.Discard, response.Body)
				require.NoError(t, err)
				require.Equal(t, int64(3<<20), n)
				require.True(t, strings.HasSuffix(response.Header.Get("X-Seen"), " -1 T9"), response.Header)

				response, body = do(t, c, "HEAD", url+"/", nil)
				require.Empty(t, body)
				require.Equal(t, http.StatusAccepted, response.StatusCode)
				response, _ = do(t, c, "GET", url+"/none", nil)
				require.Equal(t, http.StatusNoContent, response.StatusCode)
				response, _ = do(t, c, "GET", url+"/same", nil)
				require.Equal(t, http.StatusNotModified, response.StatusCode)
				require.Equal(t, `"1"`, response.Header.Get("Etag"))
				response, _ = do(t, c, "POST", url+"/plain", strings.NewReader("<html>"))
				require.Empty(t, response.Header["Content-Type"], "nobody guesses")

				require.EqualValues(t, 1, m.metric("mesh_requests_total", "direction=outbound", "source=shop/web", "destination=shop/cart:80", "code=304", "security=mtls"))
				require.EqualValues(t, 1, m.metric("mesh_requests_total", "direction=inbound", "source=shop/web", "destination=shop/cart", "code=304", "security=mtls"))
			})
		}
	}
}

func TestDots(t *testing.T) {
	t.Parallel()
	_, client, _ := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI) })
	for path, want := range map[string]string{
		"/a/../b": "/b", "/a/./b": "/a/b", "/a/%2e%2E/b": "/b", "/../..": "/", "/a/b/..": "/a/", "/a/.": "/a/", "/.well-known/x": "/.well-known/x", "/a//../b": "/a/b",
		"/a/%2F../b": "/a/%2F../b", "//x/../y": "//y", "/a%20b/../c%2Fd?q=..": "/c%2Fd?q=..", "/...": "/...", "http://cart/x/../y": "http://cart/y", "*": "*",
	} {
		method := "GET"
		if path == "*" {
			method = "OPTIONS"
		}
		c := client.dial(stream.HTTP1, "10.96.0.1:80", nil)
		fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n", method, path)
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		got, _ := io.ReadAll(response.Body)
		if path != "*" { // which net/http's server answers itself
			require.Equal(t, want, string(got), path)
		}
		c.Close()
	}
}

// Streams both ways: each side hears the other while it speaks.
func TestStreams(t *testing.T) {
	t.Parallel()
	_, client, url := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		_ = control.Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintln(w, "echo", lines.Text())
			_ = control.Flush()
		}
	})
	for _, protocol := range protocols {
		c := client.client(protocol)
		in, out := io.Pipe()
		r, err := http.NewRequestWithContext(t.Context(), "POST", url, in)
		require.NoError(t, err)
		response, err := c.Do(r)
		require.NoError(t, err, "the head comes before there is any body")
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
}

func TestInformational(t *testing.T) {
	t.Parallel()
	var read atomic.Bool
	_, client, url := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		if r.URL.Path == "/refuse" {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.Copy(w, r.Body)
	})
	for _, protocol := range protocols {
		c := client.client(protocol)
		for _, path := range []string{"/", "/refuse"} {
			read.Store(false)
			var hints, continued atomic.Int64
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					if code == http.StatusEarlyHints && h.Get("Link") == "</a>" {
						hints.Add(1)
					}
					return nil
				},
				Got100Continue: func() { continued.Add(1) },
			})
			r, err := http.NewRequestWithContext(ctx, "PUT", url+path, io.NopCloser(watched{strings.NewReader("hello"), &read}))
			require.NoError(t, err)
			r.ContentLength = 5
			r.Header.Set("Expect", "100-continue")
			response, err := c.Do(r)
			require.NoError(t, err)
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			response.Body.Close()
			require.EqualValues(t, 1, hints.Load(), "103: %v %s", protocol, path)
			if path == "/" {
				require.Equal(t, "hello", string(body))
				if protocol == stream.HTTP1 { // HTTP/2's client does not always tell
					require.EqualValues(t, 1, continued.Load())
				}
			} else if protocol == stream.HTTP1 {
				require.Equal(t, http.StatusForbidden, response.StatusCode)
				require.False(t, read.Load(), "nobody asked for the body")
			}
		}
	}
}

type watched struct {
	io.Reader
	read *atomic.Bool
}

func (w watched) Read(p []byte) (int, error) { w.read.Store(true); return w.Reader.Read(p) }

func TestWebSocket(t *testing.T) {
	t.Parallel()
	m, client, _ := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-Websocket-Key") == "" {
			r.Header.Del("X-Forwarded-Client-Cert")
			fmt.Fprint(w, "no upgrade ", r.Header)
			return
		}
		c, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-A: b\r\n\r\nhello ")
		_, _ = io.Copy(c, both)
		fmt.Fprint(c, " goodbye")
	})
	c := client.dial(stream.HTTP1, "10.96.0.1:80", nil)
	fmt.Fprint(c, "GET /chat HTTP/1.1\r\nHost: cart\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n\r\n")
	in := bufio.NewReader(c)
	response, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, response.StatusCode)
	require.Equal(t, "websocket", response.Header.Get("Upgrade"))
	require.Equal(t, "b", response.Header.Get("X-A"))
	fmt.Fprint(c, "\x00GET / HTTP/1.1\n\n") // anything
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	got, err := io.ReadAll(in)
	require.NoError(t, err)
	require.Equal(t, "hello \x00GET / HTTP/1.1\n\n goodbye", string(got))
	require.Eventually(t, func() bool { return m.metric("mesh_requests_total", "code=101") == 2 }, 5*time.Second, time.Millisecond)

	for _, upgrade := range []string{"h2c", "h2c, websocket", "TLS/1.2"} {
		c := client.dial(stream.HTTP1, "10.96.0.1:80", nil)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: cart\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: %s\r\nHTTP2-Settings: x\r\nSec-WebSocket-Key: x\r\n\r\n", upgrade)
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		body, _ := io.ReadAll(response.Body)
		require.Equal(t, http.StatusOK, response.StatusCode)
		require.Equal(t, "no upgrade map[Sec-Websocket-Key:[x]]", string(body), upgrade)
		c.Close()
	}
}

func TestConnect(t *testing.T) {
	t.Parallel()
	_, client, _ := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI != "far.example:443" {
			http.Error(w, r.RequestURI, http.StatusBadRequest)
			return
		}
		c, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 200 Connection established\r\n\r\n")
		_, _ = io.Copy(c, both)
	})
	c := client.dial(stream.HTTP1, "10.96.0.1:80", nil)
	defer c.Close()
	fmt.Fprint(c, "CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\r\n")
	in := bufio.NewReader(c)
	line, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 200 Connection established\r\n", line)
	_, err = in.ReadString('\n')
	require.NoError(t, err)
	fmt.Fprint(c, "\n\n\x16")
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	got, err := io.ReadAll(in)
	require.NoError(t, err)
	require.Equal(t, "\n\n\x16", string(got))
}

// What could mean two things is refused, in both directions, and what comes behind it is never a request.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	_, client, _ := two(t, "127.0.0.1", l7.Config{}, says("ok"))
	for _, request := range []string{
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\nHost: x\n\n",
		"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
	} {
		c := client.dial(stream.HTTP1, "10.96.0.1:80", nil)
		fmt.Fprint(c, request)
		in := bufio.NewReader(c)
		response, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, response.StatusCode)
		_, _ = io.ReadAll(response.Body)
		_, err = in.ReadByte()
		require.Error(t, err)
		c.Close()
	}
}

func TestAllow(t *testing.T) {
	t.Parallel()
	web := spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/web")
	_, client, url := two(t, "127.0.0.1", l7.Config{Allow: func(peer spiffeid.ID, r *http.Request) bool { return peer == web && r.URL.Path != "/admin" }}, says("ok"))
	for _, protocol := range protocols {
		c := client.client(protocol)
		response, _ := do(t, c, "GET", url+"/", nil)
		require.Equal(t, 200, response.StatusCode)
		response, _ = do(t, c, "GET", url+"/x/../admin", nil)
		require.Equal(t, 403, response.StatusCode)
		require.Equal(t, "podplumb; error=http_request_denied", response.Header.Get("Proxy-Status"))
	}
}

// A client that goes away takes its request along, and nothing is left of it.
func TestGone(t *testing.T) {
	before := runtime.NumGoroutine()
	ended := make(chan struct{}, 1)
	m, client, url := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/streams" {
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		ended <- struct{}{}
	})
	for _, protocol := range protocols {
		for _, path := range []string{"/silent", "/streams"} {
			c := client.client(protocol)
			ctx, cancel := context.WithCancel(t.Context())
			r, err := http.NewRequestWithContext(ctx, "GET", url+path, nil)
			require.NoError(t, err)
			time.AfterFunc(20*time.Millisecond, cancel)
			response, err := c.Do(r)
			if err == nil {
				_, err = io.ReadAll(response.Body)
				response.Body.Close()
			}
			require.Error(t, err)
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				t.Fatal("the application's request goes on: ", protocol, path)
			}
			c.CloseIdleConnections()
		}
	}
	require.Eventually(t, func() bool { return m.metric("mesh_requests_total", "direction=outbound", "code=499") == 2 }, 5*time.Second, time.Millisecond)
	client.proxy.Close()
	for _, p := range m.proxies {
		p.proxy.Close()
	}
	settled(t, before+6) // the servers'
}

func settled(t *testing.T, most int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if runtime.NumGoroutine() <= most {
			return
		}
	}
	stacks := make([]byte, 1<<20)
	t.Fatalf("goroutines are left:\n%s", stacks[:runtime.Stack(stacks, true)])
}

// An application that answers without reading all of a large body.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	_, client, url := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	})
	for _, protocol := range protocols {
		response, body := do(t, client.client(protocol), "POST", url, strings.NewReader(strings.Repeat("x", 8<<20)))
		require.Equal(t, http.StatusRequestEntityTooLarge, response.StatusCode)
		require.Equal(t, "too large\n", body)
	}
}

// A response that ends too early is seen to.
func TestShortResponse(t *testing.T) {
	t.Parallel()
	_, client, url := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "10")
		}
		fmt.Fprint(w, "half")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	for _, protocol := range protocols {
		for _, path := range []string{"/length", "/stream"} {
			r, err := http.NewRequestWithContext(t.Context(), "GET", url+path, nil)
			require.NoError(t, err)
			response, err := client.client(protocol).Do(r)
			require.NoError(t, err)
			_, err = io.ReadAll(response.Body)
			require.Error(t, err, "%v %s", protocol, path)
			response.Body.Close()
		}
	}
}

// A proxy that ends lets requests under way end, and takes no more.
func TestDrain(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	_, client, _ := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		<-release
		fmt.Fprint(w, "ok")
	})
	draining := make(chan struct{})
	idle := client.dial(stream.HTTP1, "10.96.0.1:80", draining)
	for _, protocol := range protocols {
		transport := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) {
			return client.dial(protocol, "10.96.0.1:80", draining), nil
		}}
		transport.Protocols.SetHTTP1(protocol == stream.HTTP1)
		transport.Protocols.SetUnencryptedHTTP2(protocol == stream.HTTP2)
		got := make(chan string, 1)
		go func() {
			r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://10.96.0.1/", nil)
			response, err := transport.RoundTrip(r)
			if err != nil {
				got <- err.Error()
				return
			}
			body, err := io.ReadAll(response.Body)
			got <- fmt.Sprint(string(body), err)
		}()
		time.Sleep(50 * time.Millisecond)
		defer func() { require.Equal(t, "ok<nil>", <-got) }()
	}
	close(draining)
	_, err := idle.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)
	close(release)
}

// A request that the proxy answers itself costs its connection only if there is much left of its body.
func TestRefusedBody(t *testing.T) {
	t.Parallel()
	_, client, url := two(t, "127.0.0.1", l7.Config{Allow: func(spiffeid.ID, *http.Request) bool { return false }}, says("ok"))
	for _, protocol := range protocols {
		c := client.client(protocol)
		for i := range 3 {
			var reused atomic.Bool
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused.Store(i.Reused) }})
			r, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader("hello"))
			require.NoError(t, err)
			response, err := c.Do(r)
			require.NoError(t, err)
			_, err = io.ReadAll(response.Body)
			require.NoError(t, err)
			response.Body.Close()
			require.Equal(t, 403, response.StatusCode, "%v %d", protocol, i)
			require.Equal(t, i > 0, reused.Load())
		}
	}
}
