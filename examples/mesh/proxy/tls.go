package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/podplumb/podplumb/examples/mesh/stream"
)

// Identity is where a proxy has its own identity and the roots to trust from:
// a *workloadapi.X509Source of go-spiffe.
type Identity interface {
	x509svid.Source
	x509bundle.Source
}

// The names by which proxies tell each other what is inside (ALPN, RFC 7301).
// Others may speak HTTP under its own names.
const (
	alpnTCP   = "podplumb-tcp"
	alpnHTTP1 = "podplumb-http/1.1"
	alpnHTTP2 = "podplumb-h2"
)

var (
	inside = map[string]stream.Protocol{
		alpnTCP: stream.TCP, alpnHTTP1: stream.HTTP1, alpnHTTP2: stream.HTTP2, "http/1.1": stream.HTTP1, "h2": stream.HTTP2,
	}
	served = []string{alpnTCP, alpnHTTP1, alpnHTTP2, "h2", "http/1.1"}
)

func alpnOf(p stream.Protocol) string {
	switch p {
	case stream.HTTP1:
		return alpnHTTP1
	case stream.HTTP2:
		return alpnHTTP2
	}
	return alpnTCP
}

func isOurs(name string) bool { return name == alpnTCP || name == alpnHTTP1 || name == alpnHTTP2 }

// serverConfig verifies clients against the roots that are known at the moment
// of each handshake. Sessions are not resumed, as that would skip it.
func serverConfig(me Identity) *tls.Config {
	c := tlsconfig.MTLSServerConfig(me, me, tlsconfig.AuthorizeAny())
	c.MinVersion = tls.VersionTLS13
	c.SessionTicketsDisabled = true
	plain := c.Clone()
	c.NextProtos = served
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if !slices.ContainsFunc(hello.SupportedProtos, func(p string) bool { return slices.Contains(served, p) }) {
			return plain, nil // what it wants inside is its own business
		}
		return nil, nil
	}
	return c
}

// clientConfig is for a connection to a peer that has to prove who it is. Its
// identity is one of the cluster's, so it is only accepted of its own trust
// domain's roots.
func clientConfig(me Identity, peer spiffeid.ID, p stream.Protocol) *tls.Config {
	c := tlsconfig.MTLSClientConfig(me, me, tlsconfig.AuthorizeID(peer))
	c.MinVersion = tls.VersionTLS13
	c.NextProtos = []string{alpnOf(p)}
	return c
}

// verified is the identity of the client of a connection whose handshake is
// over.
func verified(c *tls.Conn) (spiffeid.ID, error) {
	peers := c.ConnectionState().PeerCertificates
	if len(peers) == 0 {
		return spiffeid.ID{}, errors.New("no certificate")
	}
	return x509svid.IDFromCert(peers[0])
}

// secure makes mutual TLS of a connection.
func secure(ctx context.Context, c net.Conn, me Identity, peer spiffeid.ID, p stream.Protocol) (net.Conn, error) {
	t := tls.Client(c, clientConfig(me, peer, p))
	if err := t.HandshakeContext(ctx); err != nil {
		reset(c)
		return nil, err
	}
	if got := t.ConnectionState().NegotiatedProtocol; got != alpnOf(p) {
		reset(c)
		return nil, fmt.Errorf("it is no proxy of the mesh: it speaks %q", got)
	}
	return t, nil
}

// errHello ends a handshake that was only looked at.
type errHello struct{}

func (errHello) Error() string { return "looked at" }

// forMesh says whether a client's first TLS message asks for what a proxy of
// the mesh serves. The bytes that it took are returned too.
func forMesh(c net.Conn) (bool, []byte) {
	tap := &tapped{Conn: c}
	ours := false
	_ = tls.Server(tap, &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		ours = slices.ContainsFunc(hello.SupportedProtos, isOurs)
		return nil, errHello{}
	}}).Handshake()
	return ours, tap.read
}

// tapped remembers what was read, and says nothing.
type tapped struct {
	net.Conn
	read []byte
}

func (t *tapped) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.read = append(t.read, p[:n]...)
	return n, err
}

func (t *tapped) Write(p []byte) (int, error) { return len(p), nil }
