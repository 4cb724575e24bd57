package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// root is a certificate that others trust.
type root struct {
	certificate *x509.Certificate
	key         crypto.Signer
	from        time.Time // it signs from then on, until another does
	until       time.Time // it is published until then; zero while it is the last
}

// state is the roots, the oldest first.
type state []root

// signs is the root that signs at a time: the newest whose turn has come.
func (s state) signs(now time.Time) (root, bool) {
	for _, r := range slices.Backward(s) {
		if !r.from.After(now) && now.Before(r.certificate.NotAfter) {
			return r, true
		}
	}
	return root{}, false
}

// next is what s becomes at a time; hurry replaces the root before it is old.
func (s state) next(now time.Time, c *Config, hurry bool) (state, error) {
	s = slices.Clone(s)
	s = slices.DeleteFunc(s, func(r root) bool {
		return !r.until.IsZero() && !now.Before(r.until) || !now.Before(r.certificate.NotAfter)
	})
	if len(s) == 0 {
		first, err := newRoot(now, now, c)
		return append(s, first), err
	}
	last := &s[len(s)-1]
	underWay := len(s) > 1 || last.from.After(now)
	old := now.After(last.certificate.NotBefore.Add(c.Root / 2))
	if !old && !hurry || underWay {
		return s, nil
	}
	r, err := newRoot(now, now.Add(c.Spread), c)
	if err != nil {
		return nil, err
	}
	last.until = r.from.Add(c.Leaf + backdated)
	return append(s, r), nil
}

func newRoot(now, from time.Time, c *Config) (root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return root{}, err
	}
	number := serial()
	template := &x509.Certificate{
		// Of two roots that are trusted at a time each has a name of its own.
		SerialNumber: number, Subject: pkix.Name{Organization: []string{"podplumb"}, SerialNumber: number.String()},
		URIs:      []*url.URL{c.TrustDomain.ID().URL()},
		NotBefore: now.Add(-min(backdated, c.Leaf/10)), NotAfter: now.Add(c.Root),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:     true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	certificate, err := sign(template, template, key.Public(), key)
	return root{certificate: certificate, key: key, from: from}, err
}

func (s state) bundle(domain spiffeid.TrustDomain) *x509bundle.Bundle {
	b := x509bundle.New(domain)
	for _, r := range s {
		b.AddX509Authority(r.certificate)
	}
	return b
}

func (s state) equal(o state) bool {
	return slices.EqualFunc(s, o, func(a, b root) bool {
		return a.certificate.Equal(b.certificate) && a.from.Equal(b.from) && a.until.Equal(b.until)
	})
}
