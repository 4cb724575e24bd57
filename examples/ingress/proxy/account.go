package proxy

import (
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
)

// Metrics count what a Proxy does.
type Metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	limited  *prometheus.CounterVec
	underWay prometheus.Gauge
}

// NewMetrics registers the counters.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "podplumb_ingress_requests_total",
			Help: "Requests, by the rule that led them, the backend that it chose and the status code. 499 is a client that went away.",
		}, []string{"route", "namespace", "service", "port", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "podplumb_ingress_request_duration_seconds",
			Help:    "Time from the headers of a request to the end of its response, by the rule and the backend.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"route", "namespace", "service", "port"}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "podplumb_ingress_limited_total",
			Help: "Requests that were too many, by the rule and by whose limit it was: that of all clients together or of each.",
		}, []string{"route", "limit"}),
		underWay: prometheus.NewGauge(prometheus.GaugeOpts{Name: "podplumb_ingress_requests_under_way", Help: "Requests that have no whole response yet."}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.limited, m.underWay} {
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
	b, rule := on.backend, on.origin()
	m.requests.WithLabelValues(rule, b.Namespace, b.Service, b.Port, codeLabel(code)).Inc()
	if code == http.StatusSwitchingProtocols {
		return // it lasts as long as its client likes
	}
	m.duration.WithLabelValues(rule, b.Namespace, b.Service, b.Port).Observe(took.Seconds())
}

// codeLabel is the code, but for those that HTTP does not have: a backend could make up as many as it likes.
func codeLabel(code int) string {
	if code < 100 || code > 599 {
		return "other"
	}
	return strconv.Itoa(code)
}

func (p *Proxy) log(on *passage, r *http.Request, code int, written int64, took time.Duration) {
	if p.access == nil {
		return
	}
	attributes := []slog.Attr{
		slog.String("id", on.id), slog.String("client", r.RemoteAddr), slog.String("method", r.Method), slog.String("host", r.Host), slog.String("path", r.URL.Path),
		slog.String("proto", r.Proto), slog.Int("status", code), slog.Int64("bytes", written), slog.Duration("took", took),
	}
	if rule := on.origin(); rule != "" {
		attributes = append(attributes, slog.String("rule", rule), slog.String("backend", on.backend.Namespace+"/"+on.backend.Service+":"+on.backend.Port))
	}
	if on.endpoint.IsValid() {
		attributes = append(attributes, slog.String("upstream", on.endpoint.String()), slog.Duration("upstreamTook", on.waited))
	}
	if s := trace.SpanContextFromContext(r.Context()); s.IsValid() {
		attributes = append(attributes, slog.String("trace", s.TraceID().String()))
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
