package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/podplumb/podplumb/examples/dns/records"
)

// Config says what a Server answers, and from where.
type Config struct {
	// Store holds the cluster's names. It may be filled before or while the Server runs.
	Store *records.Store

	// Zone is the cluster's domain. Default cluster.local.
	Zone string

	// Listeners and Packets are the sockets to serve, TCP and UDP; the Server closes them. One of each at least.
	Listeners []net.Listener
	Packets   []net.PacketConn

	// Addresses are those under which clients know the server, the cluster IPs of its Service usually: ns.dns.<zone>
	// has them. Default: those of the sockets that are bound to one.
	Addresses []netip.Addr

	// Reverse are the ranges of the cluster's Services and pods: their addresses without a name do not exist (NXDOMAIN).
	// Reverse questions about others go upstream.
	Reverse []netip.Prefix

	// Upstream servers answer for all other names, one drawn at random; one that fails is left out until it answers
	// again. They are asked from the network namespace of the process. Without any, other names do not exist.
	Upstream []netip.AddrPort

	// Pods makes names of pods' addresses, 10-244-0-7.<namespace>.pod.<zone>, answer with the address if the
	// namespace is known, as CoreDNS's "pods insecure" does. Default: they do not exist.
	Pods bool

	// ID is what the server calls itself when asked for id.server or hostname.bind in class CHAOS (RFC 4892). Default: it
	// refuses to tell.
	ID string

	// TTL of answers, positive and negative (RFC 2308). Default 5 s; at most an hour.
	TTL time.Duration

	// Metrics has the Server's counters registered. Default: none.
	Metrics prometheus.Registerer
}

// check fills in the defaults and names every fault.
func (c *Config) check() error {
	var faults []error
	fault := func(field, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if c.Store == nil {
		fault("store", "is missing")
	}
	if c.Zone == "" {
		c.Zone = "cluster.local"
	}
	c.Zone = dns.CanonicalName(c.Zone)
	if _, ok := dns.IsDomainName(c.Zone); !ok || c.Zone == "." {
		fault("zone", "%q is not a domain name", c.Zone)
	}
	if len(c.Listeners) == 0 || len(c.Packets) == 0 {
		fault("listeners, packets", "one TCP and one UDP socket at least (have %d and %d)", len(c.Listeners), len(c.Packets))
	}
	for i, a := range c.Addresses {
		if !a.IsValid() || a.IsUnspecified() {
			fault(fmt.Sprintf("addresses[%d]", i), "%s is no address of a server", a)
		}
	}
	for i, p := range c.Reverse {
		if !p.IsValid() || p != p.Masked() {
			fault(fmt.Sprintf("reverse[%d]", i), "%s is not a range (did you mean %s?)", p, p.Masked())
		}
	}
	for i, u := range c.Upstream {
		if !u.IsValid() || u.Port() == 0 || u.Addr().IsUnspecified() {
			fault(fmt.Sprintf("upstream[%d]", i), "%s is no address and port of a server", u)
		}
	}
	switch {
	case c.TTL == 0:
		c.TTL = 5 * time.Second
	case c.TTL < 0 || c.TTL > time.Hour || c.TTL%time.Second != 0:
		fault("ttl", "%s is not a number of seconds up to an hour", c.TTL)
	}
	if len(c.Addresses) == 0 {
		for _, p := range c.Packets {
			if a, err := netip.ParseAddrPort(p.LocalAddr().String()); err == nil && !a.Addr().IsUnspecified() {
				c.Addresses = append(c.Addresses, a.Addr().Unmap().WithZone(""))
			}
		}
	}
	return errors.Join(faults...)
}

func (c *Config) close() {
	for _, l := range c.Listeners {
		_ = l.Close()
	}
	for _, p := range c.Packets {
		_ = p.Close()
	}
}
