package l7_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/podplumb/podplumb/examples/mesh/l7"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

// An application that ends its connections all the time (over HTTP/2 by GOAWAY) costs no request.
func TestGoAway(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	_, client, url := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%5 == 0 {
			w.Header().Set("Connection", "close")
		}
		fmt.Fprint(w, "ok")
	})
	for _, protocol := range protocols {
		c := client.client(protocol)
		var load sync.WaitGroup
		for range 8 {
			load.Go(func() {
				for range 100 {
					response, body := do(t, c, "POST", url, strings.NewReader("hello"))
					if response.StatusCode != 200 || body != "ok" {
						t.Error(protocol, response.Status, body)
						return
					}
				}
			})
		}
		load.Wait()
	}
}

// Streams that the server refuses (REFUSED_STREAM: it saw nothing of them) go there again, whatever their method.
func TestRefusedStream(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	var refused atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go refusing(c, &refused)
		}
	}()
	m := newMesh(t, l7.Config{})
	client, server := m.pod("web"), m.pod("cart")
	m.service("10.96.0.1", "cart", server.serves(l.Addr().String()))
	c := client.client(stream.HTTP2)
	for range 10 {
		response, body := do(t, c, "POST", "http://10.96.0.1/", strings.NewReader("hello"))
		require.Equal(t, []any{200, "ok"}, []any{response.StatusCode, body})
	}
	require.EqualValues(t, 10, refused.Load())
}

// refusing serves HTTP/2 by hand: every other stream is refused.
func refusing(c net.Conn, refused *atomic.Int64) {
	defer c.Close()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	_ = f.WriteSettings()
	refuse := false
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = f.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			if refuse = !refuse; refuse {
				refused.Add(1)
				_ = f.WriteRSTStream(frame.StreamID, http2.ErrCodeRefusedStream)
			}
		case *http2.DataFrame:
			if frame.StreamEnded() && !refuse {
				var block bytes.Buffer
				_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
				_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.StreamID, BlockFragment: block.Bytes(), EndHeaders: true})
				_ = f.WriteData(frame.StreamID, true, []byte("ok"))
			}
		}
	}
}

// Large heads pass up to a limit; beyond it they are refused, and the proxy goes on.
func TestLargeHeads(t *testing.T) {
	t.Parallel()
	_, client, url := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/response" {
			w.Header().Set("X-Large", strings.Repeat("x", 2<<20))
		}
		fmt.Fprint(w, len(r.Header.Get("X-Large")))
	})
	for _, protocol := range protocols {
		c := client.client(protocol)
		_, body := do(t, c, "GET", url, nil, "X-Large: "+strings.Repeat("x", 300<<10))
		require.Equal(t, fmt.Sprint(300<<10), body, "%v", protocol)
		response, _ := do(t, c, "GET", url+"/response", nil)
		require.Equal(t, 502, response.StatusCode, "%v", protocol)
		r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		require.NoError(t, err)
		r.Header.Set("X-Large", strings.Repeat("x", 2<<20))
		if response, err := c.Do(r); err == nil { // it may be lost, as the client is still sending when the connection is closed
			require.Contains(t, []int{400, 431}, response.StatusCode)
			response.Body.Close()
		}
		_, body = do(t, c, "GET", url, nil)
		require.Equal(t, "0", body)
	}
}

// However many destinations there are, the counters are bounded.
func TestCardinality(t *testing.T) {
	t.Parallel()
	m := newMesh(t, l7.Config{Breaker: upstream.BreakerConfig{Failures: -1}})
	server := m.pod("cart")
	var n atomic.Int64
	address := server.serves(application(t, "127.0.0.1", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200 + int(n.Add(1)%300))
	}))
	client := m.pod("web")
	for i := range 2100 {
		ip := fmt.Sprintf("10.97.%d.%d", i/250, i%250+1)
		m.service(ip, fmt.Sprint("service-", i), address)
		c := client.dial(stream.HTTP1, ip+":80", nil)
		fmt.Fprintf(c, "NONSENSE-%d / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", i)
		_, err := io.Copy(io.Discard, c)
		require.NoError(t, err)
		c.Close()
	}
	families, err := m.registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "mesh_requests_total" {
			require.LessOrEqual(t, len(f.Metric), 2000+2*70, "a series for each pair, and for what is one pair the codes that there are")
		}
	}
	require.Positive(t, m.metric("mesh_requests_total", "destination=other", "source=other"))
}
