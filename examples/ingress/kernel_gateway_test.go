package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

// A Gateway serves both families at addresses of the node. Its listeners open and close as the manifest says, and what is open
// already stays; an Ingress is served beside it.
func TestGatewayListenersComeAndGo(t *testing.T) {
	node, client := topology(t, "gateway")
	path := filepath.Join(t.TempDir(), "all.yaml")
	manifest := func(port int, prefix string) {
		text := fmt.Sprintf(`
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: c}, spec: {controllerName: podplumb.github.io/ingress}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec: {gatewayClassName: c, listeners: [{name: http, port: %d, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec: {parentRefs: [{name: g}], rules: [{matches: [{path: {value: %s}}], backendRefs: [{name: web, port: 80}]}]}
---
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-4, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: "", port: 8081}], endpoints: [{addresses: [10.1.0.2]}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-6, labels: {kubernetes.io/service-name: web}}, addressType: IPv6, ports: [{name: "", port: 8081}], endpoints: [{addresses: ["fd00:1::2"]}]}
---
{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i}, spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}}
`, port, prefix)
		require.NoError(t, os.WriteFile(path+".tmp", []byte(text), 0o600))
		require.NoError(t, os.Rename(path+".tmp", path))
	}
	manifest(80, "/a")
	_, stderr := run(t, "-f", path, "-netns", node.Path(), "-gateway-address", "10.1.0.1,fd00:1::1", "-http", ":8000", "-quiet")
	outside := &http.Client{Transport: &http.Transport{DialContext: client.DialContext, DisableKeepAlives: true}, Timeout: 20 * time.Second}
	ask := func(address, path string) string {
		response, err := outside.Get("http://" + address + path)
		if err != nil {
			return "no connection"
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return fmt.Sprint(response.StatusCode, " ", string(body))
	}
	both := func(port, path, four, six string) {
		t.Helper()
		kerneltest.Eventually(t, port+path+" "+stderr.String(), func() bool { return ask("10.1.0.1:"+port, path) == four && ask("[fd00:1::1]:"+port, path) == six })
	}
	both("80", "/a", "200 8081 of /a for 10.1.0.3", "200 8081 of /a for fd00:1::3")
	both("80", "/b", "404 no rule for this host and path\n", "404 no rule for this host and path\n")
	both("8000", "/b", "200 8081 of /b for 10.1.0.3", "200 8081 of /b for fd00:1::3")

	kept, err := client.DialContext(t.Context(), "tcp", "[fd00:1::1]:80")
	require.NoError(t, err)
	defer kept.Close()
	answers := bufio.NewReader(kept)
	onKept := func() int {
		fmt.Fprint(kept, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n")
		response, err := http.ReadResponse(answers, nil)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode
	}
	require.Equal(t, http.StatusNotFound, onKept())
	manifest(80, "/b")
	both("80", "/b", "200 8081 of /b for 10.1.0.3", "200 8081 of /b for fd00:1::3")
	require.Equal(t, http.StatusOK, onKept(), "a connection from before follows the routes")
	manifest(81, "/b")
	both("81", "/b", "200 8081 of /b for 10.1.0.3", "200 8081 of /b for fd00:1::3")
	both("80", "/b", "no connection", "no connection")
}
