package main_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	main "github.com/podplumb/podplumb/examples/ingress"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

// shopAt is an Ingress that lets two requests pass, in front of a server.
func shopAt(t *testing.T, server string) (file string) {
	t.Helper()
	to := netip.MustParseAddrPort(server)
	file = filepath.Join(t.TempDir(), "shop.yaml")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", port: %d}]
endpoints: [{addresses: [%s]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: shop, annotations: {podplumb.github.io/rate-limit: 0.001/2}}
spec:
  rules:
  - http: {paths: [{path: /cart, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
`, to.Port(), to.Addr()), 0o600))
	return file
}

// passing runs the example, makes three requests, and returns the codes when it has ended.
func passing(t *testing.T, args ...string) (codes []int) {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "cart") }))
	defer web.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	errs := new(buffer)
	go func() {
		done <- main.Run(ctx, append([]string{"-f", shopAt(t, web.Listener.Addr().String()), "-http", address, "-quiet"}, args...), io.Discard, errs)
	}()
	ask := func(path string) int {
		response, err := http.Get("http://" + address + path)
		if err != nil {
			return 0
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	kerneltest.Eventually(t, "the Ingress is served", func() bool { return ask("/cart") == http.StatusOK })
	for range 2 {
		codes = append(codes, ask("/cart/1"))
	}
	cancel()
	require.Zero(t, <-done, errs.String())
	return codes
}

// Spans reach a collector before the program ends.
func TestTracesToCollector(t *testing.T) {
	t.Parallel()
	names := make(chan string, 100)
	to := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var m collector.ExportTraceServiceRequest
		if r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &m) != nil {
			http.Error(w, "not OTLP", http.StatusBadRequest)
			return
		}
		for _, resource := range m.ResourceSpans {
			for _, a := range resource.Resource.Attributes {
				names <- a.Value.GetStringValue()
			}
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					names <- fmt.Sprint(span.Kind, " ", span.Name)
				}
			}
		}
	}))
	defer to.Close()
	require.Equal(t, []int{200, 429}, passing(t, "-traces", to.URL+"/v1/traces"))
	close(names)
	seen := map[string]int{}
	for n := range names {
		seen[n]++
	}
	require.Positive(t, seen["podplumb-ingress"], seen)
	require.Equal(t, 2, seen["SPAN_KIND_CLIENT GET"], seen)
	require.Equal(t, 3, seen["SPAN_KIND_SERVER GET /cart"], seen)
}

func TestTracesToFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "spans")
	require.Equal(t, []int{200, 429}, passing(t, "-traces", file))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(string(text), `"Name":"GET /cart"`))
	// Of those that begin here none are kept.
	require.NoError(t, os.Remove(file))
	require.Equal(t, []int{200, 429}, passing(t, "-traces", file, "-trace-share", "0"))
	text, err = os.ReadFile(file)
	require.NoError(t, err)
	require.Empty(t, string(text))
}

// Without an annotation the flag counts.
func TestLimitFlags(t *testing.T) {
	t.Parallel()
	require.Equal(t, []int{429, 429}, passing(t, "-client-rate-limit", "0.001/1"))
	for _, args := range [][]string{{"-rate-limit", "x"}, {"-traces", "-", "-trace-share", "2"}, {"-traces", "/nowhere/spans"}} {
		require.NotZero(t, main.Run(t.Context(), append([]string{"-f", "shop", "-http", "127.0.0.1:0"}, args...), io.Discard, io.Discard), args)
	}
}
