package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/mesh/identity"
)

var (
	domain = spiffeid.RequireTrustDomainFromString("cluster.local")
	web    = spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/web")
)

func open(t *testing.T, c identity.Config) *identity.CA {
	t.Helper()
	c.TrustDomain = domain
	ca, err := identity.OpenCA(c)
	require.NoError(t, err)
	return ca
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func issued(t *testing.T, ca *identity.CA) []*x509.Certificate {
	t.Helper()
	chain, err := ca.Issue(t.Context(), web, newKey(t).Public())
	require.NoError(t, err)
	return chain
}

func trusts(t *testing.T, ca *identity.CA, chain []*x509.Certificate) error {
	t.Helper()
	bundle, _ := ca.Bundle()
	id, _, err := x509svid.Verify(chain, bundle)
	if err == nil {
		require.Equal(t, web, id)
	}
	return err
}

func TestIDOf(t *testing.T) {
	t.Parallel()
	id, err := identity.IDOf(domain, "shop", "web")
	require.NoError(t, err)
	require.Equal(t, web, id)
	id, err = identity.IDOf(domain, "shop", "")
	require.NoError(t, err)
	require.Equal(t, "spiffe://cluster.local/ns/shop/sa/default", id.String())
	_, err = identity.IDOf(domain, "a/b", "")
	require.Error(t, err)
}

func TestIssue(t *testing.T) {
	t.Parallel()
	ca := open(t, identity.Config{Leaf: 10 * time.Minute})
	chain := issued(t, ca)
	require.NoError(t, trusts(t, ca, chain))
	leaf := chain[0]
	require.InDelta(t, 10*time.Minute, time.Until(leaf.NotAfter), float64(5*time.Second))
	require.Equal(t, x509.KeyUsageDigitalSignature, leaf.KeyUsage)
	require.ElementsMatch(t, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, leaf.ExtKeyUsage)
	require.False(t, leaf.IsCA)

	other := open(t, identity.Config{})
	require.Error(t, trusts(t, other, chain), "another CA of the same trust domain")

	_, err := ca.Issue(t.Context(), spiffeid.RequireFromString("spiffe://elsewhere/ns/shop/sa/web"), newKey(t).Public())
	require.EqualError(t, err, "identity: issue spiffe://elsewhere/ns/shop/sa/web: the trust domain is cluster.local")
	_, err = ca.Issue(t.Context(), domain.ID(), newKey(t).Public())
	require.Error(t, err)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	_, err = ca.Issue(t.Context(), web, weak.Public())
	require.ErrorContains(t, err, "1024 bits is too short")
	_, err = ca.Issue(t.Context(), web, "key")
	require.ErrorContains(t, err, "a key of type string")
}

func TestOpenFaults(t *testing.T) {
	t.Parallel()
	_, err := identity.OpenCA(identity.Config{})
	require.ErrorContains(t, err, "a trust domain is required")
	_, err = identity.OpenCA(identity.Config{TrustDomain: domain, Root: time.Hour, Leaf: time.Hour})
	require.ErrorContains(t, err, "cannot be replaced")

	file := filepath.Join(t.TempDir(), "ca.json")
	open(t, identity.Config{File: file})
	_, err = identity.OpenCA(identity.Config{TrustDomain: spiffeid.RequireTrustDomainFromString("other"), File: file})
	require.ErrorContains(t, err, `ca.json: trustDomain: it is of "cluster.local", not of "other"`)
	require.NoError(t, os.Chmod(file, 0o640))
	_, err = identity.OpenCA(identity.Config{TrustDomain: domain, File: file})
	require.ErrorContains(t, err, "others can read the keys")
	require.NoError(t, os.Chmod(file, 0o600))

	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var c map[string]any
	require.NoError(t, json.Unmarshal(text, &c))
	one := c["roots"].([]any)[0]
	c["roots"] = []any{map[string]string{"certificate": "no"}, one, map[string]any{"certificate": one.(map[string]any)["certificate"], "key": "no"}}
	text, err = json.Marshal(c)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))
	_, err = identity.OpenCA(identity.Config{TrustDomain: domain, File: file})
	require.ErrorContains(t, err, "roots[0].certificate: is no PEM certificate")
	require.ErrorContains(t, err, "roots[2].key: is no PEM private key")
}

// The keys outlive the process, and nobody else can read them.
func TestFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ca.json")
	chain := issued(t, open(t, identity.Config{File: file}))
	require.NoError(t, trusts(t, open(t, identity.Config{File: file}), chain))
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	names, err := os.ReadDir(filepath.Dir(file))
	require.NoError(t, err)
	require.Len(t, names, 2, "the file and its lock, %v", names)
}

// Many processes that make the same CA at a time make one.
func TestFileOfMany(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "ca.json")
	var all sync.WaitGroup
	cas := make([]*identity.CA, 8)
	for i := range cas {
		all.Go(func() { cas[i] = open(t, identity.Config{File: file}) })
	}
	all.Wait()
	for _, ca := range cas {
		require.NoError(t, trusts(t, cas[0], issued(t, ca)))
	}
}

// While a root is replaced, everybody trusts what anybody else has, at any
// time, also in another process; and at last the old one is gone.
func TestRotate(t *testing.T) {
	t.Parallel()
	c := identity.Config{File: filepath.Join(t.TempDir(), "ca.json"), Leaf: 1500 * time.Millisecond, Spread: 500 * time.Millisecond, Root: time.Hour}
	mine, theirs := open(t, c), open(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait() // they write into the folder
	defer cancel()
	for _, ca := range []*identity.CA{mine, theirs} {
		running.Go(func() { _ = ca.Run(ctx, func(err error) { t.Error(err) }) })
	}
	first, changed := theirs.Bundle()
	old := issued(t, mine)
	require.NoError(t, mine.Rotate())
	require.NoError(t, mine.Rotate(), "one at a time")
	<-changed
	both, changed := theirs.Bundle()
	require.Len(t, both.X509Authorities(), 2)
	require.Equal(t, first.X509Authorities()[0], both.X509Authorities()[0])
	signers := map[string]bool{}
	for gone := false; !gone; {
		for _, ca := range []*identity.CA{mine, theirs} {
			leaf := issued(t, ca)
			signers[string(leaf[0].AuthorityKeyId)] = true
			for _, verifier := range []*identity.CA{mine, theirs} {
				require.NoError(t, trusts(t, verifier, leaf))
			}
		}
		select {
		case <-changed:
			gone = true
		case <-time.After(10 * time.Millisecond):
			if time.Now().After(old[0].NotAfter.Add(40 * time.Second)) {
				t.Fatal("the old root stays")
			}
			if time.Since(old[0].NotBefore) > 4*time.Second { // its certificates have expired; the rest of the wait is for clocks that are apart
				gone = true
			}
		}
	}
	require.Len(t, signers, 2)
	require.Error(t, trusts(t, theirs, old), "it has expired")
}

func TestKeep(t *testing.T) {
	t.Parallel()
	ca := open(t, identity.Config{Leaf: 800 * time.Millisecond, Spread: 200 * time.Millisecond, Root: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	keys := map[string]bool{}
	roots := 0
	err := identity.Keep(ctx, ca, web, func(svid *x509svid.SVID, bundle *x509bundle.Bundle) error {
		_, _, err := x509svid.Verify(svid.Certificates, bundle)
		require.NoError(t, err)
		keys[string(svid.Certificates[0].RawSubjectPublicKeyInfo)] = true
		roots = max(roots, len(bundle.X509Authorities()))
		if len(keys) == 2 && roots == 1 {
			require.NoError(t, ca.Rotate())
		}
		if len(keys) == 5 {
			cancel()
		}
		return nil
	}, func(err error) { t.Error(err) })
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 2, roots)

	err = identity.Keep(t.Context(), ca, spiffeid.RequireFromString("spiffe://other/x"), nil, nil)
	require.ErrorContains(t, err, "the trust domain is")
}
