package proxy

import (
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what a Proxy does.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	underWay prometheus.Gauge
}

// NewMetrics registers the counters.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "podplumb_ingress_requests_total",
			Help: "Requests, by the backend that their rule names and the status code. 499 is a client that went away.",
		}, []string{"namespace", "service", "port", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "podplumb_ingress_request_duration_seconds",
			Help:    "Time from the first byte of a request to the last of its response, by the backend.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"namespace", "service", "port"}),
		underWay: prometheus.NewGauge(prometheus.GaugeOpts{Name: "podplumb_ingress_requests_under_way", Help: "Requests that have no whole response yet."}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.underWay} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) begin() (end func()) {
	if m == nil {
		return func() {}
	}
	m.underWay.Inc()
	return m.underWay.Dec
}

func (m *Metrics) end(on *passage, _ *http.Request, code int, took time.Duration) {
	if m == nil {
		return
	}
	b := on.backend
	m.requests.WithLabelValues(b.Namespace, b.Service, b.Port, strconv.Itoa(code)).Inc()
	m.duration.WithLabelValues(b.Namespace, b.Service, b.Port).Observe(took.Seconds())
}

func (p *Proxy) log(on *passage, r *http.Request, code int, written int64, took time.Duration) {
	if p.access == nil {
		return
	}
	attributes := []slog.Attr{
		slog.String("client", r.RemoteAddr), slog.String("method", r.Method), slog.String("host", r.Host), slog.String("path", r.URL.Path),
		slog.String("proto", r.Proto), slog.Int("status", code), slog.Int64("bytes", written), slog.Duration("took", took),
	}
	if rule := on.origin(); rule != "" {
		attributes = append(attributes, slog.String("rule", rule), slog.String("backend", on.backend.Namespace+"/"+on.backend.Service+":"+on.backend.Port))
	}
	if on.err != nil {
		attributes = append(attributes, slog.String("fault", on.err.Error()))
	}
	p.access.LogAttrs(r.Context(), slog.LevelInfo, "request", attributes...)
}

// origin is the object and the field that led the request.
func (on *passage) origin() string {
	switch {
	case on.attached != nil:
		return on.match.Origin
	case on.rule != nil:
		return on.rule.Origin
	}
	return ""
}
