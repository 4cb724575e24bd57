package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/internal/source"
	"github.com/podplumb/podplumb/examples/mesh/agent"
	"github.com/podplumb/podplumb/examples/mesh/identity"
	"github.com/podplumb/podplumb/examples/mesh/l7"
	"github.com/podplumb/podplumb/examples/mesh/lab"
	"github.com/podplumb/podplumb/examples/mesh/proxy"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/trace"
	"github.com/podplumb/podplumb/examples/mesh/world"
	"github.com/podplumb/podplumb/netns"
)

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m, Run)) }

var domain = spiffeid.RequireTrustDomainFromString("cluster.local")

// mode is where the proxies are.
type mode string

const (
	nodeMode    mode = "node"
	sidecarMode mode = "sidecar"
)

const sidecarUser = 1337

// families are the indexes of addresses.
var families = map[string]int{"IPv4": 0, "IPv6": 1}

// bed is a cluster with a mesh in it: two nodes, and pods of the namespace
// shop, each under a service account of its own name.
type bed struct {
	t        testing.TB
	mode     mode
	net      *lab.Net
	dir      string // readable by everybody
	objects  []runtime.Object
	world    *world.World
	ca       *identity.CA
	registry *prometheus.Registry
	counts   *proxy.Counts
	agents   []*agent.Agent
	cluster  []netip.Prefix
	leaf     time.Duration
	prefix   string      // of the names of its namespaces
	untraced bool        // sidecars
	proxies  []*exec.Cmd // of sidecars
	requests *requests
	followed bool           // the objects come from elsewhere
	names    netip.AddrPort // the name server, if questions are captured
}

var beds atomic.Int32

// newBed builds the network. Pods are NAME@NODE, NODE being a or b; what begins
// with a dash is not in the mesh.
func newBed(t testing.TB, m mode, pods ...string) *bed {
	t.Helper()
	kerneltest.Require(t)
	if m == sidecarMode {
		canBecome(t)
	}
	b := &bed{t: t, mode: m, registry: prometheus.NewRegistry(), cluster: lab.Ranges, leaf: time.Hour}
	var err error
	b.dir, err = os.MkdirTemp("", "mesh-test-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(b.dir, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(b.dir) })
	number := beds.Add(1)
	names := make([][]string, 2)
	outside := map[string]bool{}
	for _, p := range pods {
		name, node, _ := strings.Cut(p, "@")
		name, dash := strings.CutPrefix(name, "-")
		outside[name] = !dash
		n := map[string]int{"a": 0, "b": 1}[node]
		names[n] = append(names[n], name)
		outside[name] = dash
	}
	b.prefix = fmt.Sprintf("mesh-test-%d-%d.", os.Getpid(), number)
	b.net, err = lab.Build(t.Context(), func(name string) (*netns.NS, error) {
		ns, err := netns.Create(b.prefix + name)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = netns.Remove(ns.Name()); _ = ns.Close() })
		return ns, ns.LoopbackUp()
	}, names...)
	require.NoError(t, err)
	b.objects = append(b.objects, &corev1.Namespace{TypeMeta: kind("Namespace"), ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{world.Label: "enabled"}}})
	for _, n := range b.net.Nodes {
		b.objects = append(b.objects, &corev1.Node{TypeMeta: kind("Node"), ObjectMeta: metav1.ObjectMeta{Name: n.Name}})
	}
	for _, p := range b.net.Pods {
		o := &corev1.Pod{
			TypeMeta:   kind("Pod"),
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: p.Name, Labels: map[string]string{"app": p.Name}, Annotations: map[string]string{}},
			Spec:       corev1.PodSpec{NodeName: p.Node, ServiceAccountName: p.Name},
			Status:     corev1.PodStatus{PodIP: p.Addrs[0].String(), PodIPs: []corev1.PodIP{{IP: p.Addrs[0].String()}, {IP: p.Addrs[1].String()}}},
		}
		if outside[p.Name] {
			o.Labels[world.Label] = "disabled"
		} else if m == sidecarMode {
			o.Annotations["podplumb.github.io/mesh-sidecar"] = fmt.Sprint(sidecarUser)
		}
		b.objects = append(b.objects, o)
	}
	b.world = world.New(domain, func(err error) { t.Error(err) })
	b.counts, err = proxy.NewCounts(b.registry)
	require.NoError(t, err)
	return b
}

func kind(k string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: k} }

func newNS(t testing.TB) *netns.NS {
	t.Helper()
	kerneltest.Require(t)
	ns, err := netns.New()
	require.NoError(t, err)
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// canBecome skips a test that needs a second user.
func canBecome(t testing.TB) {
	t.Helper()
	uids, err := os.ReadFile("/proc/self/uid_map")
	require.NoError(t, err)
	if f := strings.Fields(string(uids)); os.Geteuid() != 0 || len(f) != 3 || len(f[2]) < 5 {
		t.Skip("a sidecar runs as another user, and there is only one here (run as root)")
	}
}

// annotate adds an annotation to a pod.
func (b *bed) annotate(pod, key, text string) {
	for i, o := range b.objects {
		if p, ok := o.(*corev1.Pod); ok && p.Name == pod {
			p = p.DeepCopy()
			p.Annotations["podplumb.github.io/mesh-"+key] = text
			b.objects[i] = p
		}
	}
}

// service adds a Service in front of the pods with a label app, with a cluster
// IP of each family.
func (b *bed) service(name, app string, number byte, appProtocol string, port, target uint16) [2]netip.AddrPort {
	addrs := [2]netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, number}), netip.MustParseAddr(fmt.Sprintf("fd00:10:96::%x", number))}
	s := &corev1.Service{
		TypeMeta: kind("Service"), ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: corev1.ServiceSpec{
			ClusterIP: addrs[0].String(), ClusterIPs: []string{addrs[0].String(), addrs[1].String()}, Selector: map[string]string{"app": app},
			Ports: []corev1.ServicePort{{Port: int32(port), TargetPort: intstr.FromInt32(int32(target)), Protocol: corev1.ProtocolTCP}},
		},
	}
	if appProtocol != "" {
		s.Spec.Ports[0].AppProtocol = &appProtocol
	}
	b.objects = append(b.objects, s)
	return [2]netip.AddrPort{netip.AddrPortFrom(addrs[0], port), netip.AddrPortFrom(addrs[1], port)}
}

// publish makes the objects known, to processes too.
func (b *bed) publish() {
	b.t.Helper()
	if !b.followed {
		b.world.Set(b.objects...)
	}
	var text []byte
	for _, o := range b.objects {
		y, err := yaml.Marshal(o)
		require.NoError(b.t, err)
		text = append(append(text, "---\n"...), y...)
	}
	path := filepath.Join(b.dir, "objects.yaml")
	require.NoError(b.t, os.WriteFile(path+".new", text, 0o644))
	require.NoError(b.t, os.Rename(path+".new", path))
}

// enrol begins with the mesh, and returns when every pod is captured.
func (b *bed) enrol() {
	b.t.Helper()
	b.publish()
	var err error
	b.ca, err = identity.OpenCA(identity.Config{TrustDomain: domain, Leaf: b.leaf, Spread: b.leaf / 10})
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	b.t.Cleanup(func() { cancel(); running.Wait() })
	b.requests, err = newRequests(ctx, trace.Config{File: filepath.Join(b.traces(), "node.json"), Ratio: 1, Delay: 50 * time.Millisecond}, l7.Config{}, b.registry, slog.New(slog.DiscardHandler))
	require.NoError(b.t, err)
	b.t.Cleanup(b.requests.close)
	running.Go(func() { _ = b.requests.follow(ctx, source.Directory(filepath.Join(b.dir, "objects.yaml"))) })
	running.Go(func() { _ = b.ca.Run(ctx, func(err error) { b.t.Error(err) }) })
	for _, n := range b.net.Nodes {
		a := agent.New(agent.Config{
			Handler: func(w *stream.Workload, d stream.Dialer) stream.Handler { return b.requests.handler(w, b.world, d) },
			Node:    n.Name, World: b.world, Issuer: b.ca, Sockets: filepath.Join(b.dir, n.Name), Find: b.find, Cluster: b.cluster, NameServer: b.names, Probes: probes(n), Drain: -1, Counts: b.counts,
		})
		b.agents = append(b.agents, a)
		running.Go(func() {
			if err := a.Run(ctx); err != nil {
				b.t.Error(err)
			}
		})
	}
	kerneltest.Eventually(b.t, "all pods are captured", func() bool {
		ready := 0
		for _, a := range b.agents {
			list, _ := a.Ready()
			ready += len(list)
		}
		return ready == len(b.meshed())
	})
	if b.mode != sidecarMode {
		return
	}
	for _, p := range b.meshed() {
		b.proxies = append(b.proxies, b.sidecar(p))
	}
}

func (b *bed) find(p *world.Pod) (*netns.NS, error) {
	return netns.OpenName(b.net.Pod(p.Workload.Name).NS.Name())
}

func (b *bed) meshed() []*lab.Pod {
	s, _ := b.world.Snapshot()
	var list []*lab.Pod
	for _, p := range s.Pods {
		if p.Workload.Meshed && strings.HasPrefix(p.Workload.Node, "node-") {
			list = append(list, b.net.Pod(p.Workload.Name))
		}
	}
	return list
}

// ranges are the cluster's networks as a flag.
func (b *bed) ranges() string {
	ranges := make([]string, len(b.cluster))
	for i, r := range b.cluster {
		ranges[i] = r.String()
	}
	return strings.Join(ranges, ",")
}

// traces is the directory of files with spans, one for each process.
func (b *bed) traces() string {
	b.t.Helper()
	dir := filepath.Join(b.dir, "traces")
	require.NoError(b.t, os.MkdirAll(dir, 0o777))
	require.NoError(b.t, os.Chmod(dir, 0o777))
	return dir
}

// sidecar starts a proxy inside of a pod, as a user without any rights.
func (b *bed) sidecar(p *lab.Pod) *exec.Cmd {
	b.t.Helper()
	cmd := exec.Command("/proc/self/exe", "proxy", "-f", filepath.Join(b.dir, "objects.yaml"), "-pod", "shop/"+p.Name, "-drain", "0s",
		"-workload-api", "unix://"+filepath.Join(b.dir, p.Node, agent.SharedSocket), "-cluster", b.ranges())
	if !b.untraced {
		cmd.Args = append(cmd.Args, "-trace-file", filepath.Join(b.traces(), p.Name+".json"))
	}
	if b.names.IsValid() {
		cmd.Args = append(cmd.Args, "-dns", b.names.String())
	}
	cmd.Env = append(os.Environ(), "PODPLUMB_KERNELTEST_EXAMPLE=1", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: sidecarUser, Gid: sidecarUser}}
	require.NoError(b.t, p.NS.Start(cmd))
	b.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	kerneltest.Eventually(b.t, "the sidecar listens", func() bool {
		err := p.NS.Do(func() error {
			text, err := os.ReadFile("/proc/thread-self/net/tcp6")
			if err == nil && strings.Count(string(text), fmt.Sprintf(":%04X ", 15001))*strings.Count(string(text), fmt.Sprintf(":%04X ", 15006)) == 0 {
				err = errors.New("not yet")
			}
			return err
		})
		return err == nil
	})
	return cmd
}

// counted sums up a counter over the label values that are given, of this process's proxies.
func (b *bed) counted(metric string, labels ...string) (sum float64) {
	b.t.Helper()
	return countIn(b.t, b.registry, metric, labels...)
}

func countIn(t testing.TB, registry prometheus.Gatherer, metric string, labels ...string) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() != metric {
			continue
		}
		for _, m := range f.GetMetric() {
			if has(m, labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func has(m *dto.Metric, labels []string) bool {
	for _, want := range labels {
		found := false
		for _, l := range m.GetLabel() {
			found = found || l.GetValue() == want
		}
		if !found {
			return false
		}
	}
	return true
}

// at is an address of a pod.
func (b *bed) at(pod string, family int, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(b.net.Pod(pod).Addrs[family], port)
}

// echo serves in a pod: it greets each client with its own view of the
// connection, and sends back what comes, until the client has ended its side.
func (b *bed) echo(pod, address string) net.Listener {
	b.t.Helper()
	l, err := b.net.Pod(pod).NS.Listen(b.t.Context(), "tcp", address)
	require.NoError(b.t, err)
	serveEcho(l)
	b.t.Cleanup(func() { _ = l.Close() })
	return l
}

func serveEcho(l net.Listener) {
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := fmt.Fprintf(c, "%s\n", c.RemoteAddr()); err == nil {
					_, _ = io.Copy(struct{ io.Writer }{c}, c)
				}
			}()
		}
	}()
}

// listened waits until the mesh has taken notice of a new listener.
func (b *bed) listened(from, pod string, port uint16) {
	b.t.Helper()
	kerneltest.Eventually(b.t, "the port is captured", func() bool {
		c, err := b.dial(from, b.at(pod, 0, port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func (b *bed) dial(pod string, to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return b.net.Pod(pod).NS.DialContext(ctx, "tcp", to.String())
}

// says sends a text and wants it back; it returns the greeting: from where the
// server saw the client.
func says(c net.Conn, text string) (greeting string, err error) {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if greeting, err = readLine(c); err != nil {
		return "", err
	}
	return greeting, echoes(c, text)
}

func echoes(c net.Conn, text string) error {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != text {
		return fmt.Errorf("%q came back as %q", text, got)
	}
	return nil
}

func readLine(c net.Conn) (string, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, one); err != nil {
			return "", err
		}
		if one[0] == '\n' {
			return string(line), nil
		}
		line = append(line, one[0])
	}
}

// reaches connects and echoes, and returns the greeting and the client's own
// address.
func (b *bed) reaches(pod string, to netip.AddrPort, text string) (greeting, own string) {
	b.t.Helper()
	c, err := b.dial(pod, to)
	require.NoError(b.t, err)
	defer c.Close()
	greeting, err = says(c, text)
	require.NoError(b.t, err)
	return greeting, c.LocalAddr().String()
}

// fails connects and wants to be turned away, before anything came back.
func (b *bed) fails(pod string, to netip.AddrPort) {
	b.t.Helper()
	c, err := b.dial(pod, to)
	if err != nil {
		require.True(b.t, errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET), "%v", err)
		return
	}
	defer c.Close()
	err = cut(c)
	require.Error(b.t, err)
	require.False(b.t, os.IsTimeout(err), "%v", err)
}

// cut speaks first, and returns the error by which nothing comes back.
func cut(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	return err
}

// refused wants the connection itself to be refused.
func (b *bed) refused(pod string, to netip.AddrPort) {
	b.t.Helper()
	c, err := b.dial(pod, to)
	if err == nil {
		_ = c.Close()
	}
	require.ErrorIs(b.t, err, syscall.ECONNREFUSED)
}

func (b *bed) tap() *lab.Wiretap {
	b.t.Helper()
	t, err := lab.Tap(b.net.Wire, lab.Uplink)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = t.Close() })
	return t
}
