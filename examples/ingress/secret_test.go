package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

// A Secret's certificate may be text in a manifest (stringData), which an API server would turn into data.
func TestSecretAsText(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.example"}, NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	text := func(kind string, der []byte) string {
		return strings.ReplaceAll(string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})), "\n", "\n    ")
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "all.yaml"), fmt.Appendf(nil, `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec:
  tls: [{hosts: [a.example], secretName: s}]
  defaultBackend: {service: {name: web, port: {number: 80}}}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
type: kubernetes.io/tls
stringData:
  tls.crt: |
    %s
  tls.key: |
    %s
`, text("CERTIFICATE", certificate), text("PRIVATE KEY", private)), 0o600))
	_, stderr := run(t, "-f", dir, "-https", "127.0.0.1:0")
	var address []string
	kerneltest.Eventually(t, "it serves", func() bool {
		address = regexp.MustCompile(`address=(127\.0\.0\.1:\d+)`).FindStringSubmatch(stderr.String())
		return address != nil
	})
	kerneltest.Eventually(t, "the certificate is known", func() bool {
		c, err := tls.Dial("tcp", address[1], &tls.Config{ServerName: "a.example", InsecureSkipVerify: true})
		if err != nil {
			return false
		}
		defer c.Close()
		return string(c.ConnectionState().PeerCertificates[0].Raw) == string(certificate)
	})
	_, err = tls.Dial("tcp", address[1], &tls.Config{ServerName: "b.example", InsecureSkipVerify: true})
	require.ErrorContains(t, err, "unrecognized name")
}
