package server

import (
	"context"
	"strconv"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/rcode"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// counters is the plugin in front of the others that counts what they do.
type counters struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	next     plugin.Handler
}

func newCounters(registry prometheus.Registerer) (*counters, error) {
	c := &counters{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "podplumb_dns_requests_total",
			Help: "Questions, by the protocol they came over, their type and the response code.",
		}, []string{"proto", "type", "rcode"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "podplumb_dns_request_duration_seconds",
			Help:    "Time to answer a question, by the protocol it came over.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .005, .025, .1, .5, 2.5},
		}, []string{"proto"}),
	}
	for _, metric := range []prometheus.Collector{c.requests, c.duration} {
		if err := registry.Register(metric); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *counters) plugin(next plugin.Handler) plugin.Handler {
	own := *c
	own.next = next
	return &own
}

// Name implements plugin.Handler.
func (c *counters) Name() string { return "counters" }

// ServeDNS implements plugin.Handler.
func (c *counters) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	start := time.Now()
	seen := &seen{ResponseWriter: w, rcode: -1}
	code, err := c.next.ServeDNS(ctx, seen, r)
	if seen.rcode < 0 {
		seen.rcode = code // the server writes it after us
	}
	state := request.Request{W: w, Req: r}
	kind := "other"
	switch t := state.QType(); t {
	case dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeCNAME, dns.TypeNS, dns.TypeSOA, dns.TypeMX, dns.TypeHTTPS:
		kind = dns.Type(t).String()
	}
	result := rcode.ToString(seen.rcode)
	if _, known := dns.RcodeToString[seen.rcode]; !known {
		result = strconv.Itoa(seen.rcode)
	}
	c.requests.WithLabelValues(state.Proto(), kind, result).Inc()
	c.duration.WithLabelValues(state.Proto()).Observe(time.Since(start).Seconds())
	return code, err
}

// seen remembers the response code of what passes.
type seen struct {
	dns.ResponseWriter
	rcode int
}

// WriteMsg implements dns.ResponseWriter.
func (s *seen) WriteMsg(m *dns.Msg) error {
	s.rcode = m.Rcode
	return s.ResponseWriter.WriteMsg(m)
}
