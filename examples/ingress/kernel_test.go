package main_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	main "github.com/podplumb/podplumb/examples/ingress"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m, main.Run)) }

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

// topology is a client, a node and a pod, in namespaces of their own, each with both families. The pod has a server at each of two
// ports.
func topology(t *testing.T, name string) (node, client *netns.NS) {
	t.Helper()
	kerneltest.Require(t)
	create := func(of string) *netns.NS {
		of = "podplumb-" + name + "-" + of
		ns, err := netns.Create(of)
		require.NoError(t, err)
		t.Cleanup(func() { _ = ns.Close(); require.NoError(t, netns.Remove(of)) })
		return ns
	}
	node, pod, client := create("node"), create("pod"), create("client")
	links, err := veth.New(veth.Config{NetNS: node})
	require.NoError(t, err)
	defer links.Close()
	p := netip.MustParsePrefix
	attach := func(name string, ns *netns.NS, last string) veth.Pair {
		return veth.Pair{Host: veth.Host{Name: name, Bridge: "cni0"}, Pod: veth.Pod{NetNS: ns.Path(), Name: "eth0", Addresses: []netip.Prefix{p("10.1.0." + last + "/24"), p("fd00:1::" + last + "/64")}}}
	}
	_, err = links.Sync(t.Context(), veth.State{
		Bridges: []veth.Bridge{{Name: "cni0", Addresses: []netip.Prefix{p("10.1.0.1/24"), p("fd00:1::1/64")}}},
		Pairs:   []veth.Pair{attach("pod", pod, "2"), attach("client", client, "3")},
	})
	require.NoError(t, err)
	for _, port := range []string{"8081", "8082"} {
		l, err := pod.Listen(t.Context(), "tcp", ":"+port)
		require.NoError(t, err)
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s of %s for %s", port, r.URL.Path, r.Header.Get("X-Forwarded-For"))
		})}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close() })
	}
	return node, client
}

// run runs the ingress until the test ends, and returns what it writes.
func run(t *testing.T, args ...string) (stdout, stderr *buffer) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	stdout, stderr = new(buffer), new(buffer)
	go func() { done <- main.Run(ctx, args, stdout, stderr) }()
	t.Cleanup(func() { cancel(); require.Zero(t, <-done, stderr.String()) })
	return stdout, stderr
}

// A client asks a node, whose ingress asks pods, over both families; the manifests change meanwhile.
func TestNodeAndPods(t *testing.T) {
	node, client := topology(t, "ingress")
	dir := t.TempDir()
	manifest := func(address, port string) {
		family := "IPv4"
		if strings.Contains(address, ":") {
			family = "IPv6"
		}
		text := fmt.Sprintf(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec: {rules: [{host: shop.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}
---
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: %s
ports: [{name: "", port: %s}]
endpoints: [{addresses: ["%s"]}]
`, family, port, address)
		path := filepath.Join(dir, "all.yaml")
		require.NoError(t, os.WriteFile(path+".tmp", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".tmp", path))
	}
	manifest("10.1.0.2", "8081")

	stdout, _ := run(t, "-f", dir, "-netns", node.Path(), "-http", ":80")

	outside := &http.Client{Transport: &http.Transport{DialContext: client.DialContext, DisableKeepAlives: true}, Timeout: 20 * time.Second}
	ask := func(address string) string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/cart", nil)
		require.NoError(t, err)
		r.Host = "shop.example"
		response, err := outside.Do(r)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return string(body)
	}
	for _, c := range [][2]string{{"10.1.0.2", "8081"}, {"fd00:1::2", "8082"}, {"10.1.0.2", "8082"}} {
		manifest(c[0], c[1])
		want := c[1] + " of /cart for "
		kerneltest.Eventually(t, "the change is served", func() bool { return ask("10.1.0.1") == want+"10.1.0.3" })
		require.Equal(t, want+"fd00:1::3", ask("[fd00:1::1]"))
	}
	require.Contains(t, stdout.String(), `"path":"/cart"`)
}

func TestReadme(t *testing.T) {
	t.Parallel()
	machine := &kerneltest.Machine{Name: "ingress"}
	for _, command := range []string{
		"-f shop route shop.example/api/v1/orders", "-f shop route shop.example/web/js/app.js", "-f shop route other.example/",
		"-f gatewayshop -gateway-address 192.0.2.0/28 status",
		"-f gatewayshop -gateway-address 192.0.2.0/28 route shop.example/api/v1/orders",
		"-f gatewayshop -gateway-address 192.0.2.0/28 route shop.example/web/cart",
		"-f gatewayshop -gateway-address 192.0.2.0/28 route shop.example/web/js/app.js",
		"-f gatewayshop -gateway-address 192.0.2.0/28 route shop.example/shop/cart",
		"-f gatewayshop -gateway-address 192.0.2.0/28 route POST grpc.shop.example/shop.Cart/Add",
	} {
		var out, errs strings.Builder
		require.Zero(t, main.Run(t.Context(), strings.Fields(command), &out, &errs), errs.String())
		readme, err := os.ReadFile("README.md")
		require.NoError(t, err)
		machine.Readme(t, string(readme), "go run ./examples/ingress "+strings.Replace(command, "-f ", "-f examples/ingress/", 1), "ingress", out.String())
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"nothing to serve":          {"-f", "shop"},
		"one place":                 {"-f", "shop", "-http", "127.0.0.1:0", "-kubeconfig", "x"},
		"no such file or directory": {"-f", "nowhere", "-http", "127.0.0.1:0"},
		"what is missing is":        {"-f", "shop", "route"},
		"is no header":              {"-f", "shop", "route", "a.b/", "x"},
		"unexpected argument":       {"-f", "shop", "extra"},
		"status: unexpected":        {"-f", "shop", "status", "extra"},
	} {
		var errs strings.Builder
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		require.NotZero(t, main.Run(ctx, args, io.Discard, &errs), want)
		cancel()
		require.Contains(t, errs.String(), want)
	}
}
