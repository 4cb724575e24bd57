package bench_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	rounds = 5
	length = 1500 * time.Millisecond
	rate   = 1500 // requests a second, at which times are compared: far from what any of them can do
)

// program is a proxy under test.
type program struct {
	name    string
	address string
	pid     int

	perCore  []float64 // requests for each second of processor time
	perSec   []float64
	p50, p99 []time.Duration
}

// BenchmarkProxies sends the same requests through each proxy by turns. Each has processor 0 for itself and one thread to work
// with; the load generator and the backend share processor 1.
func BenchmarkProxies(b *testing.B) {
	if runtime.NumCPU() < 2 {
		b.Skip("needs two processors: one for the proxy, one for the load and the backend")
	}
	needs(b, "taskset", "nginx", "haproxy")
	dir := b.TempDir()
	to := startBackend(b)
	programs := []*program{startIngress(b, dir, to), startNginx(b, dir, to), startHAProxy(b, dir, to)}
	for _, p := range programs {
		b.Cleanup(func() { _ = syscall.Kill(p.pid, syscall.SIGTERM) })
		await(b, p.address)
		generate(b, p.address, 0, 500*time.Millisecond) // warm
	}
	for b.Loop() {
		for range rounds {
			for _, p := range programs {
				before := processorTime(b, p.pid)
				r := generate(b, p.address, 0, length)
				used := processorTime(b, p.pid) - before
				p.perCore = append(p.perCore, float64(r.Requests)/used.Seconds())
				p.perSec = append(p.perSec, float64(r.Requests)/r.Seconds)
				r = generate(b, p.address, rate, length)
				p.p50, p.p99 = append(p.p50, r.P50), append(p.p99, r.P99)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	ours, nginx := programs[0], programs[1]
	for _, p := range programs {
		b.Logf("%-8s %6.0f requests a second of processor time; %6.0f a second in all; p50 %v, p99 %v at %d a second", p.name,
			median(p.perCore), median(p.perSec), median(p.p50), median(p.p99), rate)
		b.ReportMetric(median(p.perCore), p.name+"-req/core-s")
		b.ReportMetric(float64(median(p.p99).Microseconds()), p.name+"-p99-µs")
	}
	b.ReportMetric(median(ours.perCore)/median(nginx.perCore), "ours/nginx-req")
	b.ReportMetric(float64(median(ours.p99))/float64(median(nginx.p99)), "ours/nginx-p99")
}

func median[T ~int64 | ~float64](values []T) T {
	slices.Sort(values)
	return values[len(values)/2]
}

func needs(b *testing.B, programs ...string) {
	b.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			b.Skipf("%v: it is in a Debian package of that name, taskset in util-linux", err)
		}
	}
}

// pinned is a command on one processor.
func pinned(cpu int, name string, args ...string) *exec.Cmd {
	cmd := exec.Command("taskset", append([]string{"-c", strconv.Itoa(cpu), name}, args...)...)
	cmd.Stderr = os.Stderr
	return cmd
}

// start starts a proxy and returns its process; taskset becomes it. It ends with this one, however that ends.
func start(b *testing.B, cmd *exec.Cmd) int {
	b.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(b, cmd.Start())
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd.Process.Pid
}

func self(b *testing.B, role string, args ...string) *exec.Cmd {
	b.Helper()
	path, err := os.Executable()
	require.NoError(b, err)
	cmd := pinned(1, path, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	return cmd
}

func startBackend(b *testing.B) netip.AddrPort {
	b.Helper()
	cmd := self(b, roleBackend)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	_, err = cmd.StdinPipe()
	require.NoError(b, err)
	start(b, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(b, err)
	return netip.MustParseAddrPort(strings.TrimSpace(line))
}

func generate(b *testing.B, address string, rate float64, length time.Duration) result {
	b.Helper()
	out, err := self(b, roleLoad, "-address", address, "-rate", fmt.Sprint(rate), "-length", length.String()).Output()
	require.NoError(b, err)
	var r result
	require.NoError(b, json.Unmarshal(out, &r))
	require.Zero(b, r.Faults)
	return r
}

func free(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer l.Close()
	return l.Addr().String()
}

func await(b *testing.B, address string) {
	b.Helper()
	for range 1000 {
		if conn, err := net.Dial("tcp", address); err == nil {
			_, _ = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host)
			status, _ := bufio.NewReader(conn).ReadString('\n')
			conn.Close()
			if strings.Contains(status, "200") {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.Fatalf("%s does not serve", address)
}

// processorTime is what a process and its children that run have used, user and system.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	const tick = 10 * time.Millisecond // USER_HZ
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	require.NoError(b, err)
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	var sum time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		require.NoError(b, err)
		sum += time.Duration(n) * tick
	}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for _, child := range strings.Fields(string(children)) {
		n, err := strconv.Atoi(child)
		require.NoError(b, err)
		sum += processorTime(b, n)
	}
	return sum
}

func write(b *testing.B, path, text string) string {
	b.Helper()
	require.NoError(b, os.WriteFile(path, []byte(text), 0o644))
	return path
}

func startIngress(b *testing.B, dir string, to netip.AddrPort) *program {
	b.Helper()
	binary := filepath.Join(dir, "ingress")
	out, err := exec.Command("go", "build", "-o", binary, "github.com/podplumb/podplumb/examples/ingress").CombinedOutput()
	require.NoError(b, err, string(out))
	manifests := write(b, filepath.Join(dir, "shop.yaml"), fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, namespace: shop, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{name: http, port: %d}]
endpoints: [{addresses: [%s]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: shop}
spec:
  rules:
  - host: %s
    http:
      paths:
      - {path: /api, pathType: Prefix, backend: {service: {name: api, port: {name: http}}}}
      - {path: /, pathType: Prefix, backend: {service: {name: api, port: {name: http}}}}
`, to.Port(), to.Addr(), host))
	address := free(b)
	cmd := pinned(0, binary, "-f", manifests, "-http", address, "-metrics", free(b), "-quiet")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Stderr = nil
	return &program{name: "ingress", address: address, pid: start(b, cmd)}
}

// startNginx starts it as a single process that does what its one worker would: a worker would outlive a master that is killed.
func startNginx(b *testing.B, dir string, to netip.AddrPort) *program {
	b.Helper()
	address := free(b)
	path := write(b, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`
master_process off;
daemon off;
pid %[1]s/nginx.pid;
error_log %[1]s/nginx.log;
events { worker_connections 1024; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	keepalive_requests 1000000000;
	upstream api { server %[2]s; keepalive 256; keepalive_requests 1000000000; }
	server {
		listen %[3]s;
		server_name %[4]s;
		location /api { proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
			proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Proto $scheme; }
		location / { proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
			proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Host $host; proxy_set_header X-Forwarded-Proto $scheme; }
	}
}
`, dir, to, address, host))
	return &program{name: "nginx", address: address, pid: start(b, pinned(0, "nginx", "-c", path, "-p", dir, "-e", filepath.Join(dir, "nginx.log")))}
}

func startHAProxy(b *testing.B, dir string, to netip.AddrPort) *program {
	b.Helper()
	address := free(b)
	path := write(b, filepath.Join(dir, "haproxy.cfg"), fmt.Sprintf(`
global
	nbthread 1
	maxconn 2000
defaults
	mode http
	timeout connect 3s
	timeout client 30s
	timeout server 30s
	http-reuse always
frontend http
	bind %[2]s
	acl shop hdr(host) -i %[3]s
	acl api path_beg /api
	use_backend api if shop api
	use_backend api if shop
backend api
	option forwardfor
	http-request set-header X-Forwarded-Proto http
	http-request set-header X-Forwarded-Host %%[req.hdr(Host)]
	server one %[1]s
`, to, address, host))
	return &program{name: "haproxy", address: address, pid: start(b, pinned(0, "haproxy", "-db", "-f", path))}
}
