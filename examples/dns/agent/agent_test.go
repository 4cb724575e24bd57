package agent_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/dns/agent"
)

const patience = 20 * time.Second // for a machine that has much else to do

// free returns an address that nobody has.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// serve runs the example until the test ends, and returns the addresses of its names and of its metrics.
func serve(t *testing.T, args ...string) (names, metrics string) {
	t.Helper()
	names, metrics = free(t), free(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		done <- agent.Run(ctx, append([]string{"-listen", names, "-metrics", metrics}, args...), io.Discard, io.Discard)
	}()
	t.Cleanup(func() { cancel(); require.Zero(t, <-done) })
	require.Eventually(t, func() bool { code, _ := get(metrics, "/ready"); return code != 0 }, patience, time.Millisecond)
	return names, metrics
}

func get(address, path string) (int, string) {
	response, err := http.Get("http://" + address + path)
	if err != nil {
		return 0, ""
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

// lookup returns the addresses of a name, or the code.
func lookup(t *testing.T, address, name string) string {
	t.Helper()
	reply, _, err := (&dns.Client{Timeout: patience}).Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), address)
	require.NoError(t, err)
	var all []string
	for _, rr := range reply.Answer {
		all = append(all, rr.(*dns.A).A.String())
	}
	if len(all) == 0 {
		return dns.RcodeToString[reply.Rcode]
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

const name = "web.shop.svc.cluster.local."

// shows makes changes and measures after what time the next answer has them. A machine that does much else delays some.
func shows(t *testing.T, address string, change func(ip string)) {
	t.Helper()
	var took []time.Duration
	for i := range 12 {
		ip := fmt.Sprintf("10.244.7.%d", i+1)
		begin := time.Now()
		change(ip)
		for lookup(t, address, name) != ip {
			require.Less(t, time.Since(begin), patience, "the change is not seen")
			require.NotEqual(t, "NXDOMAIN", lookup(t, address, name), "it was there")
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	require.Less(t, took[len(took)/2], 50*time.Millisecond, "%v", took)
}

const (
	serviceJSON = `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop","resourceVersion":"%d"},"spec":{"clusterIP":"None","ports":[{"port":80}]}}`
	sliceJSON   = `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"web-1","namespace":"shop","resourceVersion":"%d","labels":{"kubernetes.io/service-name":"web"}},` +
		`"addressType":"IPv4","ports":[{"port":80}],"endpoints":[{"addresses":["%s"]}]}`
)

func TestDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(file, content string) {
		path := filepath.Join(dir, file)
		require.NoError(t, os.WriteFile(path+".tmp", []byte(content), 0o600))
		require.NoError(t, os.Rename(path+".tmp", path))
	}
	slice := func(ip string) { write("slice.json", fmt.Sprintf(sliceJSON, 1, ip)) }
	slice("10.244.7.99")
	write("service.json", fmt.Sprintf(serviceJSON, 1))
	address, metrics := serve(t, "-f", dir)
	require.Eventually(t, func() bool { return lookup(t, address, name) == "10.244.7.99" }, patience, time.Millisecond)
	shows(t, address, slice)
	write("service.json", "not: [yaml")
	time.Sleep(50 * time.Millisecond)
	require.Equal(t, "10.244.7.12", lookup(t, address, name), "a file with a fault counts as it was")
	_, text := get(metrics, "/metrics")
	require.Contains(t, text, `podplumb_dns_requests_total{proto="udp",rcode="NOERROR",type="A"}`)
	require.Contains(t, text, `podplumb_dns_request_duration_seconds_count{proto="udp"}`)
}

// apiServer has one Service and one EndpointSlice; it answers when it is ready, and sends events to watches.
type apiServer struct {
	ready  atomic.Bool
	events chan string // of EndpointSlices
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := map[string]string{"/api/v1/namespaces": "Namespace", "/api/v1/services": "Service", "/apis/discovery.k8s.io/v1/endpointslices": "EndpointSlice"}[r.URL.Path]
	w.Header().Set("Content-Type", "application/json")
	switch {
	case !a.ready.Load():
		http.Error(w, "starting", http.StatusServiceUnavailable)
	case r.URL.Query().Get("sendInitialEvents") != "":
		w.WriteHeader(http.StatusUnprocessableEntity) // an older server
		fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
	case r.URL.Query().Get("watch") != "":
		w.(http.Flusher).Flush()
		for {
			var events chan string
			if kind == "EndpointSlice" {
				events = a.events
			}
			select {
			case <-r.Context().Done():
				return
			case e := <-events:
				fmt.Fprintln(w, e)
				w.(http.Flusher).Flush()
			}
		}
	default:
		item := map[string]string{"Service": fmt.Sprintf(serviceJSON, 5), "EndpointSlice": fmt.Sprintf(sliceJSON, 5, "10.244.7.99")}[kind]
		version := "v1"
		if kind == "EndpointSlice" {
			version = "discovery.k8s.io/v1"
		}
		fmt.Fprintf(w, `{"kind":"%sList","apiVersion":"%s","metadata":{"resourceVersion":"5"},"items":[%s]}`, kind, version, item)
	}
}

// Until the API server has told everything, names are neither there nor missing; when it goes away, the last state counts.
func TestAPIServer(t *testing.T) {
	t.Parallel()
	api := &apiServer{events: make(chan string)}
	s := httptest.NewServer(api)
	defer s.Close()
	address, metrics := serve(t, "-master", s.URL)
	code, _ := get(metrics, "/ready")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "SERVFAIL", lookup(t, address, name))
	require.Equal(t, "SERVFAIL", lookup(t, address, "nobody.shop.svc.cluster.local."))
	api.ready.Store(true)
	require.Eventually(t, func() bool { return lookup(t, address, name) == "10.244.7.99" }, patience, time.Millisecond)
	code, _ = get(metrics, "/ready")
	require.Equal(t, http.StatusOK, code)
	version := 5
	shows(t, address, func(ip string) {
		version++
		api.events <- fmt.Sprintf(`{"type":"MODIFIED","object":`+sliceJSON+`}`, version, ip)
	})
	api.ready.Store(false)
	s.CloseClientConnections()
	time.Sleep(100 * time.Millisecond)
	require.Equal(t, "10.244.7.12", lookup(t, address, name))
	require.Equal(t, "NXDOMAIN", lookup(t, address, "nobody.shop.svc.cluster.local."))
}
