package proxy_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/ingress/listen"
	"github.com/podplumb/podplumb/examples/ingress/route"
)

// client is one that sends the same request again and again.
type client struct {
	url  string
	host string
	http.RoundTripper
}

// underLoad makes a thousand changes while the clients send requests: none of them fails, and a WebSocket at /ws of the address
// stays open.
func underLoad(t *testing.T, address string, change func(i int), clients ...client) {
	t.Helper()
	change(0)
	ws, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer ws.Close()
	fmt.Fprint(ws, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	in := bufio.NewReader(ws)
	_, err = http.ReadResponse(in, nil)
	require.NoError(t, err)

	stop := make(chan struct{})
	var running sync.WaitGroup
	var requests atomic.Int64
	var failures lines
	for _, c := range clients {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				requests.Add(1)
				r, _ := http.NewRequest(http.MethodGet, c.url, nil)
				r.Host = c.host
				response, err := c.RoundTrip(r)
				if err != nil || response.StatusCode != http.StatusOK {
					fmt.Fprintln(&failures, c.url, err, response)
					continue
				}
				_, _ = io.Copy(io.Discard, response.Body)
				_ = response.Body.Close()
			}
		})
	}
	for i := range 1000 {
		change(i)
		if i%100 == 0 {
			fmt.Fprint(ws, "ping")
			got := make([]byte, 4)
			_, err := io.ReadFull(in, got)
			require.NoError(t, err)
			require.Equal(t, "ping", string(got))
		}
		time.Sleep(time.Millisecond)
	}
	close(stop)
	running.Wait()
	require.Empty(t, failures.String(), "of %d requests", requests.Load())
	require.Greater(t, requests.Load(), int64(100))
}

// Routes and endpoints change all the time.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	f := start(t, listen.Config{})
	a, b, ws := server(t, "web", nil), server(t, "web", nil), server(t, "", echo)
	transport := &http.Transport{MaxIdleConnsPerHost: 8}
	t.Cleanup(transport.CloseIdleConnections)
	one := client{"http://" + f.clear + "/x", "x", transport}
	underLoad(t, f.clear, func(i int) {
		rules := []route.Rule{prefix("/", "web"), prefix("/ws", "ws")}
		for j := range i % 50 {
			rules = append(rules, prefix(fmt.Sprint("/other", j), "web"))
		}
		f.use(rules, backend{name: "web", addresses: []string{a, b}[i%2 : i%2+1]}, backend{name: "ws", addresses: []string{ws}})
	}, one, one, one, one)
}

// HTTPRoutes and certificates change all the time, in clear and over TLS, HTTP/1.1 and HTTP/2, with connections that are kept and
// without.
func TestGatewayChangesUnderLoad(t *testing.T) {
	t.Parallel()
	g := startGate(t)
	first, pool := certificate(t, "a.example")
	second, _ := certificate(t, "a.example")
	c, err := x509.ParseCertificate(second.Certificate[0])
	require.NoError(t, err)
	pool.AddCert(c)
	backends := []backend{{name: "one", addresses: []string{server(t, "one", nil)}}, {name: "two", addresses: []string{server(t, "two", nil)}}, {name: "ws", addresses: []string{server(t, "", echo)}}}
	var clients []client
	for i := range 4 {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "a.example"}, DisableKeepAlives: i == 3, ForceAttemptHTTP2: i == 2}
		t.Cleanup(transport.CloseIdleConnections)
		url := "http://" + g.clear + "/x"
		if i > 1 {
			url = "https://" + g.secure + "/x"
		}
		clients = append(clients, client{url, "a.example", transport})
	}
	underLoad(t, g.clear, func(i int) {
		rules := []string{
			fmt.Sprintf(`{backendRefs: [{name: one, port: 80, weight: %d}, {name: two, port: 80, weight: %d}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Change, value: "%d"}]}}]}`, i%3, 3-i%3, i),
			`{matches: [{path: {value: /ws}}], backendRefs: [{name: ws, port: 80}]}`,
		}
		for j := range i % 20 {
			rules = append(rules, fmt.Sprintf(`{matches: [{path: {value: /other%d}}], backendRefs: [{name: one, port: 80}]}`, j))
		}
		g.use(t, map[string]*tls.Certificate{"a.example": []*tls.Certificate{first, second}[i%2]}, backends, rules...)
	}, clients...)
}
