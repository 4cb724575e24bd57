package main_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/podplumb/podplumb/examples/dns/agent"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m, agent.Run)) }

// network is a server and a pod that are joined by a link.
type network struct{ server, pod *netns.NS }

func newNetwork(t *testing.T) network {
	t.Helper()
	kerneltest.Require(t)
	create := func(name string) *netns.NS {
		ns, err := netns.Create(name)
		require.NoError(t, err)
		t.Cleanup(func() { _ = ns.Close(); require.NoError(t, netns.Remove(name)) })
		return ns
	}
	n := network{create("podplumb-dns-server"), create("podplumb-dns-pod")}
	links, err := veth.New(veth.Config{NetNS: n.server})
	require.NoError(t, err)
	defer links.Close()
	p := netip.MustParsePrefix
	_, err = links.Sync(t.Context(), veth.State{
		Bridges: []veth.Bridge{{Name: "cni0", Addresses: []netip.Prefix{p("10.1.0.1/24"), p("fd00:1::1/64")}}},
		Pairs: []veth.Pair{{
			Host: veth.Host{Name: "pod", Bridge: "cni0"},
			Pod:  veth.Pod{NetNS: n.pod.Path(), Name: "eth0", Addresses: []netip.Prefix{p("10.1.0.2/24"), p("fd00:1::2/64")}},
		}},
	})
	require.NoError(t, err)
	return n
}

// serve runs the example until the test ends.
func serve(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	stderr := new(buffer)
	go func() { done <- agent.Run(ctx, args, io.Discard, stderr) }()
	t.Cleanup(func() { cancel(); require.Zero(t, <-done, stderr.String()) })
	kerneltest.Eventually(t, "the server listens", func() bool { return strings.Contains(stderr.String(), "serving") })
}

type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// ask asks from inside the pod.
func (n network) ask(t *testing.T, network, server, name string, kind uint16) *dns.Msg {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := n.pod.DialContext(ctx, network, server)
	require.NoError(t, err)
	defer conn.Close()
	reply, _, err := (&dns.Client{Timeout: 20 * time.Second}).ExchangeWithConnContext(ctx, new(dns.Msg).SetQuestion(name, kind), &dns.Conn{Conn: conn})
	require.NoError(t, err)
	return reply
}

// A pod asks a server in another namespace, over both families and both protocols, and sees every change at once.
func TestPodAsks(t *testing.T) {
	n := newNetwork(t)
	dir := t.TempDir()
	manifest := func(ip string) {
		text := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: %s, ports: [{name: http, port: 80}]}\n", ip)
		path := filepath.Join(dir, "web.yaml")
		require.NoError(t, os.WriteFile(path+".tmp", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".tmp", path))
	}
	manifest("10.96.0.10")
	serve(t, "-f", dir, "-netns", n.server.Path(), "-listen", ":53")
	servers := []string{"10.1.0.1:53", "[fd00:1::1]:53"}
	address := func(server, network string) string {
		if reply := n.ask(t, network, server, "web.shop.svc.cluster.local.", dns.TypeA); len(reply.Answer) == 1 {
			return reply.Answer[0].(*dns.A).A.String()
		}
		return ""
	}
	kerneltest.Eventually(t, "the manifests are read", func() bool { return address(servers[0], "udp") != "" })
	for i, want := range []string{"10.96.0.10", "10.96.0.11", "10.96.0.12"} {
		if i > 0 {
			manifest(want)
			kerneltest.Eventually(t, "the change is seen", func() bool { return address(servers[0], "udp") == want })
		}
		for _, server := range servers {
			for _, network := range []string{"udp", "tcp"} {
				require.Equal(t, want, address(server, network))
			}
		}
	}
}

func TestReadme(t *testing.T) {
	t.Parallel()
	machine := &kerneltest.Machine{Name: "dns"}
	for _, question := range []string{"web.shop.svc.cluster.local", "_sql._tcp.db.shop.svc.cluster.local SRV", "payments.shop.svc.cluster.local A", "nobody.shop.svc.cluster.local A"} {
		var out, errs strings.Builder
		args := append([]string{"-f", "shop", "ask"}, strings.Fields(question)...)
		require.Zero(t, agent.Run(t.Context(), args, &out, &errs), errs.String())
		readme, err := os.ReadFile("README.md")
		require.NoError(t, err)
		machine.Readme(t, string(readme), "go run ./examples/dns -f examples/dns/shop ask "+question, "dns", out.String())
	}
}

// The arguments in the manifest are ones that the program takes: all that it lacks here is a cluster.
func TestDeployment(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("deployment.yaml")
	require.NoError(t, err)
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	kinds := map[string]bool{}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		object, kind, err := decoder.Decode([]byte(document), nil, nil)
		require.NoError(t, err)
		kinds[kind.Kind] = true
		if deployment, ok := object.(*appsv1.Deployment); ok {
			var errs strings.Builder
			require.Equal(t, run.Failed, agent.Run(t.Context(), deployment.Spec.Template.Spec.Containers[0].Args, io.Discard, &errs))
			require.Contains(t, errs.String(), "-f DIR takes the objects from manifests instead")
		}
	}
	require.Len(t, kinds, 5)
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"one place":                 {"-f", "shop", "-kubeconfig", "x"},
		"no type of records":        {"-f", "shop", "ask", "a", "BOGUS"},
		"the name is missing":       {"-f", "shop", "ask"},
		"no such file or directory": {"-f", "nowhere", "-listen", "127.0.0.1:0"},
		"upstream[0]":               {"-f", "shop", "-listen", "127.0.0.1:0", "-upstream", "0.0.0.0:53"},
		"(did you mean":             {"-f", "shop", "-listen", "127.0.0.1:0", "-reverse", "10.96.0.1/16"},
	} {
		var errs strings.Builder
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		require.NotZero(t, agent.Run(ctx, args, io.Discard, &errs), want)
		cancel()
		require.Contains(t, errs.String(), want)
	}
}
