package identity

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// step brings the state to what it is to be now, together with other processes
// that use the file.
func (ca *CA) step(hurry bool) error {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if ca.config.File == "" {
		next, err := ca.state.next(time.Now(), &ca.config, hurry)
		if err == nil {
			ca.use(next)
		}
		return err
	}
	// Most of the time nothing is to be done, which needs no lock.
	if now, err := stampOf(ca.config.File); err == nil && now == ca.seen {
		if next, err := ca.state.next(time.Now(), &ca.config, hurry); err == nil && next.equal(ca.state) {
			return nil
		}
	}
	unlock, err := lock(ca.config.File + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	have, err := load(ca.config.File, ca.config.TrustDomain.Name())
	if err != nil {
		return err
	}
	next, err := have.next(time.Now(), &ca.config, hurry)
	if err != nil {
		return err
	}
	if !next.equal(have) {
		if err := store(ca.config.File, ca.config.TrustDomain.Name(), next); err != nil {
			return err
		}
	}
	if ca.seen, err = stampOf(ca.config.File); err != nil {
		return err
	}
	ca.use(next)
	return nil
}

// use makes the state known. ca.mu is held.
func (ca *CA) use(next state) {
	if ca.bundle != nil && next.equal(ca.state) {
		return
	}
	ca.state = next
	bundle := next.bundle(ca.config.TrustDomain)
	if ca.bundle != nil && bundle.Equal(ca.bundle) {
		return
	}
	ca.bundle = bundle
	close(ca.changed)
	ca.changed = make(chan struct{})
}

// stamp tells a file from the one that was there before; each is a new one.
type stamp struct {
	ino   uint64
	ctime unix.Timespec
}

func stampOf(path string) (stamp, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return stamp{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return stamp{st.Ino, st.Ctim}, nil
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

// content is what the file holds.
type content struct {
	TrustDomain string        `json:"trustDomain"`
	Roots       []contentRoot `json:"roots"`
}

type contentRoot struct {
	Certificate string    `json:"certificate"` // PEM
	Key         string    `json:"key"`         // PEM, PKCS #8
	From        time.Time `json:"signsFrom"`
	Until       time.Time `json:"publishedUntil,omitzero"`
}

func load(path, domain string) (state, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: its mode is %#o: others can read the keys (chmod 600)", path, info.Mode().Perm())
	}
	var c content
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if c.TrustDomain != domain {
		return nil, fmt.Errorf("%s: trustDomain: it is of %q, not of %q", path, c.TrustDomain, domain)
	}
	var s state
	var faults []error
	for i, r := range c.Roots {
		parsed, err := r.parse()
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: roots[%d].%w", path, i, err))
		}
		s = append(s, parsed)
	}
	return s, errors.Join(faults...)
}

func (r contentRoot) parse() (root, error) {
	block, _ := pem.Decode([]byte(r.Certificate))
	if block == nil || block.Type != "CERTIFICATE" {
		return root{}, errors.New("certificate: is no PEM certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return root{}, fmt.Errorf("certificate: %w", err)
	}
	if block, _ = pem.Decode([]byte(r.Key)); block == nil || block.Type != "PRIVATE KEY" {
		return root{}, errors.New("key: is no PEM private key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return root{}, fmt.Errorf("key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(certificate.PublicKey) {
		return root{}, errors.New("key: is not that of the certificate")
	}
	return root{certificate: certificate, key: key, from: r.From, until: r.Until}, nil
}

// store replaces the file: whoever reads sees the former one or the whole new
// one, also after a crash.
func store(path, domain string, s state) error {
	c := content{TrustDomain: domain}
	for _, r := range s {
		key, err := x509.MarshalPKCS8PrivateKey(r.key)
		if err != nil {
			return err
		}
		c.Roots = append(c.Roots, contentRoot{
			Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.certificate.Raw})),
			Key:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
			From:        r.from, Until: r.until,
		})
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
