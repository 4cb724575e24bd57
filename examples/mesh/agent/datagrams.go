package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/podplumb/podplumb/examples/mesh/capture"
)

var datagrams = prometheus.NewDesc("mesh_udp_datagrams_total", "UDP datagrams of the pod, which pass the mesh by.", []string{"pod", "direction"}, nil)

// Describe implements prometheus.Collector.
func (a *Agent) Describe(to chan<- *prometheus.Desc) { to <- datagrams }

// Collect implements prometheus.Collector: the kernel has the numbers.
func (a *Agent) Collect(to chan<- prometheus.Metric) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for pod, ns := range a.ready {
		d, err := capture.CountDatagrams(ns)
		if err != nil {
			continue // the pod is gone
		}
		to <- prometheus.MustNewConstMetric(datagrams, prometheus.CounterValue, float64(d.In), pod, "inbound")
		to <- prometheus.MustNewConstMetric(datagrams, prometheus.CounterValue, float64(d.Out), pod, "outbound")
	}
}
