package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/podplumb/podplumb/examples/mesh/identity"
)

// The addresses of Services in shop.yaml, and a number that should not be read on the wire.
var (
	orderAddrs  = [2]netip.AddrPort{netip.MustParseAddrPort("10.96.0.10:80"), netip.MustParseAddrPort("[fd00:10:96::a]:80")}
	ledgerAddrs = [2]netip.AddrPort{netip.MustParseAddrPort("10.96.0.14:80"), netip.MustParseAddrPort("[fd00:10:96::e]:80")}
)

const card = "4556-7375-8689-9855"

// get asks from inside a pod.
func (d *demo) get(ctx context.Context, pod string, to netip.AddrPort, path string, header http.Header) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	transport := &http.Transport{DialContext: d.net.Pod(pod).NS.DialContext, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s%s", to, path), nil)
	if err != nil {
		return "", err
	}
	if header != nil {
		r.Header = header
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, bytes.TrimSpace(said))
	}
	return string(said), err
}

// why is an error's last cause, in few words.
func why(err error) string {
	for _, known := range []error{syscall.ECONNRESET, syscall.ECONNREFUSED} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return err.Error()
}

// excerpt is the request line that holds a text, out of the frames that were seen.
func excerpt(frames [][]byte, text string) string {
	for _, f := range frames {
		if i := bytes.Index(f, []byte(text)); i >= 0 {
			begin := max(0, bytes.LastIndex(f[:i], []byte("GET ")))
			line, _, _ := bytes.Cut(f[begin:], []byte{'\r'})
			return string(line)
		}
	}
	return ""
}

// beforehand talks over the wire as it is, and leaves a connection open.
func (d *demo) beforehand(ctx context.Context) (net.Conn, error) {
	to := netip.AddrPortFrom(d.net.Pod("ledger").Addrs[0], 8080)
	c, err := d.net.Pod("web").NS.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	if _, err := ask(c, "/?card="+card); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	seen := d.wire.Wait(card)
	d.wire.Settle()
	d.out.Line("")
	d.verdict(seen, "without the mesh: web asks ledger, and the wire between the nodes shows it")
	d.detail("| %s", excerpt(d.wire.Frames(), card))
	d.out.Line("")
	return c, nil
}

// ask sends a request on a connection that stays open.
func ask(c net.Conn, path string) (string, error) {
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: ledger\r\n\r\n", path); err != nil {
		return "", err
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	_, body, _ := strings.Cut(string(buf[:n]), "\r\n\r\n")
	return body, err
}

func (d *demo) showOld(_ context.Context, before net.Conn) error {
	said, err := ask(before, "/again")
	d.verdict(err == nil && said == "ledger", "a connection from before goes on as it was")
	return nil
}

func (d *demo) showWire(ctx context.Context) error {
	seen := d.wire.Saw(card)
	for _, to := range orderAddrs {
		said, err := d.get(ctx, "web", to, "/?card="+card, nil)
		if err != nil {
			return err
		}
		d.wire.Settle()
		d.verdict(d.wire.Saw(card) == seen && strings.HasSuffix(said, "< ledger"), "web asks order at %s, and the wire does not show it", to)
		d.detail("answered: %s", masked(said))
	}
	d.detail("what order said to payment: %s", record(d.wire.Frames()))
	return nil
}

// masked leaves out which of two versions answered, which is drawn.
func masked(answer string) string {
	return strings.NewReplacer("payment-v1", "payment", "payment-v2", "payment").Replace(answer)
}

// record is the beginning of the last TLS record of application data that was seen (RFC 8446, section 5.1).
func record(frames [][]byte) string {
	for i := len(frames) - 1; i >= 0; i-- {
		if at := bytes.Index(frames[i], []byte{0x17, 3, 3}); at > 0 {
			return fmt.Sprintf("% x ... (TLS application data)", frames[i][at:at+3])
		}
	}
	return "nothing"
}

func (d *demo) showClear(ctx context.Context) error {
	for f := range orderAddrs {
		to := netip.AddrPortFrom(d.net.Pod("payment-v1").Addrs[f], 8080)
		said, err := d.get(ctx, "intruder", to, "/", nil)
		if err == nil {
			err = fmt.Errorf("it answered %q", said)
			d.failed = true
		}
		d.verdict(errors.Is(err, syscall.ECONNRESET), "intruder asks payment-v1 at %s in clear, and is refused: %s", to, why(err))
	}
	return nil
}

// showStrangers comes with an identity of the right name, which another authority has made up.
func (d *demo) showStrangers(ctx context.Context) error {
	for _, domain := range []string{"cluster.local", "evil.local"} {
		other, err := identity.OpenCA(identity.Config{TrustDomain: spiffeid.RequireTrustDomainFromString(domain)})
		if err != nil {
			return err
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		id, err := identity.IDOf(spiffeid.RequireTrustDomainFromString(domain), "shop", "order")
		if err != nil {
			return err
		}
		chain, err := other.Issue(ctx, id, key.Public())
		if err != nil {
			return err
		}
		svid := &x509svid.SVID{ID: id, Certificates: chain, PrivateKey: key}
		roots, _ := d.ca.Bundle()
		c, err := d.net.Pod("intruder").NS.DialContext(ctx, "tcp", netip.AddrPortFrom(d.net.Pod("payment-v1").Addrs[0], 8080).String())
		if err != nil {
			return err
		}
		t := tls.Client(c, tlsconfig.MTLSClientConfig(svid, roots, tlsconfig.AuthorizeMemberOf(roots.TrustDomain())))
		_, err = ask(t, "/")
		_ = t.Close()
		d.verdict(err != nil, "intruder comes as %s, by an authority of its own, and is refused", id)
	}
	return nil
}

func (d *demo) showForbidden(ctx context.Context) error {
	for _, to := range ledgerAddrs {
		_, err := d.get(ctx, "order", to, "/", nil)
		d.verdict(err != nil, "order asks ledger at %s, which lets in payment alone, and is refused", to)
	}
	return nil
}

// showRotation replaces the root while requests go on.
func (d *demo) showRotation(ctx context.Context) error {
	_, changed := d.ca.Bundle()
	if err := d.ca.Rotate(); err != nil {
		return err
	}
	end := time.After(time.Second) // the new root has signed for a while
	asked, failed := 0, error(nil)
	for done := false; !done; {
		_, err := d.get(ctx, "web", orderAddrs[asked%2], "/", nil)
		asked, failed = asked+1, errors.Join(failed, err)
		select {
		case <-end:
			done = true
		default:
		}
	}
	select {
	case <-changed:
	default:
		failed = errors.Join(failed, errors.New("there is no new root"))
	}
	d.verdict(failed == nil, "the authority's root is replaced: %d requests meanwhile, none failed", asked)
	if failed != nil {
		d.detail("%v", failed)
	}
	return nil
}
