package main

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics has kube-proxy's names where they mean the same, so that dashboards and alerts go on working.
type metrics struct {
	registry *prometheus.Registry

	duration    prometheus.Histogram
	programming prometheus.Histogram
	last        prometheus.Gauge
	services    prometheus.Counter
	endpoints   prometheus.Counter
	healthz     *prometheus.CounterVec
	livez       *prometheus.CounterVec

	failures prometheus.Counter
	repairs  prometheus.Counter
	refused  prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubeproxy_sync_proxy_rules_duration_seconds", Help: "Time that a change of the kernel took.",
			Buckets: prometheus.ExponentialBuckets(0.00005, 2, 20), // 50 us to 26 s
		}),
		programming: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubeproxy_network_programming_duration_seconds",
			Help: "Time from the change of an endpoint, as the API server's side has noted it, to the kernel that follows it.",
			Buckets: append(append(prometheus.ExponentialBuckets(0.001, 2, 8), prometheus.LinearBuckets(0.25, 0.25, 4)...),
				2, 3, 5, 8, 12, 20, 30, 45, 60, 90, 120, 180, 240, 300),
		}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "kubeproxy_sync_proxy_rules_last_timestamp_seconds", Help: "When the kernel was last known to be up to date.",
		}),
		services: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubeproxy_sync_proxy_rules_service_changes_total", Help: "Services that changed.",
		}),
		endpoints: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubeproxy_sync_proxy_rules_endpoint_changes_total", Help: "EndpointSlices that changed.",
		}),
		healthz:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubeproxy_proxy_healthz_total", Help: "Answers on /healthz by status."}, []string{"code"}),
		livez:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kubeproxy_proxy_livez_total", Help: "Answers on /livez by status."}, []string{"code"}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "podplumb_serviceproxy_failures_total", Help: "Attempts to change the kernel that failed and are tried again."}),
		repairs:  prometheus.NewCounter(prometheus.CounterOpts{Name: "podplumb_serviceproxy_repairs_total", Help: "Changes by others that were undone."}),
		refused:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "podplumb_serviceproxy_refused_objects", Help: "Objects that are faulty, in conflict with others, or not served by the backend."}),
	}
	m.registry.MustRegister(m.duration, m.programming, m.last, m.services, m.endpoints, m.healthz, m.livez, m.failures, m.repairs, m.refused,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// turn takes in what a turn of the engine was about.
func (m *metrics) turn(b *batch, took time.Duration, refused int) {
	m.services.Add(float64(len(b.services)))
	m.endpoints.Add(float64(len(b.slices)))
	m.refused.Set(float64(refused))
	m.duration.Observe(took.Seconds())
}

// upToDate says that the kernel follows all changes, the last of which were those of endpoints at these times.
func (m *metrics) upToDate(triggers []time.Time) {
	m.last.SetToCurrentTime()
	for _, t := range triggers {
		m.programming.Observe(max(0, time.Since(t).Seconds()))
	}
}

func (m *metrics) handler(mode string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/proxyMode", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(mode)) })
	return mux
}
