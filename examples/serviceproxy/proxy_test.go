package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/netns"
)

// proxy is the program under test, running on the lab's node.
type proxy struct {
	*kerneltest.Example
	ns *netns.NS
}

// common is the flags of every run.
func common() []string {
	return []string{"--hostname-override", nodeName, "--cluster-cidr", "10.244.0.0/24,fd44::/64"}
}

// start starts the program and waits until it has served all that there is.
func start(t testing.TB, l *lab, args ...string) *proxy {
	t.Helper()
	p := launch(t, l, args...)
	p.synced(t)
	return p
}

// launch starts it and does not wait.
func launch(t testing.TB, l *lab, args ...string) *proxy {
	t.Helper()
	return &proxy{Example: kerneltest.StartIn(t, l.node, append(common(), args...)...), ns: l.node}
}

// synced waits for the first turn.
func (p *proxy) synced(t testing.TB) {
	t.Helper()
	eventually(t, func() bool { return p.metric(t, "kubeproxy_sync_proxy_rules_last_timestamp_seconds") > 0 }, func() string { return "the first turn of the proxy:\n" + p.Stderr() })
}

// end stops it as a service manager does.
func (p *proxy) end(t testing.TB) {
	t.Helper()
	p.Signal(syscall.SIGTERM)
	require.Equal(t, 0, p.Wait(t), p.Stderr())
}

// get asks one of its HTTP servers.
func get(ns *netns.NS, url string) (status int, body string, header http.Header, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", nil, err
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: ns.DialContext}}).Do(request)
	if err != nil {
		return 0, "", nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), response.Header, err
}

// metric reads a metric; 0 when it cannot be had.
func (p *proxy) metric(t testing.TB, name string) float64 {
	t.Helper()
	_, body, _, err := get(p.ns, "http://127.0.0.1:10249/metrics")
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(body)
	if err != nil || found == nil {
		return 0
	}
	value, err := strconv.ParseFloat(found[1], 64)
	require.NoError(t, err)
	return value
}

// answers waits until a URL has a status, and returns the body.
func answers(t testing.TB, ns *netns.NS, url string, status int) (body string, header http.Header) {
	t.Helper()
	var got int
	var err error
	eventually(t, func() bool {
		got, body, header, err = get(ns, url)
		return got == status
	}, func() string { return fmt.Sprintf("%s answers %d, %v", url, got, err) })
	return body, header
}

// ruleset is what nft shows of the node, with the handles that tell an element from one that has been made again. Counters
// and what clients did are left out.
func ruleset(t testing.TB, ns *netns.NS) string {
	t.Helper()
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip("needs nft")
	}
	cmd := exec.Command(nft, "-a", "list", "ruleset")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, ns.Start(cmd))
	require.NoError(t, cmd.Wait(), out.String())
	return owner.ReplaceAllString(out.String(), "")
}

// owner is what nft shows of who owns a table.
var owner = regexp.MustCompile(`(?m) progname .*$|^\tflags .*\n|^\t$\n`)

// unchanged requires that the node's ruleset is what it was.
func unchanged(t testing.TB, ns *netns.NS, before string) {
	t.Helper()
	now := ruleset(t, ns)
	if now == before {
		return
	}
	for line := range strings.Lines(now) {
		if !strings.Contains(before, line) {
			t.Errorf("new: %s", line)
		}
	}
	for line := range strings.Lines(before) {
		if !strings.Contains(now, line) {
			t.Errorf("gone: %s", line)
		}
	}
	t.Fatal("the ruleset is not what it was")
}

// write makes or changes a manifest in the way that editors do: a new file takes the place of the old one.
func write(t testing.TB, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "."+name), []byte(text), 0o644))
	require.NoError(t, os.Rename(filepath.Join(dir, "."+name), filepath.Join(dir, name)))
}

// serviceText is a Service with a cluster IP of each family, and its own choice of the rest.
func serviceText(n int, rest string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: svc-%d}
spec:
  clusterIPs: [%q, %q]
  ports:
  - {name: tcp, port: 80, targetPort: 8080%s}
  - {name: udp, port: 80, protocol: UDP, targetPort: 8080}
`, n, clusterIP(n, 0), clusterIP(n, 1), rest)
}

// sliceText is the EndpointSlices of that Service, of both families, with these pods.
func sliceText(n int, pods ...int) string {
	var text strings.Builder
	for family, kind := range []string{"IPv4", "IPv6"} {
		fmt.Fprintf(&text, `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: svc-%d-%d, labels: {kubernetes.io/service-name: svc-%d}}
addressType: %s
ports: [{name: tcp, port: 8080}, {name: udp, port: 8080, protocol: UDP}]
endpoints:
`, n, family, n, kind)
		for _, pod := range pods {
			fmt.Fprintf(&text, "- {addresses: [%q], nodeName: %s}\n", podAddr(pod, family), nodeName)
		}
		if len(pods) == 0 {
			text.WriteString("  []\n")
		}
	}
	return text.String()
}
