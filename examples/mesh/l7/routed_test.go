package l7_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"net"

	"github.com/podplumb/podplumb/examples/internal/httproute"
	"github.com/podplumb/podplumb/examples/mesh/l7"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/trace"
	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

// canary makes a Service cart with two others behind it.
func canary(t *testing.T, config l7.Config) (m *mesh, client *pod) {
	m = newMesh(t, config)
	client = m.pod("web")
	stable, next := m.pod("cart-v1"), m.pod("cart-v2")
	v1, v2 := stable.serves(application(t, "127.0.0.1", says("v1"))), next.serves(application(t, "::1", says("v2")))
	m.service("10.96.0.1", "cart", v1, v2)
	m.service("10.96.0.2", "cart-v1", v1)
	m.service("10.96.0.3", "cart-v2", v2)
	return m, client
}

const split = `
rules:
- matches: [{headers: [{name: X-Canary, value: always}]}]
  backendRefs: [{name: cart-v2, port: 80}]
- backendRefs: [{name: cart-v1, port: 80, weight: 90}, {name: cart-v2, port: 80, weight: 10}]
`

func TestCanary(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		m, client := canary(t, l7.Config{})
		m.route(to("cart") + split)
		c := client.client(protocol)
		counts := map[string]int{}
		for range 500 {
			_, body := do(t, c, "GET", "http://10.96.0.1/", nil)
			counts[body]++
		}
		require.InDelta(t, 450, counts["v1"], 5, "%v", counts) // at random the deviation would be 6.7
		require.Equal(t, 500, counts["v1"]+counts["v2"])
		for range 20 {
			_, body := do(t, c, "GET", "http://10.96.0.1/", nil, "X-Canary: always")
			require.Equal(t, "v2", body)
		}
		require.EqualValues(t, counts["v2"]+20, m.metric("mesh_requests_total", "direction=outbound", "destination=shop/cart-v2:80"))
		_, body := do(t, c, "GET", "http://10.96.0.2/", nil)
		require.Equal(t, "v1", body, "the route is not that Service's")
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	m, client, url := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-From", "cart")
		fmt.Fprint(w, r.Host, " ", r.RequestURI, " ", r.Header.Get("X-Set"), r.Header.Get("X-Gone"))
	})
	var shadows atomic.Int64
	mirror := m.pod("mirror")
	m.service("10.96.0.9", "mirror", mirror.serves(application(t, "127.0.0.1", func(_ http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); string(body) == "hello" && r.RequestURI == "/api/x" {
			shadows.Add(1)
		}
	})))
	m.route(to("cart") + `
rules:
- matches: [{path: {type: PathPrefix, value: /old}}]
  filters:
  - {type: URLRewrite, urlRewrite: {hostname: new.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}
  - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: "1"}], remove: [X-Gone]}}
  - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: X-Added, value: "2"}], remove: [X-From]}}
  backendRefs: [{name: cart, port: 80}]
- matches: [{path: {type: PathPrefix, value: /moved}}]
  filters: [{type: RequestRedirect, requestRedirect: {hostname: else.example, statusCode: 301}}]
- matches: [{path: {type: PathPrefix, value: /api}}]
  filters: [{type: RequestMirror, requestMirror: {backendRef: {name: mirror, port: 80}}}]
  backendRefs: [{name: cart, port: 80}]
- matches: [{path: {type: Exact, value: /nowhere}}]
  backendRefs: [{name: cart, port: 80, weight: 0}]
`)
	for _, protocol := range protocols {
		c := client.client(protocol)
		response, body := do(t, c, "GET", url+"/old/a%2Fb?q=1", nil, "X-Gone: x")
		require.Equal(t, "new.example /new/a%2Fb?q=1 1", body)
		require.Equal(t, "2", response.Header.Get("X-Added"))
		require.Empty(t, response.Header.Get("X-From"))
		response, _ = do(t, c, "GET", url+"/moved/x", nil)
		require.Equal(t, []any{301, "http://else.example/moved/x"}, []any{response.StatusCode, response.Header.Get("Location")})
		_, body = do(t, c, "POST", url+"/api/x", strings.NewReader("hello"), "Host: h")
		require.Equal(t, "h /api/x ", body)
		response, _ = do(t, c, "GET", url+"/other", nil)
		require.Equal(t, 404, response.StatusCode, "no rule")
		require.Equal(t, "podplumb; error=destination_not_found", response.Header.Get("Proxy-Status"))
		response, _ = do(t, c, "GET", url+"/nowhere", nil)
		require.Equal(t, 500, response.StatusCode)
	}
	require.Eventually(t, func() bool { return shadows.Load() == 2 }, 5*time.Second, time.Millisecond)
}

// grpcPair is a client of a health service behind the mesh.
func grpcClient(t *testing.T, client *pod) healthpb.HealthClient {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///cart.shop", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			return client.dial(stream.HTTP2, "10.96.0.1:80", nil), nil
		}))
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return healthpb.NewHealthClient(c)
}

// grpcServer serves health, and fails with Unavailable as long as it is told to.
func grpcServer(t *testing.T, fail *atomic.Int64) (address string, server *health.Server) {
	t.Helper()
	server = health.NewServer()
	s := grpc.NewServer(grpc.UnaryInterceptor(func(ctx context.Context, r any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		if fail.Add(-1) >= 0 {
			return nil, status.Error(codes.Unavailable, "not now")
		}
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-sum", "7"))
		return next(ctx, r)
	}))
	healthpb.RegisterHealthServer(s, server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return l.Addr().String(), server
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	m := newMesh(t, l7.Config{Retry: &httproute.Retry{Attempts: 3, Codes: []int{503}, Backoff: time.Millisecond}})
	client, server := m.pod("web"), m.pod("cart")
	var fail atomic.Int64
	address, state := grpcServer(t, &fail)
	m.service("10.96.0.1", "cart", server.serves(address))
	c := grpcClient(t, client)

	var trailer metadata.MD
	answer, err := c.Check(t.Context(), &healthpb.HealthCheckRequest{}, grpc.Trailer(&trailer))
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, answer.Status)
	require.Equal(t, []string{"7"}, trailer["x-sum"])

	_, err = c.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "none"})
	require.Equal(t, codes.NotFound, status.Code(err), "a status passes as it is")

	watch, err := c.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	for _, want := range []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING, healthpb.HealthCheckResponse_SERVING} {
		if want == healthpb.HealthCheckResponse_NOT_SERVING {
			state.SetServingStatus("", want)
		} else {
			state.Resume()
		}
		got, err := watch.Recv()
		require.NoError(t, err)
		require.Equal(t, want, got.Status)
		if want == healthpb.HealthCheckResponse_NOT_SERVING {
			state.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
		}
	}

	fail.Store(2)
	_, err = c.Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err, "Unavailable is tried again")
	require.EqualValues(t, 2, m.metric("mesh_retries_total"))
	fail.Store(1000)
	_, err = c.Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err))

	m.service("10.96.0.1", "cart")
	_, err = c.Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Equal(t, "the backend has no ready endpoint", status.Convert(err).Message())
	require.EqualValues(t, 1, m.metric("mesh_requests_total", "direction=outbound", "grpc=5", "code=200"))
	require.Positive(t, m.metric("mesh_requests_total", "direction=inbound", "grpc=14"))
}

// flaky fails requests as it is told to.
type flaky struct {
	requests, fail atomic.Int64
	code           int
	endless        atomic.Bool // the bodies of failures
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.requests.Add(1)
	body, _ := io.ReadAll(r.Body)
	if f.code == 0 && r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close") // a connection that ends when it is used again tells nothing of the server
	}
	if f.fail.Add(-1) >= 0 {
		if f.code == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(f.code)
		if f.endless.Load() {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
		return
	}
	_, _ = w.Write(body)
}

const retries = `
rules:
- matches: [{path: {type: PathPrefix, value: /post}, method: POST}]
  retry: {codes: [503], attempts: 3, backoff: 1ms}
  backendRefs: [{name: cart, port: 80}]
- retry: {codes: [503], attempts: 3, backoff: 1ms}
  backendRefs: [{name: cart, port: 80}]
`

func TestRetry(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		for _, code := range []int{503, 0} {
			f := &flaky{code: code}
			f.endless.Store(code == 503)
			m, client, url := two(t, "127.0.0.1", l7.Config{Breaker: upstream.BreakerConfig{Failures: -1}}, f.ServeHTTP)
			m.route(to("cart") + retries)
			c := client.client(protocol)
			for _, try := range []struct {
				method, path, body string
				fail, code, sent   int
			}{
				{"GET", "/", "", 3, 200, 4},
				{"GET", "/", "", 4, 503, 4},
				{"PUT", "/", "hello", 2, 200, 3},
				{"PUT", "/", strings.Repeat("x", 1<<20), 1, 503, 1}, // too long to keep
				{"POST", "/", "hello", 1, 503, 1},                   // twice may be too much
				{"POST", "/post", "hello", 1, 200, 2},               // but the route's owner says so
			} {
				f.requests.Store(0)
				f.fail.Store(int64(try.fail))
				f.endless.Store(code == 503 && try.code == 200)
				response, body := do(t, c, try.method, url+try.path, strings.NewReader(try.body))
				want := try.code
				if code == 0 && want == 503 {
					want = 502
				}
				require.Equal(t, want, response.StatusCode, "%v %d %v", protocol, code, try.method+try.path)
				if want == 200 {
					require.Equal(t, try.body, body)
				}
				require.EqualValues(t, try.sent, f.requests.Load(), "%v %d %v", protocol, code, try.method+try.path)
				f.fail.Store(0)
			}
			require.EqualValues(t, 3+3+2+1, m.metric("mesh_retries_total", "destination=shop/cart:80"))
		}
	}
}

// When all fails, retries are not much more than a fifth of the requests.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	f := &flaky{code: 503}
	f.fail.Store(1 << 40)
	m, client, url := two(t, "127.0.0.1", l7.Config{Breaker: upstream.BreakerConfig{Failures: -1}, Budget: upstream.BudgetConfig{Minimum: -1}}, f.ServeHTTP)
	m.route(to("cart") + retries)
	const n = 1000
	var load sync.WaitGroup
	for range 4 {
		c := client.client(stream.HTTP1)
		load.Go(func() {
			for range n / 4 {
				response, _ := do(t, c, "GET", url, nil)
				if response.StatusCode != 503 {
					t.Error(response.Status)
				}
			}
		})
	}
	load.Wait()
	sent, tried := f.requests.Load(), int64(m.metric("mesh_retries_total"))
	require.Equal(t, n+tried, sent)
	require.InDelta(t, n/5, tried, n/50)
	require.Positive(t, m.metric("mesh_retry_budget_exhausted_total"))
}

func TestTimeouts(t *testing.T) {
	t.Parallel()
	var first atomic.Bool
	m, client, url := two(t, "127.0.0.1", l7.Config{}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch {
		case r.URL.Path == "/stream":
			fmt.Fprint(w, "begin")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case r.URL.Path == "/slow", first.CompareAndSwap(false, true):
			<-r.Context().Done()
		}
		fmt.Fprint(w, "ok")
	})
	m.route(to("cart") + `
rules:
- matches: [{path: {type: Exact, value: /once}}]
  timeouts: {request: 10s, backendRequest: 100ms}
  retry: {codes: [504], attempts: 1, backoff: 1ms}
  backendRefs: [{name: cart, port: 80}]
- timeouts: {request: 200ms}
  backendRefs: [{name: cart, port: 80}]
`)
	for _, protocol := range protocols {
		c := client.client(protocol)
		begin := time.Now()
		response, body := do(t, c, "GET", url+"/slow", nil)
		require.Equal(t, 504, response.StatusCode, body)
		require.Equal(t, "podplumb; error=http_response_timeout", response.Header.Get("Proxy-Status"))
		require.GreaterOrEqual(t, time.Since(begin), 200*time.Millisecond)
		first.Store(false)
		response, body = do(t, c, "GET", url+"/once", nil)
		require.Equal(t, []any{200, "ok"}, []any{response.StatusCode, body}, "a try that takes too long is followed by another")
		r, err := http.NewRequestWithContext(t.Context(), "GET", url+"/stream", nil)
		require.NoError(t, err)
		response, err = c.Do(r)
		require.NoError(t, err)
		_, err = io.ReadAll(response.Body)
		require.Error(t, err, "the time is that of the whole response")
		response.Body.Close()
	}
}

// The circuit opens, answers at once, lets one try, and closes.
func TestCircuit(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol.String(), func(t *testing.T) { t.Parallel(); testCircuit(t, protocol) })
	}
}

func testCircuit(t *testing.T, protocol stream.Protocol) {
	f := &flaky{code: 500}
	m, client, url := two(t, "127.0.0.1", l7.Config{Breaker: upstream.BreakerConfig{Failures: 3, Open: 700 * time.Millisecond}}, f.ServeHTTP)
	c := client.client(protocol)
	f.fail.Store(4)
	for range 3 {
		response, _ := do(t, c, "GET", url, nil)
		require.Equal(t, 500, response.StatusCode)
	}
	for range 5 {
		response, body := do(t, c, "GET", url, nil)
		require.Equal(t, 503, response.StatusCode)
		require.Equal(t, "the circuits of all endpoints are open\n", body)
	}
	require.EqualValues(t, 3, f.requests.Load(), "the application has peace")
	time.Sleep(710 * time.Millisecond)
	response, _ := do(t, c, "GET", url, nil)
	require.Equal(t, 500, response.StatusCode, "a try")
	response, _ = do(t, c, "GET", url, nil)
	require.Equal(t, 503, response.StatusCode)
	time.Sleep(1410 * time.Millisecond)
	for range 5 {
		response, _ = do(t, c, "GET", url, nil)
		require.Equal(t, 200, response.StatusCode)
	}
	require.EqualValues(t, 2, m.metric("mesh_circuit_changes_total", "direction=outbound", "to=open"))
	require.EqualValues(t, 1, m.metric("mesh_circuit_changes_total", "direction=outbound", "to=closed"))
}

// An endpoint that fails is passed over, and requests that it never saw go elsewhere.
func TestEjection(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		m := newMesh(t, l7.Config{Breaker: upstream.BreakerConfig{Open: time.Minute}})
		client, good, bad := m.pod("web"), m.pod("cart"), m.pod("cart")
		f := &flaky{code: 503}
		f.fail.Store(1 << 40)
		m.service("10.96.0.1", "cart", good.serves(application(t, "127.0.0.1", says("ok"))), bad.serves(application(t, "127.0.0.1", f.ServeHTTP)))
		c := client.client(protocol)
		failed := 0
		for range 200 {
			if response, _ := do(t, c, "GET", "http://10.96.0.1/", nil); response.StatusCode != 200 {
				failed++
			}
		}
		require.Equal(t, 5, failed)

		dead := netip.MustParseAddrPort("127.0.0.1:1")
		m.service("10.96.0.2", "half", good.serves(application(t, "127.0.0.1", says("ok"))), dead)
		for range 50 {
			response, _ := do(t, c, "GET", "http://10.96.0.2/", nil)
			require.Equal(t, 200, response.StatusCode, "no connection: elsewhere")
		}
		m.service("10.96.0.3", "dead", dead)
		response, _ := do(t, c, "GET", "http://10.96.0.3/", nil)
		require.Equal(t, 503, response.StatusCode)
	}
}

func TestLimit(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	_, client, url := two(t, "127.0.0.1", l7.Config{Requests: 3}, func(http.ResponseWriter, *http.Request) { <-release })
	codes := make(chan int, 10)
	c := client.client(stream.HTTP1)
	for range 10 {
		go func() {
			response, _ := do(t, c, "GET", url, nil)
			codes <- response.StatusCode
		}()
	}
	for range 7 {
		require.Equal(t, 503, <-codes)
	}
	close(release)
	for range 3 {
		require.Equal(t, 200, <-codes)
	}
}

// Routes, endpoints and identities change all the time, and no request fails.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	m, client := canary(t, l7.Config{})
	m.route(to("cart") + split)
	all := m.Resolve(netip.MustParseAddrPort("10.96.0.1:80")).Endpoints
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var sent atomic.Int64
	for i := range 6 {
		c := client.client(protocols[i%2])
		load.Go(func() {
			for ctx.Err() == nil {
				r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://10.96.0.1/", strings.NewReader("hello"))
				response, err := c.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != 200 || !strings.HasPrefix(string(body), "v") {
					t.Error(response.Status, string(body), err)
					return
				}
				sent.Add(1)
			}
		})
	}
	for i := 0; i < 1000 || sent.Load() < 500; i++ {
		switch i % 4 {
		case 0:
			m.route()
		case 1:
			m.route(to("cart")+split, to("cart")+fmt.Sprintf("rules: [{matches: [{path: {type: Exact, value: /%d}}], backendRefs: [{name: cart, port: 80}]}]", i))
		case 2:
			m.service("10.96.0.1", "cart", all[i/4%2].Address)
			m.service("10.96.0.3", "cart-v2", all[1].Address, all[0].Address)
		case 3:
			m.service("10.96.0.1", "cart", all[0].Address, all[1].Address)
			m.service("10.96.0.3", "cart-v2", all[1].Address)
			client.proxy.Refresh()
		}
		if i%20 == 0 {
			client.proxy.Renew()
		}
	}
	cancel()
	load.Wait()
	t.Log(sent.Load(), "requests")
}

// A trace over three hops: the applications only forward headers, and each span's parent is the one that caused it.
func TestTrace(t *testing.T) {
	t.Parallel()
	for _, forwards := range [][]string{{"Traceparent", "Tracestate"}, {"B3"}, {"X-B3-Traceid", "X-B3-Spanid", "X-B3-Sampled"}} {
		file := filepath.Join(t.TempDir(), "spans")
		recorder, err := trace.Open(t.Context(), trace.Config{File: file, Ratio: 1, Formats: trace.B3 | trace.B3Multi}, func(err error) { t.Error(err) })
		require.NoError(t, err)
		m := newMesh(t, l7.Config{})
		m.recorder = recorder
		web := m.pod("web")
		chain := []string{"cart", "stock", "price"}
		for i, name := range chain {
			p := m.pod(name)
			address := application(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
				if i == len(chain)-1 {
					fmt.Fprint(w, "done")
					return
				}
				var headers []string
				for _, h := range forwards {
					if v := r.Header.Get(h); v != "" {
						headers = append(headers, h+": "+v)
					}
				}
				_, body := do(t, p.client(protocols[i%2]), "GET", fmt.Sprintf("http://10.96.0.%d/%s", i+2, chain[i+1]), nil, headers...)
				fmt.Fprint(w, body)
			})
			m.service(fmt.Sprintf("10.96.0.%d", i+1), name, p.serves(address))
		}
		_, body := do(t, web.client(stream.HTTP1), "GET", "http://10.96.0.1/cart", nil, "Tracestate: only=noise")
		require.Equal(t, "done", body)
		require.NoError(t, recorder.Close(context.Background()))
		f, err := os.Open(file)
		require.NoError(t, err)
		defer f.Close()
		traces, err := trace.Read(f)
		require.NoError(t, err)
		require.Len(t, traces, 1, "%v", forwards)
		t.Log(traces[0])
		parent := ""
		require.Len(t, traces[0].Spans, 6)
		for i, want := range []string{"shop/web client", "shop/cart server", "shop/cart client", "shop/stock server", "shop/stock client", "shop/price server"} {
			s := traces[0].Spans[i]
			require.Equal(t, want, s.Service+" "+s.Kind)
			require.Equal(t, parent, s.Parent, want)
			require.Equal(t, "200", s.Attributes["http.response.status_code"])
			require.Equal(t, "mtls", s.Attributes["mesh.security"])
			parent = s.ID
		}
	}
}

// Each try has a span of its own.
func TestTraceOfRetries(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "spans")
	recorder, err := trace.Open(t.Context(), trace.Config{File: file, Ratio: 1}, func(err error) { t.Error(err) })
	require.NoError(t, err)
	m := newMesh(t, l7.Config{})
	m.recorder = recorder
	client, server := m.pod("web"), m.pod("cart")
	f := &flaky{code: 503}
	f.fail.Store(1)
	m.service("10.96.0.1", "cart", server.serves(application(t, "127.0.0.1", f.ServeHTTP)))
	m.route(to("cart") + retries)
	do(t, client.client(stream.HTTP1), "GET", "http://10.96.0.1/a?secret=1", nil, "Host: cart.shop:8080", "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	require.NoError(t, recorder.Close(context.Background()))
	data, err := os.Open(file)
	require.NoError(t, err)
	defer data.Close()
	traces, err := trace.Read(data)
	require.NoError(t, err)
	require.Len(t, traces, 1)
	var clients []trace.ReadSpan
	for _, s := range traces[0].Spans {
		if s.Kind == "client" {
			clients = append(clients, s)
			require.Equal(t, "00f067aa0ba902b7", s.Parent)
		}
	}
	require.Len(t, clients, 2)
	for name, want := range map[string]string{"url.full": "http://cart.shop:8080/a", "url.scheme": "http", "server.address": "cart.shop", "server.port": "8080", "error.type": "503"} {
		require.Equal(t, want, clients[0].Attributes[name], name)
	}
	require.Empty(t, clients[1].Attributes["error.type"])
	require.Equal(t, []string{"503", "", "Service Unavailable"}, []string{clients[0].Attributes["http.response.status_code"], clients[0].Attributes["http.request.resend_count"], clients[0].Fault})
	require.Equal(t, []string{"200", "1", ""}, []string{clients[1].Attributes["http.response.status_code"], clients[1].Attributes["http.request.resend_count"], clients[1].Fault})
}
