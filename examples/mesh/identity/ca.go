package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Config says what a CA is.
type Config struct {
	// TrustDomain is what all identities begin with. It must be set.
	TrustDomain spiffeid.TrustDomain

	// File holds the roots and their keys, readable by its owner alone. Empty
	// means that they live as long as the CA.
	File string

	// Leaf is how long an identity is valid, up to the next full second; zero is
	// one hour.
	Leaf time.Duration

	// Root is how long a root is valid; zero is 90 days. It is replaced at
	// half of it, or when Rotate is called.
	Root time.Duration

	// Spread is how long a new root is published before it signs; zero is a
	// tenth of Leaf.
	Spread time.Duration
}

// backdated is how far clocks may be apart: an identity is valid from before
// it was issued.
const backdated = 30 * time.Second

// CA is a certificate authority.
type CA struct {
	config Config

	mu      sync.Mutex
	state   state
	seen    stamp // of the file, when it was read last
	bundle  *x509bundle.Bundle
	changed chan struct{}
}

var _ Issuer = (*CA)(nil)

// OpenCA opens the CA that the file holds, or makes a new one.
func OpenCA(config Config) (*CA, error) {
	if config.TrustDomain.IsZero() {
		return nil, errors.New("identity: open CA: a trust domain is required")
	}
	def := func(d *time.Duration, zero time.Duration) {
		if *d == 0 {
			*d = zero
		}
	}
	def(&config.Leaf, time.Hour)
	def(&config.Root, 90*24*time.Hour)
	def(&config.Spread, config.Leaf/10)
	if config.Leaf < 0 || config.Spread < 0 {
		return nil, fmt.Errorf("identity: open CA: leaf %v, spread %v: a time is negative", config.Leaf, config.Spread)
	}
	if config.Root < 2*(config.Leaf+config.Spread) {
		return nil, fmt.Errorf("identity: open CA: a root that is valid for %v cannot be replaced while leaves are valid for %v", config.Root, config.Leaf)
	}
	ca := &CA{config: config, changed: make(chan struct{})}
	if err := ca.step(false); err != nil {
		return nil, fmt.Errorf("identity: open CA: %w", err)
	}
	return ca, nil
}

// Run replaces roots when it is time, and follows what other processes do with
// the file, until ctx ends. Failures are told and tried again.
func (ca *CA) Run(ctx context.Context, failed func(error)) error {
	every := min(time.Second, ca.config.Leaf/20)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := ca.step(false); err != nil {
				failed(fmt.Errorf("identity: replace root: %w", err))
			}
		}
	}
}

// Rotate begins to replace the root now. Run takes the further steps. It does
// nothing while one is being replaced.
func (ca *CA) Rotate() error {
	if err := ca.step(true); err != nil {
		return fmt.Errorf("identity: rotate: %w", err)
	}
	return nil
}

// Bundle implements Issuer.
func (ca *CA) Bundle() (*x509bundle.Bundle, <-chan struct{}) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return ca.bundle, ca.changed
}

// Issue implements Issuer.
func (ca *CA) Issue(_ context.Context, id spiffeid.ID, key crypto.PublicKey) ([]*x509.Certificate, error) {
	fault := func(err error) ([]*x509.Certificate, error) {
		return nil, fmt.Errorf("identity: issue %s: %w", id, err)
	}
	switch {
	case id.TrustDomain() != ca.config.TrustDomain:
		return fault(fmt.Errorf("the trust domain is %s", ca.config.TrustDomain))
	case id.Path() == "":
		return fault(errors.New("a trust domain is no workload"))
	}
	if err := fit(key); err != nil {
		return fault(err)
	}
	ca.mu.Lock()
	root, ok := ca.state.signs(time.Now())
	ca.mu.Unlock()
	if !ok {
		return fault(errors.New("no root is valid"))
	}
	now := time.Now()
	leaf := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: []string{"podplumb"}},
		URIs:      []*url.URL{id.URL()},
		NotBefore: now.Add(-min(backdated, ca.config.Leaf/10)), NotAfter: earlier(whole(now.Add(ca.config.Leaf)), root.certificate.NotAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	signed, err := sign(leaf, root.certificate, key, root.key)
	if err != nil {
		return fault(err)
	}
	return []*x509.Certificate{signed}, nil
}

// fit says why a key is not one to certify.
func fit(key crypto.PublicKey) error {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		if bits := k.Curve.Params().BitSize; bits < 256 {
			return fmt.Errorf("an ECDSA key of %d bits is too short", bits)
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 2048 {
			return fmt.Errorf("an RSA key of %d bits is too short", bits)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("a key of type %T", key)
	}
	return nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func serial() *big.Int {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

// whole is the next full second, which is as exact as certificates are.
func whole(t time.Time) time.Time { return t.Add(time.Second - 1).Truncate(time.Second) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
