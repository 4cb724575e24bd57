package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/examples/mesh/l7"
	"github.com/podplumb/podplumb/examples/mesh/routes"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/trace"
)

func TestAdmin(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "spans.json")
	q, err := newRequests(t.Context(), trace.Config{File: file, Ratio: 1}, l7.Config{}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	mux := http.NewServeMux()
	q.admin(mux)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	code, _ := get("/healthz")
	require.Equal(t, 200, code)
	code, _ = get("/readyz")
	require.Equal(t, 503, code)
	group, kind, port := gatewayv1.Group(""), gatewayv1.Kind("Service"), gatewayv1.PortNumber(81)
	route := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "r"}}
	route.Spec.ParentRefs = []gatewayv1.ParentReference{{Group: &group, Kind: &kind, Name: "cart", Port: &port}}
	cart := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"}}
	q.table.Store(routes.New(nil, routes.Objects{Services: []*corev1.Service{cart}, HTTPRoutes: []*gatewayv1.HTTPRoute{route}}))
	code, _ = get("/readyz")
	require.Equal(t, 200, code)
	p := q.handler(&stream.Workload{Namespace: "shop", Name: "web-1"}, nil, nil)
	for _, want := range []int{1, 0} {
		_, text := get("/config")
		var config struct {
			Routes  []routeState
			Proxies []l7.State
		}
		require.NoError(t, json.Unmarshal([]byte(text), &config))
		require.Len(t, config.Routes, 1)
		require.Equal(t, "HTTPRoute shop/r", config.Routes[0].Route)
		require.Equal(t, "NoMatchingParent", config.Routes[0].Accepted)
		require.Contains(t, config.Routes[0].Fault, "has no such port")
		require.Len(t, config.Proxies, want)
		p.(*l7.Proxy).Close() // a pod that is gone is no more there
	}

	tracer := q.recorder.Tracer(trace.Service("shop/web"))
	tracer.Start(tracer.Extract(http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}), 3, "GET").End("")
	q.close()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("{half a li")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	for args, want := range map[string]string{file: "shop/web client GET", file + " 4bf9": "shop/web client GET", file + " ffff": ""} {
		var out, wrong bytes.Buffer
		require.Equal(t, run.Failed, Run(context.Background(), append([]string{"trace"}, strings.Fields(args)...), &out, &wrong))
		require.Contains(t, wrong.String(), "line 2: ")
		require.Equal(t, want != "", strings.Contains(out.String(), "shop/web client GET"), out.String())
	}
	require.Equal(t, run.Usage, Run(context.Background(), []string{"trace"}, io.Discard, io.Discard))
}

// Every fault of the limits is told at once.
func TestLimitFlags(t *testing.T) {
	t.Parallel()
	_, err := (&limitOptions{retries: -1}).config()
	for _, flag := range []string{"-retries: -1 is negative", "-max-requests:", "-max-connections:", "-max-pending:", "-circuit-open:"} {
		require.ErrorContains(t, err, flag)
	}
}
