package main

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/podplumb/podplumb/service"
)

// count is how many connections an endpoint has got by one way.
type count struct {
	way         way
	endpoint    netip.AddrPort
	connections uint64
}

// way is an address and port of a Service; the unspecified address stands for the node's own.
type way struct {
	addr     netip.Addr
	port     uint16
	protocol service.Protocol
}

// connections tells Prometheus how many connections each endpoint of each Service has got. The kernel counts; it is asked
// when somebody wants to know.
type connections struct {
	log     *slog.Logger
	proxy   *service.Proxy
	backend backend
	desc    *prometheus.Desc
}

func newConnections(p *service.Proxy, b backend, log *slog.Logger) *connections {
	return &connections{log: log, proxy: p, backend: b, desc: prometheus.NewDesc("podplumb_service_connections_total",
		"Connections that were led to an endpoint of a Service.", []string{"namespace", "service", "port", "frontend", "endpoint"}, nil)}
}

// Describe is of prometheus.Collector.
func (c *connections) Describe(to chan<- *prometheus.Desc) { to <- c.desc }

// Collect is of prometheus.Collector.
func (c *connections) Collect(to chan<- prometheus.Metric) {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	counts, err := c.backend.counts(ctx)
	if err != nil {
		c.log.Error("connections cannot be counted", "err", err)
		to <- prometheus.NewInvalidMetric(c.desc, err)
		return
	}
	frontends := map[way]service.Frontend{}
	for _, f := range c.proxy.Frontends() {
		frontends[way{f.Addr, f.Port, f.Protocol}] = f
	}
	for _, n := range counts {
		if f, ok := frontends[n.way]; ok { // else it went a moment ago
			to <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(n.connections),
				f.Service.Namespace, f.Service.Name, f.PortName, f.Key.String(), n.endpoint.String())
		}
	}
}
