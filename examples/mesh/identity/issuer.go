package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Issuer signs identities. Its methods may be called from several goroutines
// at once.
type Issuer interface {
	// Issue certifies that the holder of the key is id. The first certificate
	// is the leaf, the others lead to a root of the Bundle, without it.
	Issue(ctx context.Context, id spiffeid.ID, key crypto.PublicKey) ([]*x509.Certificate, error)

	// Bundle returns the roots to trust now, and a channel that is closed when
	// there are others.
	Bundle() (*x509bundle.Bundle, <-chan struct{})
}

// IDOf is the identity of a Kubernetes service account:
// spiffe://TRUSTDOMAIN/ns/NAMESPACE/sa/NAME. An empty name is "default".
func IDOf(domain spiffeid.TrustDomain, namespace, name string) (spiffeid.ID, error) {
	if name == "" {
		name = "default"
	}
	return spiffeid.FromSegments(domain, "ns", namespace, "sa", name)
}

// retry is how long Keep waits after a failure, at first and at most.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 30 * time.Second
)

// Keep has an identity issued and hands it to use, together with the roots to
// trust, at once and whenever either is new. The identity is renewed at half of
// its lifetime, with a new key. Keep returns when ctx ends, when use fails, or
// when the very first identity is refused; later failures are told to failed,
// and tried again.
func Keep(ctx context.Context, from Issuer, id spiffeid.ID, use func(*x509svid.SVID, *x509bundle.Bundle) error, failed func(error)) error {
	svid, err := issue(ctx, from, id)
	if err != nil {
		return err
	}
	wait := retryFirst
	renew := time.NewTimer(time.Until(halfLife(svid)))
	defer renew.Stop()
	for {
		bundle, changed := from.Bundle()
		if err := use(svid, bundle); err != nil {
			return err
		}
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
				again = true
			case <-renew.C:
				next, err := issue(ctx, from, id)
				if err != nil {
					failed(err)
					renew.Reset(wait)
					wait = min(2*wait, retryMost)
					continue
				}
				svid, wait, again = next, retryFirst, true
				renew.Reset(time.Until(halfLife(svid)))
			}
		}
	}
}

func issue(ctx context.Context, from Issuer, id spiffeid.ID) (*x509svid.SVID, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	certificates, err := from.Issue(ctx, id, key.Public())
	if err != nil {
		return nil, err
	}
	return &x509svid.SVID{ID: id, Certificates: certificates, PrivateKey: key}, nil
}

func halfLife(svid *x509svid.SVID) time.Time {
	leaf := svid.Certificates[0]
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 2)
}
