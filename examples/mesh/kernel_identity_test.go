package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"net/netip"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/mesh/identity"
)

// holder is an identity, and the roots that its holder trusts.
type holder struct {
	*x509svid.SVID
	*x509bundle.Bundle
}

func (h holder) GetX509SVID() (*x509svid.SVID, error) { return h.SVID, nil }

func hold(t testing.TB, ca *identity.CA, id string, trusts *identity.CA) holder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	chain, err := ca.Issue(t.Context(), spiffeid.RequireFromString(id), key.Public())
	require.NoError(t, err)
	bundle, _ := trusts.Bundle()
	return holder{&x509svid.SVID{ID: spiffeid.RequireFromString(id), Certificates: chain, PrivateKey: key}, bundle}
}

// Clients that are not of the mesh's own making: they reach a pod if they prove
// an identity that may, and else not.
func TestClients(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, m mode) {
		b := newBed(t, m, "web@a", "db@b", "other@a", "-legacy@b")
		b.annotate("db", "allow", "ns/shop/sa/web, ns/batch/sa/*")
		b.annotate("db", "allow.8090", "spiffe://cluster.local/ns/shop/sa/other")
		b.echo("db", ":8080")
		b.echo("db", ":8090")
		b.enrol()
		b.listened("web", "db", 8080)
		b.listened("web", "db", 8090)
		evil, err := identity.OpenCA(identity.Config{TrustDomain: spiffeid.RequireTrustDomainFromString("evil.local")})
		require.NoError(t, err)
		twin, err := identity.OpenCA(identity.Config{TrustDomain: domain})
		require.NoError(t, err)
		db := spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/db")
		stock := func(me holder) *tls.Config {
			return tlsconfig.MTLSClientConfig(me, me.Bundle, tlsconfig.AuthorizeID(db))
		}
		for family, f := range families {
			dial := func(c *tls.Config, port uint16) error {
				conn, err := b.dial("legacy", b.at("db", f, port))
				require.NoError(t, err)
				s := tls.Client(conn, c)
				defer s.Close()
				_ = s.SetDeadline(time.Now().Add(10 * time.Second))
				if err := s.HandshakeContext(t.Context()); err != nil {
					return err
				}
				_, err = says(s, secret)
				return err
			}
			// A stock client of go-spiffe, which knows nothing of the mesh.
			require.NoError(t, dial(stock(hold(t, b.ca, "spiffe://cluster.local/ns/shop/sa/web", b.ca)), 8080), family)
			require.NoError(t, dial(stock(hold(t, b.ca, "spiffe://cluster.local/ns/batch/sa/job", b.ca)), 8080), family)
			// The wrong identity, trust domain, root; none at all; in clear.
			require.Error(t, dial(stock(hold(t, b.ca, "spiffe://cluster.local/ns/shop/sa/other", b.ca)), 8080), family)
			require.NoError(t, dial(stock(hold(t, b.ca, "spiffe://cluster.local/ns/shop/sa/other", b.ca)), 8090), family)
			require.Error(t, dial(stock(hold(t, b.ca, "spiffe://cluster.local/ns/shop/sa/web", b.ca)), 8090), family)
			require.Error(t, dial(stock(hold(t, evil, "spiffe://evil.local/ns/shop/sa/web", b.ca)), 8080), family)
			require.Error(t, dial(stock(hold(t, twin, "spiffe://cluster.local/ns/shop/sa/web", b.ca)), 8080), family)
			bundle, _ := b.ca.Bundle()
			require.Error(t, dial(tlsconfig.TLSClientConfig(bundle, tlsconfig.AuthorizeID(db)), 8080), family)
			require.Error(t, dial(&tls.Config{InsecureSkipVerify: true}, 8080), family) //nolint:gosec // nobody is to be trusted
			b.fails("legacy", b.at("db", f, 8080))

			// The same between pods of the mesh.
			b.reaches("web", b.at("db", f, 8080), secret)
			b.fails("other", b.at("db", f, 8080))
			b.reaches("other", b.at("db", f, 8090), secret)
			b.fails("web", b.at("db", f, 8090))
		}
		if m == nodeMode {
			require.Equal(t, 8.0, b.counted("mesh_connections_refused_total", "shop/db", "inbound", "identity"))
			require.Equal(t, 2.0, b.counted("mesh_connections_refused_total", "shop/db", "inbound", "plaintext"))
			require.GreaterOrEqual(t, b.counted("mesh_connections_refused_total", "shop/db", "inbound", "forbidden"), 8.0)
		}
	})
}

// A server that is not who the cluster says it is gets nothing to read.
func TestImpostor(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, m mode) {
		b := newBed(t, m, "web@a", "db@b")
		for i, o := range b.objects { // no agent looks after it
			if p, ok := o.(*corev1.Pod); ok && p.Name == "db" {
				p = p.DeepCopy()
				p.Spec.NodeName = "elsewhere"
				b.objects[i] = p
			}
		}
		b.enrol()
		wire := b.tap()
		other := hold(t, b.ca, "spiffe://cluster.local/ns/shop/sa/other", b.ca)
		twin, err := identity.OpenCA(identity.Config{TrustDomain: domain})
		require.NoError(t, err)
		for i, c := range []*tls.Config{
			tlsconfig.MTLSServerConfig(other, other.Bundle, tlsconfig.AuthorizeAny()),
			func() *tls.Config {
				forged := hold(t, twin, "spiffe://cluster.local/ns/shop/sa/db", b.ca)
				return tlsconfig.MTLSServerConfig(forged, forged.Bundle, tlsconfig.AuthorizeAny())
			}(),
			func() *tls.Config { // the right one, but no proxy: the application itself
				db := hold(t, b.ca, "spiffe://cluster.local/ns/shop/sa/db", b.ca)
				return tlsconfig.MTLSServerConfig(db, db.Bundle, tlsconfig.AuthorizeAny())
			}(),
		} {
			if i < 2 {
				c.NextProtos = []string{"podplumb-tcp"}
			}
			port := uint16(8080 + i)
			l, err := b.net.Pod("db").NS.Listen(t.Context(), "tcp", netip.AddrPortFrom(netip.IPv6Unspecified(), port).String())
			require.NoError(t, err)
			serveEcho(tls.NewListener(l, c))
			defer l.Close()
			for _, f := range families {
				b.fails("web", b.at("db", f, port))
			}
		}
		// In clear it gets nothing either.
		b.echo("db", ":8090")
		for _, f := range families {
			b.fails("web", b.at("db", f, 8090))
		}
		wire.Settle()
		require.Zero(t, wire.Saw("hello"))
		if m == nodeMode {
			require.Equal(t, 8.0, b.counted("mesh_connections_refused_total", "shop/web", "outbound", "identity"))
		}
	})
}

// A permissive port takes both, and counts what came in clear; others do not.
func TestPermissive(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, m mode) {
		b := newBed(t, m, "web@a", "db@b", "-legacy@a")
		b.annotate("db", "permissive", "8080")
		b.echo("db", ":8080")
		b.echo("db", ":8081")
		// An application's own TLS is not the mesh's.
		own := hold(t, newCA(t), "spiffe://cluster.local/ns/shop/sa/db", newCA(t))
		b.annotate("db", "permissive", "8080,8443")
		l, err := b.net.Pod("db").NS.Listen(t.Context(), "tcp", ":8443")
		require.NoError(t, err)
		defer l.Close()
		serveEcho(tls.NewListener(l, tlsconfig.TLSServerConfig(own)))
		b.enrol()
		for _, port := range []uint16{8080, 8081, 8443} {
			b.listened("web", "db", port)
		}
		inClear := b.counted("mesh_connections_total", "shop/db", "inbound", "plaintext")
		for _, f := range families {
			began := time.Now()
			b.reaches("legacy", b.at("db", f, 8080), "in clear") // the server speaks first
			require.Less(t, time.Since(began), 500*time.Millisecond)
			b.reaches("web", b.at("db", f, 8080), secret)
			b.fails("legacy", b.at("db", f, 8081))
			b.reaches("web", b.at("db", f, 8081), secret)
			for _, from := range []string{"legacy", "web"} {
				c, err := b.dial(from, b.at("db", f, 8443))
				require.NoError(t, err)
				s := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // whose it is does not matter here
				_, err = says(s, "the application's own secret")
				require.NoError(t, err, from)
				_ = s.Close()
			}
		}
		if m == nodeMode {
			kerneltest.Eventually(t, "plaintext is counted", func() bool {
				return b.counted("mesh_connections_total", "shop/db", "inbound", "plaintext") == inClear+4
			})
		}
	})
}

func newCA(t testing.TB) *identity.CA {
	t.Helper()
	ca, err := identity.OpenCA(identity.Config{TrustDomain: domain})
	require.NoError(t, err)
	return ca
}
