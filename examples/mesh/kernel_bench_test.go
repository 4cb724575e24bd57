package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

const (
	benchTime   = time.Second // of each measurement
	benchRounds = 4           // through all three ways, one after the other
)

// BenchmarkRequests compares two proxies in a row with two of haproxy's, both with mutual TLS 1.3 between them and keeping
// their connections, and each on one processor: a client and a server in pods of two nodes, on the same machine, in the same run. Each way has its turn
// in each round. The figures are ratios: what ours adds to the time of a request against what haproxy adds, and what a
// request costs the proxies in processor time.
func BenchmarkRequests(b *testing.B) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		b.Skip("haproxy is not here (apt-get install haproxy)")
	}
	bed := newBed(b, sidecarMode, "client@a", "server@b", "-plain@a", "-peer@b")
	address := bed.service("server", "server", 10, "http", 80, 8080)
	bed.enrol()
	bed.app("server")
	bed.app("peer")
	theirs := bed.haproxies("plain", "peer")
	bed.waitFor("client", address[0])
	ways := []struct {
		name, pod string
		to        netip.AddrPort
		proxies   []*exec.Cmd
	}{
		{"direct", "plain", bed.at("peer", 0, 8080), nil},
		{"haproxy", "plain", netip.MustParseAddrPort("127.0.0.1:9000"), theirs},
		{"mesh", "client", address[0], bed.proxies},
	}
	for _, row := range []struct {
		name  string
		conns int
		pause time.Duration
	}{{"1 connection", 1, 0}, {"16 connections, 100 requests a second each", 16, 10 * time.Millisecond}, {"32 connections", 32, 0}} {
		b.Run(row.name, func(b *testing.B) {
			for b.Loop() {
				took, spent := make([][]time.Duration, len(ways)), make([]time.Duration, len(ways))
				for range benchRounds {
					for i, w := range ways {
						before := processorTime(b, w.proxies)
						took[i] = append(took[i], bed.ask(w.pod, w.to, row.conns, row.pause)...)
						spent[i] += processorTime(b, w.proxies) - before
					}
				}
				quantile := func(i int, q float64) time.Duration {
					slices.Sort(took[i])
					return took[i][int(q*float64(len(took[i])-1))]
				}
				added := func(i int, q float64) time.Duration { return quantile(i, q) - quantile(0, q) }
				cost := func(i int) time.Duration { return spent[i] / time.Duration(len(took[i])) }
				for i, w := range ways {
					b.Logf("%-8s n=%-6d p50 %-12v p99 %-12v", w.name, len(took[i]), quantile(i, .5), quantile(i, .99))
					if i > 0 {
						b.Logf("%-8s added: p50 %v, p99 %v; %v of processor time a request, %.0f requests/s/core", "", added(i, .5), added(i, .99), cost(i), float64(time.Second)/float64(cost(i)))
					}
				}
				b.ReportMetric(float64(added(2, .5))/float64(added(1, .5)), "p50-added/haproxy")
				b.ReportMetric(float64(added(2, .99))/float64(added(1, .99)), "p99-added/haproxy")
				b.ReportMetric(float64(cost(1))/float64(cost(2)), "req/s/core/haproxy")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// app starts an HTTP server at port 8080 of a pod.
func (b *bed) app(pod string) {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe", "app", "-name", pod)
	cmd.Env = append(os.Environ(), "PODPLUMB_KERNELTEST_EXAMPLE=1")
	_, err := cmd.StdinPipe() // it ends with it
	require.NoError(b.t, err)
	require.NoError(b.t, b.net.Pod(pod).NS.Start(cmd))
	b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	b.waitFor(pod, netip.MustParseAddrPort("127.0.0.1:8080"))
}

// waitFor waits until an address answers from within a pod.
func (b *bed) waitFor(pod string, to netip.AddrPort) {
	b.t.Helper()
	kerneltest.Eventually(b.t, to.String()+" answers", func() bool {
		c, err := b.dial(pod, to)
		if err != nil {
			return false
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Second))
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		return err == nil && response.StatusCode == http.StatusOK
	})
}

// haproxies starts one at 127.0.0.1:9000 in one pod, which leads to one in another, which leads to its port 8080.
func (b *bed) haproxies(from, to string) []*exec.Cmd {
	b.t.Helper()
	ca, leaf := filepath.Join(b.dir, "ca.pem"), filepath.Join(b.dir, "leaf.pem")
	writeCertificates(b.t, ca, leaf)
	tls := fmt.Sprintf("ssl crt %s ca-file %s verify required ssl-min-ver TLSv1.3", leaf, ca)
	start := func(pod, bind, server string) *exec.Cmd {
		path := filepath.Join(b.dir, pod+".cfg")
		require.NoError(b.t, os.WriteFile(path, []byte(fmt.Sprintf(`global
  maxconn 4000
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  http-reuse always
frontend in
  bind %s
  default_backend out
backend out
  server peer %s
`, bind, server)), 0o644))
		cmd := exec.Command("haproxy", "-db", "-q", "-f", path)
		require.NoError(b.t, b.net.Pod(pod).NS.Start(cmd))
		b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd
	}
	in := start(to, ":8443 alpn http/1.1 "+tls, "127.0.0.1:8080")
	out := start(from, "127.0.0.1:9000", b.at(to, 0, 8443).String()+" sni str(bench) alpn http/1.1 "+tls)
	b.waitFor(from, netip.MustParseAddrPort("127.0.0.1:9000"))
	return []*exec.Cmd{in, out}
}

// writeCertificates makes an authority and one certificate by it, of the same kind as the mesh's.
func writeCertificates(t testing.TB, caFile, leafFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	require.NoError(t, err)
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "bench"}, DNSNames: []string{"bench"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, leafKey.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	require.NoError(t, err)
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	require.NoError(t, os.WriteFile(caFile, block("CERTIFICATE", caDER), 0o644))
	require.NoError(t, os.WriteFile(leafFile, append(block("CERTIFICATE", leafDER), block("PRIVATE KEY", keyDER)...), 0o644))
}

// ask sends requests over kept connections for a time, each after the response to the one before, and returns how long each
// took.
func (b *bed) ask(pod string, to netip.AddrPort, conns int, pause time.Duration) (took []time.Duration) {
	var mu sync.Mutex
	var all sync.WaitGroup
	end := time.Now().Add(benchTime)
	for range conns {
		all.Go(func() {
			c, err := b.dial(pod, to)
			if err != nil {
				b.t.Error(err)
				return
			}
			defer c.Close()
			in := bufio.NewReader(c)
			var mine []time.Duration
			for time.Now().Before(end) {
				begin := time.Now()
				_, _ = io.WriteString(c, "GET /item/17 HTTP/1.1\r\nHost: server.shop\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
				response, err := http.ReadResponse(in, nil)
				if err != nil || response.StatusCode != http.StatusOK {
					b.t.Error(response, err)
					return
				}
				_, _ = io.Copy(io.Discard, response.Body)
				mine = append(mine, time.Since(begin))
				time.Sleep(pause)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	all.Wait()
	return took
}

// processorTime is what processes have used so far, in user and system mode.
func processorTime(t testing.TB, processes []*exec.Cmd) (sum time.Duration) {
	t.Helper()
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that there is
	for _, p := range processes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
		require.NoError(t, err)
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, f := range fields[11:13] {
			n, err := strconv.Atoi(f)
			require.NoError(t, err)
			sum += time.Duration(n) * tick
		}
	}
	return sum
}
