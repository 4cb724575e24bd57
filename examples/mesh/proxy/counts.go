package proxy

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/podplumb/podplumb/examples/mesh/stream"
)

// Reasons for which connections are refused.
const (
	refusedPlaintext   = "plaintext"     // inbound: in clear, and the port is not permissive
	refusedIdentity    = "identity"      // no valid identity of the trust domain; outbound: not the expected one, or no connection
	refusedForbidden   = "forbidden"     // the identity is not allowed
	refusedDirect      = "direct"        // it was not captured, or would come back
	refusedUnknown     = "unknown"       // an address of the cluster that nobody is known to have
	refusedNoEndpoint  = "no-endpoint"   // the Service has no ready endpoint
	refusedUnreachable = "unreachable"   // no connection to the endpoint or the application
	refusedUnsupported = "unsupported"   // such as link-local addresses
	refusedShutdown    = "shutting-down" // the proxy ends
)

// Counts are what proxies count. Several proxies may share them.
type Counts struct {
	opened  *prometheus.CounterVec
	refused *prometheus.CounterVec
	bytes   *prometheus.CounterVec
	active  *prometheus.GaugeVec
}

// NewCounts registers the counters.
func NewCounts(with prometheus.Registerer) (*Counts, error) {
	c := &Counts{
		opened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mesh_connections_total", Help: "Connections that were served, by how they came or went (mtls, plaintext) and what was spoken.",
		}, []string{"pod", "direction", "security", "protocol"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mesh_connections_refused_total", Help: "Connections that were reset, by reason.",
		}, []string{"pod", "direction", "reason"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mesh_tcp_bytes_total", Help: "Bytes that passed in connections of no known protocol.",
		}, []string{"pod", "direction", "to"}),
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mesh_connections_active", Help: "Connections that are served now.",
		}, []string{"pod", "direction"}),
	}
	for _, collector := range []prometheus.Collector{c.opened, c.refused, c.bytes, c.active} {
		if err := with.Register(collector); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// count is Counts for one pod; it may be nil.
type count struct {
	*Counts
	pod string
}

func (c count) open(d stream.Direction, secure bool, p stream.Protocol) {
	if c.Counts == nil {
		return
	}
	security := "plaintext"
	if secure {
		security = "mtls"
	}
	c.opened.WithLabelValues(c.pod, d.String(), security, p.String()).Inc()
}

func (c count) refuse(d stream.Direction, reason string) {
	if c.Counts != nil {
		c.refused.WithLabelValues(c.pod, d.String(), reason).Inc()
	}
}

func (c count) passed(d stream.Direction, toServer, toClient int64) {
	if c.Counts != nil {
		c.bytes.WithLabelValues(c.pod, d.String(), "server").Add(float64(toServer))
		c.bytes.WithLabelValues(c.pod, d.String(), "client").Add(float64(toClient))
	}
}

func (c count) begin(d stream.Direction) (end func()) {
	if c.Counts == nil {
		return func() {}
	}
	g := c.active.WithLabelValues(c.pod, d.String())
	g.Inc()
	return g.Dec
}
