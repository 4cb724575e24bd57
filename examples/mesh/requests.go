package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/podplumb/podplumb/examples/internal/httproute"
	"github.com/podplumb/podplumb/examples/internal/source"
	"github.com/podplumb/podplumb/examples/mesh/l7"
	"github.com/podplumb/podplumb/examples/mesh/routes"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/trace"
)

// requests is what serves HTTP for all pods of a process: routes, traces, counters.
type requests struct {
	table    atomic.Pointer[routes.Table]
	recorder *trace.Recorder // may be nil
	metrics  *l7.Metrics
	limits   l7.Config // that all proxies have
	log      *slog.Logger

	mu      sync.Mutex
	proxies []*l7.Proxy
}

// limitOptions bound what proxies do for requests.
type limitOptions struct {
	l7.Config
	retries int
	b3      bool
}

func (o *limitOptions) register(flags *flag.FlagSet) {
	flags.IntVar(&o.retries, "retries", 0, "how often a request that a route says nothing about is sent once more after 502, 503 or 504, if that makes no difference (idempotent methods, gRPC)")
	flags.IntVar(&o.Budget.Percent, "retry-budget", 20, "retries for 100 requests to a destination, besides 10 a second")
	flags.IntVar(&o.Breaker.Failures, "circuit-failures", 5, "failures in a row after which an endpoint gets no requests for a while; negative: it always does")
	flags.DurationVar(&o.Breaker.Open, "circuit-open", time.Second, "how long it gets none at first; doubles up to a minute")
	flags.IntVar(&o.Requests, "max-requests", 8192, "under way to a destination")
	flags.IntVar(&o.Connections, "max-connections", 1024, "to an endpoint, of HTTP/1.1")
	flags.IntVar(&o.Pending, "max-pending", 1024, "requests that wait for one of them")
	flags.BoolVar(&o.b3, "b3", false, "write the context of traces as B3 too, where no B3 came; W3C Trace Context is always written")
}

// config are the limits.
func (o *limitOptions) config() (l7.Config, error) {
	var faults []error
	if o.retries < 0 {
		faults = append(faults, fmt.Errorf("-retries: %d is negative", o.retries))
	} else if o.retries > 0 {
		o.Retry = &httproute.Retry{Codes: []int{502, 503, 504}, Attempts: o.retries, Backoff: httproute.DefaultBackoff}
	}
	if o.Budget.Percent == 0 {
		o.Budget.Percent = -1 // which is none
	}
	for name, n := range map[string]int{"max-requests": o.Requests, "max-connections": o.Connections, "max-pending": o.Pending, "circuit-open": int(o.Breaker.Open)} {
		if n <= 0 {
			faults = append(faults, fmt.Errorf("-%s: it has to be more than nothing", name))
		}
	}
	return o.Config, errors.Join(faults...)
}

// traceOptions say where spans go.
type traceOptions struct{ trace.Config }

func (o *traceOptions) register(flags *flag.FlagSet) {
	flags.StringVar(&o.File, "trace-file", "", "file that spans are added to, as lines of OTLP/JSON")
	flags.StringVar(&o.Endpoint, "otlp", "", "OTLP collector that spans are sent to: http://HOST:4317, or with -otlp-http http://HOST:4318")
	flags.BoolVar(&o.HTTP, "otlp-http", false, "OTLP over HTTP and not over gRPC")
	flags.Float64Var(&o.Ratio, "trace-ratio", 1, "share of the traces that begin here and are recorded")
}

func newRequests(ctx context.Context, o trace.Config, limits l7.Config, registry prometheus.Registerer, log *slog.Logger) (*requests, error) {
	q := &requests{log: log, limits: limits}
	var err error
	if q.metrics, err = l7.NewMetrics(registry); err != nil {
		return nil, err
	}
	if o.File != "" || o.Endpoint != "" {
		q.recorder, err = trace.Open(ctx, o, func(err error) { log.Error("spans are lost", "error", err) })
	}
	return q, err
}

// close exports the last spans.
func (q *requests) close() {
	if q.recorder == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := q.recorder.Close(ctx); err != nil {
		q.log.Error("spans are lost", "error", err)
	}
}

// handler makes what serves the requests of a pod.
func (q *requests) handler(w *stream.Workload, resolver stream.Resolver, d stream.Dialer) stream.Handler {
	config := q.limits
	config.Workload, config.Resolver, config.Dialer, config.Routes = w, resolver, d, q.table.Load
	config.Metrics, config.Tracer = q.metrics, q.recorder.Tracer(trace.Service(l7.Name(w)))
	p := l7.New(config)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.proxies = append(slices.DeleteFunc(q.proxies, (*l7.Proxy).Closed), p)
	return p
}

// follow takes in the routes of a source until ctx ends.
func (q *requests) follow(ctx context.Context, from source.Source) error {
	s := runtime.NewScheme()
	utilruntime.Must(scheme.AddToScheme(s))
	utilruntime.Must(gatewayv1.Install(s))
	services, http, grpc := map[string]*corev1.Service{}, map[string]*gatewayv1.HTTPRoute{}, map[string]*gatewayv1.GRPCRoute{}
	return from.Run(ctx, s, []source.Kind{
		{Object: &corev1.Service{}, Resource: "services", Namespaced: true},
		{Object: &gatewayv1.HTTPRoute{}, Resource: "httproutes", Namespaced: true, Optional: true},
		{Object: &gatewayv1.GRPCRoute{}, Resource: "grpcroutes", Namespaced: true, Optional: true},
	}, source.Receiver{
		Changed: func(changes []source.Change) {
			for _, c := range changes {
				switch o := cmp.Or(c.New, c.Old).(type) {
				case *corev1.Service:
					put(services, o.Namespace+"/"+o.Name, o, c)
				case *gatewayv1.HTTPRoute:
					put(http, o.Namespace+"/"+o.Name, o, c)
				case *gatewayv1.GRPCRoute:
					put(grpc, o.Namespace+"/"+o.Name, o, c)
				}
			}
			t := routes.New(q.table.Load(), routes.Objects{Services: values(services), HTTPRoutes: values(http), GRPCRoutes: values(grpc)})
			for _, p := range t.Parents() {
				if err := p.Err(); err != nil {
					q.log.Error("a route", "fault", err)
				}
			}
			q.table.Store(t)
		},
		Fault: func(err error) { q.log.Error("the last good state counts", "fault", err) },
	})
}

func put[T runtime.Object](to map[string]T, at string, object T, c source.Change) {
	if c.New == nil {
		delete(to, at)
	} else {
		to[at] = object
	}
}

func values[T any](m map[string]T) []T {
	list := make([]T, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[k])
	}
	return list
}
