package l7

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

// mostPairs is how many pairs of source and destination have counters of their own; all others share one, "other".
const mostPairs = 2000

// Metrics count what the Proxies of a process do: the golden signals (traffic, errors, latency, saturation) by who sent to
// whom. Names of workloads are those that do not change with each pod.
type Metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	bytes     *prometheus.CounterVec
	unserved  *prometheus.CounterVec
	retries   *prometheus.CounterVec
	exhausted *prometheus.CounterVec
	circuits  *prometheus.CounterVec
	underWay  prometheus.Gauge

	mu     sync.RWMutex
	pairs  map[pair]bool
	series map[series]*counters
}

type pair struct{ source, destination string }

type series struct {
	pair
	inbound, secure bool
	code            int
	grpc            string
}

// counters are those of a series, found once.
type counters struct {
	requests       prometheus.Counter
	duration       prometheus.Observer
	received, sent prometheus.Counter
}

// NewMetrics registers the counters.
func NewMetrics(with prometheus.Registerer) (*Metrics, error) {
	who := []string{"direction", "source", "destination"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append(append([]string(nil), who...), labels...))
	}
	m := &Metrics{
		requests: counter("mesh_requests_total", "Requests by status code (499: the client went away), gRPC status and how they travelled between proxies (mtls, plaintext).", "code", "grpc", "security"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mesh_request_duration_seconds", Help: "Time from the head of a request to the end of its response.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, who),
		bytes:     counter("mesh_request_bytes_total", "Bytes of bodies: of requests (to server) and of responses (to client).", "to"),
		unserved:  counter("mesh_requests_unserved_total", "Requests that the proxy answered itself, by error type (RFC 9209).", "error"),
		retries:   counter("mesh_retries_total", "Tries after the first."),
		exhausted: counter("mesh_retry_budget_exhausted_total", "Tries that there were not because the budget of the destination was spent."),
		circuits:  counter("mesh_circuit_changes_total", "Circuits of endpoints that opened (the endpoint is ejected) and closed.", "to"),
		underWay:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "mesh_requests_under_way", Help: "Requests that have no whole response yet."}),
		pairs:     map[pair]bool{}, series: map[series]*counters{},
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.bytes, m.unserved, m.retries, m.exhausted, m.circuits, m.underWay} {
		if err := with.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Name is that of a pod's workload in metrics and traces: namespace/name, where the name is the label
// app.kubernetes.io/name or app, or else the service account. It is the same for all pods of a Deployment.
func Name(w *stream.Workload) string {
	if w == nil {
		return "unknown"
	}
	return w.Namespace + "/" + cmp.Or(w.Labels["app.kubernetes.io/name"], w.Labels["app"], w.ServiceAccount, "default")
}

func nameOfWorkload(w *stream.Workload) string { return Name(w) }

// nameOfPeer is what an identity tells of a workload: namespace/serviceaccount.
func nameOfPeer(id spiffeid.ID) string {
	if id.IsZero() {
		return "unknown"
	}
	if parts := strings.Split(id.Path(), "/"); len(parts) == 5 && parts[1] == "ns" && parts[3] == "sa" {
		return parts[2] + "/" + parts[4]
	}
	return id.String()
}

// who is the pair of a request, and its direction.
func (m *Metrics) who(x *exchange) (pair, string) {
	own := Name(x.proxy.config.Workload)
	p, direction := pair{own, "unknown"}, "outbound"
	if x.to != nil {
		p.destination = x.to.name
	}
	if x.stream.Direction == stream.Inbound {
		p, direction = pair{nameOfPeer(x.stream.Peer), own}, "inbound"
	}
	m.mu.RLock()
	known, full := m.pairs[p], len(m.pairs) >= mostPairs
	m.mu.RUnlock()
	switch {
	case known:
	case full:
		return pair{"other", "other"}, direction
	default:
		m.mu.Lock()
		m.pairs[p] = true
		m.mu.Unlock()
	}
	return p, direction
}

func (m *Metrics) count(x *exchange) {
	if m == nil {
		return
	}
	p, direction := m.who(x)
	key := series{pair: p, inbound: x.stream.Direction == stream.Inbound, secure: x.security() == "mtls", code: x.code, grpc: x.grpcStatus}
	if n, err := strconv.Atoi(key.grpc); key.grpc != "" && (err != nil || n < 0 || n > 16 || itoa(n) != key.grpc) {
		key.grpc = "invalid" // a server may make up its own
	}
	if key.code != statusClientClosed && http.StatusText(key.code) == "" {
		key.code -= key.code % 100 // the same with codes of HTTP
	}
	m.mu.RLock()
	c := m.series[key]
	m.mu.RUnlock()
	if c == nil {
		c = &counters{
			requests: m.requests.WithLabelValues(direction, p.source, p.destination, itoa(key.code), key.grpc, x.security()),
			duration: m.duration.WithLabelValues(direction, p.source, p.destination),
			received: m.bytes.WithLabelValues(direction, p.source, p.destination, "server"),
			sent:     m.bytes.WithLabelValues(direction, p.source, p.destination, "client"),
		}
		m.mu.Lock()
		m.series[key] = c
		m.mu.Unlock()
	}
	c.requests.Inc()
	c.duration.Observe(time.Since(x.begin).Seconds())
	if x.received > 0 {
		c.received.Add(float64(x.received))
	}
	if x.sent > 0 {
		c.sent.Add(float64(x.sent))
	}
	if x.fault != nil && x.code != statusClientClosed {
		m.unserved.WithLabelValues(direction, p.source, p.destination, answerTo(x.fault).error).Inc()
	}
}

func (m *Metrics) retried(x *exchange) {
	if m != nil {
		p, direction := m.who(x)
		m.retries.WithLabelValues(direction, p.source, p.destination).Inc()
	}
}

func (m *Metrics) spent(x *exchange) {
	if m != nil {
		p, direction := m.who(x)
		m.exhausted.WithLabelValues(direction, p.source, p.destination).Inc()
	}
}

func (m *Metrics) circuit(x *exchange, to upstream.Circuit) {
	if m != nil {
		p, direction := m.who(x)
		m.circuits.WithLabelValues(direction, p.source, p.destination, to.String()).Inc()
	}
}

// account counts a request that has ended.
func (x *exchange) account() { x.proxy.config.Metrics.count(x) }
