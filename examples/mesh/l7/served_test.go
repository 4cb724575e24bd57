package l7_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/mesh/l7"
	"github.com/podplumb/podplumb/examples/mesh/stream"
)

// A client that ends its side after its requests gets their responses while it reads, and gives them up when it does not.
func TestHalfClosed(t *testing.T) {
	t.Parallel()
	gone := make(chan string, 2)
	_, web, _ := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(map[bool]time.Duration{true: time.Minute, false: 50 * time.Millisecond}[r.URL.Path == "/long"]):
			_, _ = io.WriteString(w, r.URL.Path)
		case <-r.Context().Done():
			gone <- r.URL.Path
		}
	})
	var reads atomic.Bool
	reads.Store(true)
	ended := make(chan struct{}, 2)
	dial := func(send string) net.Conn {
		client, server := pair(t)
		t.Cleanup(func() { client.Close() })
		go func() {
			_ = web.proxy.ServeStream(context.Background(), &stream.Stream{
				Conn: server, Direction: stream.Outbound, Protocol: stream.HTTP1, Source: addrPort(client.LocalAddr()),
				Destination: netip.MustParseAddrPort("10.96.0.1:80"), Reads: reads.Load,
			})
			ended <- struct{}{}
		}()
		_, err := io.WriteString(client, send)
		require.NoError(t, err)
		require.NoError(t, client.(*net.TCPConn).CloseWrite())
		_ = client.SetDeadline(time.Now().Add(10 * time.Second))
		return client
	}
	c := dial("GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbodyGET /c HTTP/1.1\r\nHost: a\r\n\r\n")
	in := bufio.NewReader(c)
	for _, path := range []string{"/a", "/b", "/c"} {
		response, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.Equal(t, path, string(body))
	}
	_, err := in.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	<-ended

	c = dial("GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
	select {
	case <-gone:
		t.Fatal("it was given up")
	case <-time.After(100 * time.Millisecond):
	}
	reads.Store(false)
	require.Equal(t, "/long", <-gone)
	_ = c.Close()
	<-ended
}

// What is declared for a port does not keep a client from speaking the other version of HTTP.
func TestDeclared(t *testing.T) {
	t.Parallel()
	_, web, url := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Method+" "+r.RequestURI+" "+r.Proto)
	})
	for spoken, version := range map[stream.Protocol]string{stream.HTTP1: "HTTP/1.1", stream.HTTP2: "HTTP/2.0"} {
		for _, declared := range protocols {
			c := web.client(spoken)
			c.Transport.(*http.Transport).DialContext = func(_ context.Context, _, address string) (net.Conn, error) {
				return web.dial(declared, address, nil), nil
			}
			_, body := do(t, c, "GET", url+"/x", nil)
			require.Equal(t, "GET /x "+version, body, declared)
		}
	}
}

// OPTIONS * is a question to the application, too.
func TestOptions(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &http.Server{DisableGeneralOptionsHandler: true, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", "GET, "+r.RequestURI)
	})}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	m := newMesh(t, l7.Config{})
	web, cart := m.pod("web"), m.pod("cart")
	m.service("10.96.0.1", "cart", cart.serves(l.Addr().String()))
	c := web.dial(stream.HTTP1, "10.96.0.1:80", nil)
	defer c.Close()
	_, err = io.WriteString(c, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	require.Equal(t, "GET, *", response.Header.Get("Allow"))
}
