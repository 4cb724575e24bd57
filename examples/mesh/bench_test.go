package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
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
	"github.com/podplumb/podplumb/examples/mesh/identity"
	"github.com/podplumb/podplumb/examples/mesh/lab"
)

// BenchmarkHop measures what a hop from pod to pod costs: through the mesh on both sides, and through haproxy on both sides, both
// with mutual TLS, beside the same without either. For each it gives the median latency that is added, the CPU time of the
// proxies for a request, and the ratios to haproxy's.
//
// Requests are HTTP/1.1 on connections that stay open. In mode tcp the proxies carry bytes, in mode http they read requests.
func BenchmarkHop(b *testing.B) {
	kerneltest.RequireHost(b, "haproxy")
	for _, mode := range []string{"tcp", "http"} {
		b.Run(mode, func(b *testing.B) {
			bed := newBed(b, nodeMode, "web@a", "app@b", "-client@a", "-server@b")
			virtual := bed.service("app", "app", 5, mode, 80, 8080)
			bed.publish()
			bed.serveHTTP("app")
			bed.serveHTTP("server")
			// The mesh's proxies are processes, so that their CPU time can be told from the test's.
			var mesh []int
			for _, n := range bed.net.Nodes {
				mesh = append(mesh, bed.agentProcess(n))
			}
			peer := bed.haproxy(mode)
			ways := []struct {
				name string
				pod  string
				to   netip.AddrPort
				pids []int
			}{
				{"direct", "client", bed.at("server", 0, 8080), nil},
				{"haproxy", "client", netip.MustParseAddrPort("127.0.0.1:7001"), peer},
				{"mesh", "web", virtual[0], mesh},
			}
			for _, w := range ways {
				kerneltest.Eventually(b, w.name+" serves", func() bool {
					c, err := bed.dial(w.pod, w.to)
					if err != nil {
						return false
					}
					defer c.Close()
					return request(c, bufio.NewReader(c)) == nil
				})
			}
			b.ResetTimer()
			var added [3]time.Duration
			var cpu [3]float64
			for b.Loop() {
				const rounds = 5
				medians, costs := [3][]time.Duration{}, [3][]float64{}
				for range rounds { // one after the other, so that all meet the same machine
					for i, w := range ways {
						medians[i] = append(medians[i], bed.latency(w.pod, w.to, 400))
						before := cpuTime(b, w.pids)
						n := bed.throughput(w.pod, w.to, 8, time.Second)
						if spent := cpuTime(b, w.pids) - before; spent > 0 {
							costs[i] = append(costs[i], float64(spent.Microseconds())/float64(n))
						}
					}
				}
				for i := range ways {
					slices.Sort(medians[i])
					slices.Sort(costs[i])
					added[i] = medians[i][rounds/2] - medians[0][rounds/2]
					if len(costs[i]) > 0 {
						cpu[i] = costs[i][len(costs[i])/2]
					}
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(added[1].Microseconds()), "haproxy-added-µs")
			b.ReportMetric(float64(added[2].Microseconds()), "mesh-added-µs")
			b.ReportMetric(float64(added[2])/float64(added[1]), "added/haproxy")
			b.ReportMetric(1e6/cpu[1], "haproxy-req/s/core")
			b.ReportMetric(1e6/cpu[2], "mesh-req/s/core")
			b.ReportMetric(cpu[2]/cpu[1], "cpu/haproxy")
		})
	}
}

func (b *bed) serveHTTP(pod string) {
	b.t.Helper()
	l, err := b.net.Pod(pod).NS.Listen(b.t.Context(), "tcp", ":8080")
	require.NoError(b.t, err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })}
	go func() { _ = s.Serve(l) }()
	b.t.Cleanup(func() { _ = s.Close() })
}

// agentProcess starts a node's agent, and returns its process.
func (b *bed) agentProcess(n *lab.Node) int {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe", "node", "-node", n.Name, "-f", filepath.Join(b.dir, "objects.yaml"),
		"-ca", filepath.Join(b.dir, "ca.json"), "-sockets", filepath.Join(b.dir, n.Name), "-netns", b.prefix, "-cluster", b.ranges())
	cmd.Env = append(os.Environ(), "PODPLUMB_KERNELTEST_EXAMPLE=1")
	require.NoError(b.t, n.NS.Start(cmd))
	b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

// haproxy starts one beside the client and one beside the server, with identities of the same kind.
func (b *bed) haproxy(mode string) (pids []int) {
	b.t.Helper()
	ca, err := identity.OpenCA(identity.Config{TrustDomain: domain})
	require.NoError(b.t, err)
	roots := &bytes.Buffer{}
	for name := range map[string]bool{"client": true, "server": true} {
		h := hold(b.t, ca, "spiffe://cluster.local/ns/shop/sa/"+name, ca)
		key, err := x509.MarshalPKCS8PrivateKey(h.PrivateKey)
		require.NoError(b.t, err)
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificates[0].Raw})
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
		require.NoError(b.t, os.WriteFile(filepath.Join(b.dir, name+".pem"), text, 0o600))
		roots.Reset()
		_ = pem.Encode(roots, &pem.Block{Type: "CERTIFICATE", Bytes: h.X509Authorities()[0].Raw})
	}
	require.NoError(b.t, os.WriteFile(filepath.Join(b.dir, "roots.pem"), roots.Bytes(), 0o600))
	tls := func(name string) string {
		return fmt.Sprintf("ssl crt %s.pem ca-file roots.pem verify required", filepath.Join(b.dir, name))
	}
	common := "global\n  ca-base " + b.dir + "\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n  ssl-default-server-options ssl-min-ver TLSv1.3\n" +
		"defaults\n  mode " + mode + "\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
	if mode == "http" {
		common += "  http-reuse always\n"
	}
	for pod, config := range map[string]string{
		"client": fmt.Sprintf("listen out\n  bind 127.0.0.1:7001\n  server s %s %s\n", b.at("server", 0, 7443), tls("client")),
		"server": fmt.Sprintf("listen in\n  bind :7443 %s\n  server s 127.0.0.1:8080\n", tls("server")),
	} {
		file := filepath.Join(b.dir, pod+".cfg")
		require.NoError(b.t, os.WriteFile(file, []byte(common+config), 0o600))
		cmd := exec.Command("haproxy", "-db", "-f", file)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		require.NoError(b.t, b.net.Pod(pod).NS.Start(cmd))
		b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		pids = append(pids, cmd.Process.Pid)
	}
	return pids
}

// request sends one on a connection that stays open, and reads its answer.
func request(c net.Conn, from *bufio.Reader) error {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: app\r\n\r\n"); err != nil {
		return err
	}
	length := 0
	for {
		line, err := from.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if k, v, ok := strings.Cut(string(line), ":"); ok && strings.EqualFold(k, "Content-Length") {
			length, _ = strconv.Atoi(strings.TrimSpace(v))
		}
	}
	_, err := from.Discard(length)
	if err == nil && length != 5 {
		err = fmt.Errorf("an answer of %d bytes", length)
	}
	return err
}

// latency is the median of n requests, one after the other.
func (b *bed) latency(pod string, to netip.AddrPort, n int) time.Duration {
	b.t.Helper()
	c, err := b.dial(pod, to)
	require.NoError(b.t, err)
	defer c.Close()
	from := bufio.NewReader(c)
	took := make([]time.Duration, n)
	for i := range took {
		began := time.Now()
		require.NoError(b.t, request(c, from))
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return took[n/2]
}

// throughput counts the requests of several clients in a while.
func (b *bed) throughput(pod string, to netip.AddrPort, clients int, while time.Duration) int {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), while)
	defer cancel()
	counts := make([]int, clients)
	var all sync.WaitGroup
	for i := range clients {
		c, err := b.dial(pod, to)
		require.NoError(b.t, err)
		defer c.Close()
		all.Go(func() {
			from := bufio.NewReader(c)
			for ctx.Err() == nil {
				if request(c, from) != nil {
					return
				}
				counts[i]++
			}
		})
	}
	all.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return sum
}

// cpuTime is what processes have used so far (proc_pid_stat(5), in hundredths of a second).
func cpuTime(b *testing.B, pids []int) (sum time.Duration) {
	b.Helper()
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		require.NoError(b, err)
		_, rest, _ := strings.Cut(string(stat), ") ")
		f := strings.Fields(rest)
		for _, ticks := range f[11:13] {
			n, err := strconv.Atoi(ticks)
			require.NoError(b, err)
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}
