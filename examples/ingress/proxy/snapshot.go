package proxy

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"strings"

	"github.com/podplumb/podplumb/examples/ingress/gateway"
	"github.com/podplumb/podplumb/examples/ingress/route"
	"github.com/podplumb/podplumb/examples/ingress/upstream"
)

// Snapshot is all that a proxy knows at one moment.
type Snapshot struct {
	Routes       *route.Table
	Endpoints    *upstream.Set
	Certificates Certificates
	Ports        map[netip.AddrPort]*gateway.Port // of Gateways
}

// Certificates are looked up by the name that a client asks for (SNI, RFC 6066).
type Certificates struct {
	exact    map[string]*tls.Certificate
	wildcard map[string]*tls.Certificate
	fallback *tls.Certificate
}

var errNoCertificate = errors.New("no certificate for that name")

// NewCertificates makes an index of certificates by host: a name, *.name, or empty for any other.
func NewCertificates(byHost map[string]*tls.Certificate) Certificates {
	c := Certificates{exact: map[string]*tls.Certificate{}, wildcard: map[string]*tls.Certificate{}, fallback: byHost[""]}
	for host, certificate := range byHost {
		host = strings.ToLower(host)
		if below, ok := strings.CutPrefix(host, "*."); ok {
			c.wildcard[below] = certificate
		} else if host != "" {
			c.exact[host] = certificate
		}
	}
	return c
}

// Find returns the certificate for a name.
func (c Certificates) Find(name string) (*tls.Certificate, error) {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if certificate := c.exact[name]; certificate != nil {
		return certificate, nil
	}
	if _, below, ok := strings.Cut(name, "."); ok && c.wildcard[below] != nil {
		return c.wildcard[below], nil
	}
	if c.fallback == nil {
		return nil, errNoCertificate
	}
	return c.fallback, nil
}
