package main

import (
	"bufio"
	"bytes"
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
// with mutual TLS 1.3 between them and connections that stay open, beside the same without either. Its figures are ratios: the
// latency that the mesh adds against what haproxy adds, and the requests for a second of the proxies' processor time.
//
// In mode tcp the proxies carry bytes, in mode http they read requests. Proxies of nodes and haproxy beside them may use all
// processors, sidecars and haproxy beside them one.
func BenchmarkHop(b *testing.B) {
	kerneltest.RequireHost(b, "haproxy")
	for _, c := range []struct {
		mode  string
		place mode
	}{{"tcp", nodeMode}, {"http", nodeMode}, {"http", sidecarMode}} {
		bed := newBed(b, c.place, "web@a", "app@b", "-client@a", "-server@b")
		virtual := bed.service("app", "app", 5, c.mode, 80, 8080)
		// The mesh's proxies are processes, so that their CPU time can be told from the test's.
		var mesh []int
		if c.place == sidecarMode {
			bed.untraced = true // haproxy traces nothing either
			bed.enrol()
			for _, p := range bed.proxies {
				mesh = append(mesh, p.Process.Pid)
			}
		} else {
			bed.publish()
			for _, n := range bed.net.Nodes {
				mesh = append(mesh, bed.agentProcess(n))
			}
		}
		bed.serveHTTP("app")
		bed.serveHTTP("server")
		ways := []way{
			{"direct", "client", bed.at("server", 0, 8080), nil},
			{"haproxy", "client", netip.MustParseAddrPort("127.0.0.1:7001"), bed.haproxy(c.mode)},
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
		for _, load := range []struct {
			name    string
			clients int
			pause   time.Duration
		}{{"1client", 1, 0}, {"16clients-100/s-each", 16, 10 * time.Millisecond}, {"16clients", 16, 0}} {
			b.Run(fmt.Sprintf("%s/%s/%s", c.mode, c.place, load.name), func(b *testing.B) {
				for b.Loop() {
					bed.compare(b, ways, load.clients, load.pause)
				}
			})
		}
	}
}

// way is one that requests can go.
type way struct {
	name string
	pod  string
	to   netip.AddrPort
	pids []int
}

// compare has each way take its turn a few times, so that all meet the same machine, and reports on the third against the
// second.
func (b *bed) compare(bench *testing.B, ways []way, clients int, pause time.Duration) {
	const rounds = 4
	took, spent := make([][]time.Duration, len(ways)), make([]time.Duration, len(ways))
	for range rounds {
		for i, w := range ways {
			before := cpuTime(bench, w.pids)
			took[i] = append(took[i], b.ask(w, clients, pause, time.Second)...)
			spent[i] += cpuTime(bench, w.pids) - before
		}
	}
	for i := range ways {
		require.NotEmpty(bench, took[i], ways[i].name)
		slices.Sort(took[i])
	}
	quantile := func(i int, q float64) time.Duration { return took[i][int(q*float64(len(took[i])-1))] }
	added := func(i int, q float64) time.Duration { return quantile(i, q) - quantile(0, q) }
	perCore := func(i int) float64 { return float64(len(took[i])) / spent[i].Seconds() }
	bench.ReportMetric(0, "ns/op")
	bench.ReportMetric(float64(added(1, .5).Microseconds()), "haproxy-p50-added-µs")
	bench.ReportMetric(float64(added(2, .5).Microseconds()), "mesh-p50-added-µs")
	bench.ReportMetric(float64(added(2, .5))/float64(added(1, .5)), "p50-added/haproxy")
	bench.ReportMetric(float64(added(2, .99))/float64(added(1, .99)), "p99-added/haproxy")
	bench.ReportMetric(perCore(1), "haproxy-req/s/core")
	bench.ReportMetric(perCore(2), "mesh-req/s/core")
	bench.ReportMetric(perCore(2)/perCore(1), "req/s/core/haproxy")
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
	threads := ""
	if b.mode == sidecarMode {
		threads = "  nbthread 1\n"
	}
	common := "global\n" + threads + "  ca-base " + b.dir + "\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n  ssl-default-server-options ssl-min-ver TLSv1.3\n" +
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

// ask sends requests for a while, each client one after the other, and returns how long each took.
func (b *bed) ask(w way, clients int, pause, while time.Duration) []time.Duration {
	b.t.Helper()
	times := make([][]time.Duration, clients)
	var all sync.WaitGroup
	end := time.Now().Add(while)
	for i := range clients {
		c, err := b.dial(w.pod, w.to)
		require.NoError(b.t, err)
		defer c.Close()
		all.Go(func() {
			from := bufio.NewReader(c)
			for time.Now().Before(end) {
				began := time.Now()
				if err := request(c, from); err != nil {
					b.t.Error(w.name, err)
					return
				}
				times[i] = append(times[i], time.Since(began))
				time.Sleep(pause)
			}
		})
	}
	all.Wait()
	return slices.Concat(times...)
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
