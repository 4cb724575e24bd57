package main_test

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	main "github.com/podplumb/podplumb/examples/cluster"
	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/netns"
)

//go:embed README.md
var readme string

//go:embed shop
var shop embed.FS

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m, main.Run)) }

func TestShipped(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	begin := time.Now()
	stdout, stderr := machine.Run(t, 0)
	if os.Getenv("PODPLUMB_IN_GUEST") != "1" { // an emulated processor is many times slower
		require.Less(t, time.Since(begin), 10*time.Second)
	}
	require.Empty(t, stderr)
	require.NotContains(t, stdout, "FAILED")
	require.NotContains(t, stdout, "\x1b", "colour where there is no terminal")
	for _, want := range []string{
		"\nok      1. every pod has an address of its own: 6 pods, 12 addresses",
		"\nok      2. every pod reaches every other pod without NAT: 60 connections between 30 pairs of pods\n",
		"\nok      3. every node reaches every pod without NAT: 24 connections from 2 nodes to 6 pods\n",
		"\nok      4. the address that a pod sees itself as is the one that others see: ",
		"\nok      Service my-service at 10.96.0.10:80/TCP\n",
		"\nok      Service my-service at [fd00:10:96::a]:80/TCP\n",
		"\nok      Service kube-system/kube-dns at [fd00:10:96::35]:53/UDP\n",
		"\nok      names: ",
		"          pod-1  A myapp: 10.244.1.5 10.244.1.6 10.244.2.3\n",
	} {
		require.Contains(t, stdout, want)
	}
	machine.Readme(t, readme, "sudo go run ./examples/cluster", "demo", stdout)
}

func TestOrdinaryApplication(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, shop))
	dir = filepath.Join(dir, "shop")
	stdout, stderr := machine.Run(t, 0, "-f", dir)
	require.Equal(t, "warning: shop.yaml: document 4 (line 85): v1 ConfigMap settings: this kind is not run here and was passed over\n"+
		"warning: no document declares a Node: 2 are made up\n", stderr)
	require.Contains(t, stdout, "\nok      Service shop/web at [fd00:10:96::2]:9090/TCP\n")
	require.Contains(t, stdout, "\nok      Service shop/names at 10.96.0.3:53/UDP\n")
	machine.Run(t, 0, "-f", filepath.Join(dir, "shop.yaml"), "-nodes", "1")
}

// directory writes manifests into a new directory.
func directory(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(text), 0o644))
	return dir
}

const podText = `
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %[1]s}, annotations: {%s}}
spec: {containers: [{name: c%s}]}
---
`

func TestClusters(t *testing.T) {
	const myapp = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: myapp}
spec:
  replicas: 3
  selector: {matchLabels: {app: myapp}}
  template: {metadata: {labels: {app: myapp}}, spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}}
---
`
	service := func(name, spec string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {selector: {app: %s}, ipFamilyPolicy: RequireDualStack, %s}\n---\n", name, name, spec)
	}
	tests := map[string]struct {
		text string
		args []string
		code int
		want []string
	}{
		"no pods": {text: "apiVersion: v1\nkind: Namespace\nmetadata: {name: empty}\n",
			want: []string{"ok      1. every pod has an address of its own: 0 pods"}},
		"one pod": {text: fmt.Sprintf(podText, "a", "", ", ports: [{containerPort: 80}]"), args: []string{"-nodes", "1"},
			want: []string{"ok      3. every node reaches every pod without NAT: 2 connections from 1 node to 1 pod", "ok      4."}},
		"pods without ports": {text: fmt.Sprintf(podText, "a", "", "") + fmt.Sprintf(podText, "b", "", ""),
			want: []string{"ok      2. every pod reaches every other pod without NAT: 4 connections between 2 pairs of pods"}},
		"a service without pods": {text: fmt.Sprintf(podText, "a", "", "") + service("none", "ports: [{name: t, port: 80}, {name: u, port: 53, protocol: UDP}]"),
			want: []string{"ok      Service none at 10.96.0.2:80/TCP", "ok      Service none at [fd00:10:96::2]:53/UDP", "no pod behind it: refused at once"}},
		"a pod that is its own only client": {text: fmt.Sprintf(podText, "a", "", ", ports: [{containerPort: 80}]") + service("a", "ports: [{port: 80}]"),
			want: []string{"from a       20 requests: a 20"}},
		"three nodes and a crowd": {args: []string{"-nodes", "3"}, text: `
apiVersion: apps/v1
kind: Deployment
metadata: {name: crowd}
spec:
  replicas: 12
  selector: {matchLabels: {app: crowd}}
  template: {metadata: {labels: {app: crowd}}, spec: {containers: [{name: c, ports: [{name: web, containerPort: 8080}]}]}}
---
` + service("crowd", "ports: [{port: 80, targetPort: web}]"),
			want: []string{"264 connections between 132 pairs of pods", "ok      Service crowd at [fd00:10:96::2]:80/TCP", " requests to 12 pods, "}},
		"a cluster with addresses of its own": {text: `
apiVersion: v1
kind: Node
metadata: {name: m1}
spec: {podCIDR: 10.42.0.0/24}
status: {addresses: [{type: InternalIP, address: 192.168.1.10}]}
---
apiVersion: v1
kind: Node
metadata: {name: m2}
spec: {podCIDRs: ['fd42:1::/64', 10.42.1.0/24]}
status: {addresses: [{type: InternalIP, address: 'fd00:192::11'}, {type: InternalIP, address: 192.168.2.11}]}
---
` + fmt.Sprintf(podText, "a", "", ", ports: [{containerPort: 80}]") + fmt.Sprintf(podText, "b", "", "") + service("a", "clusterIPs: [10.43.7.7, 'fd43::7'], ports: [{port: 80}]"),
			want: []string{"ok      pods reach the world outside", "ok      Service a at 10.43.7.7:80/TCP", "ok      Service a at [fd43::7]:80/TCP", "fd42:1::2"}},
		"a sidecar among the init containers": {text: strings.Replace(fmt.Sprintf(podText, "a", "", ", ports: [{containerPort: 80}]"), "spec: {",
			"spec: {initContainers: [{name: once, ports: [{containerPort: 80}]}, {name: proxy, restartPolicy: Always, ports: [{name: admin, containerPort: 15000}]}], ", 1) + service("a", "ports: [{port: 80, targetPort: admin}]"),
			want: []string{"proxy 15000/TCP, c 80/TCP", "ok      Service a at 10.96.0.2:80/TCP"}},
		"local traffic only": {text: fmt.Sprintf(podText, "a", "", ", ports: [{containerPort: 80}]") + fmt.Sprintf(strings.ReplaceAll(podText, "name: %s, labels: {app: %[1]s}", "name: %s, labels: {app: a}"), "a2", "", ", ports: [{containerPort: 80}]") +
			service("a", "internalTrafficPolicy: Local, ports: [{port: 80}]"),
			want: []string{"from node-a  20 requests: a 20", "from node-b  20 requests: a2 20"}},
		"a node port, as in the article": {text: myapp + `
apiVersion: v1
kind: Service
metadata:
  name: my-service
spec:
  type: NodePort
  selector:
    app: myapp
  ports:
  - port: 80
    targetPort: 8080
    nodePort: 30080
`, want: []string{"my-service  NodePort  10.96.0.2    -         80:30080/TCP -> 8080", "ok      Service my-service, port 80/TCP, from outside",
			"node port of node-a 10.0.0.1:30080  60 requests: ", "node port of node-b 10.0.0.2:30080  60 requests: "}},
		"a load balancer, as in the article": {text: myapp + `
apiVersion: v1
kind: Service
metadata:
  name: my-service
spec:
  type: LoadBalancer
  selector:
    app: myapp
  ports:
  - port: 80
    targetPort: 8080
`, want: []string{"my-service  LoadBalancer  10.96.0.2    203.0.113.1  80:30000/TCP -> 8080", "load balancer 203.0.113.1:80"}},
		"external IPs and clients that stay with their pod": {text: myapp + service("myapp", "sessionAffinity: ClientIP, externalIPs: [198.51.100.7, '2001:db8:7::7'], ports: [{port: 80, targetPort: 8080}]"),
			want: []string{"external IP 198.51.100.7:80 ", "external IP [2001:db8:7::7]:80 ", " requests: all to myapp-"}},
		"a load balancer for some": {text: myapp + service("myapp", "type: LoadBalancer, loadBalancerSourceRanges: [198.51.100.0/24, '2001:db8:5::/64', 192.0.2.128/25], ports: [{port: 80, targetPort: 8080}]"),
			want: []string{"load balancer 203.0.113.1:80            dropped: outside is not in loadBalancerSourceRanges\n", "node port of node-b 10.0.0.2:30000      60 requests: "}},
		"a load balancer that keeps the clients' addresses": {text: fmt.Sprintf(podText, "myapp", "", ", ports: [{containerPort: 8080}]") +
			service("myapp", "type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80, targetPort: 8080}]"),
			want: []string{"node port of node-a 10.0.0.1:30000      20 requests: myapp 20", "node port of node-b [fd00:10::2]:30000  dropped: no pod of it on node-b", "load balancer [2001:db8:113::1]:80      20 requests: myapp 20"}},
		"a command in place of a container": {text: fmt.Sprintf(podText, "a", `podplumb.github.io/command.c: "echo $POD_NAMESPACE $POD_NAME $POD_IPS on $NODE_NAME; read line"`, ", ports: [{containerPort: 80}]"),
			want: []string{"ok      command of a, container c: is running", "| default a 10.244.1.2,fd00:10:244:1::2 on node-a", "c 80/TCP (command)"}},
		"a command that fails": {text: fmt.Sprintf(podText, "a", `podplumb.github.io/command: "echo oh no; exit 3"`, ""), code: 1,
			want: []string{"FAILED  command of a: exit status 3", "| oh no"}},
		"a service in front of a command": {text: fmt.Sprintf(podText, "a", `podplumb.github.io/command.c: "read line"`, ", ports: [{containerPort: 80}]") + service("a", "ports: [{port: 80}]"), code: 1,
			want: []string{"FAILED  Service a at 10.96.0.2:80/TCP", "connection refused"}},
		"a name too long for a namespace": {text: fmt.Sprintf(podText, "a", "", "") + strings.Replace(fmt.Sprintf(podText, "b", "", ""), "name: b,", "name: b"+strings.Repeat(".b", 126)+",", 1),
			want: []string{"ok      2. every pod reaches every other pod without NAT: 4 connections between 2 pairs of pods"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			machine := kerneltest.NewMachine(t)
			stdout, _ := machine.Run(t, test.code, append([]string{"-dns=false", "-f", directory(t, test.text)}, test.args...)...)
			for _, want := range test.want {
				require.Contains(t, stdout, want)
			}
		})
	}
}

func TestMalformed(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	dir := directory(t, fmt.Sprintf(podText, "a", "", ", port: 80")+"kind: Pod\n")
	stdout, stderr := machine.Run(t, 2, "-f", dir)
	require.Empty(t, stdout)
	require.Equal(t, "cluster: "+dir+":\n"+
		"a.yaml: document 1 (line 2): Pod default/a: spec.containers[0].port: unknown field\n"+
		"a.yaml: document 2 (line 7): apiVersion: required\n", stderr)
	_, stderr = machine.Run(t, 2, "-f", filepath.Join(dir, "missing"))
	require.Contains(t, stderr, "no such file or directory")
	_, stderr = machine.Run(t, 2, "-f", t.TempDir())
	require.Contains(t, stderr, "no .yaml, .yml or .json file")
	machine.Run(t, 2, "-no-such-flag")
	machine.Run(t, 2, "-nodes", "0")
	machine.Run(t, 0, "-h")
}

func TestKeepAndDown(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	stdout, _ := machine.Run(t, 0, "-keep")
	pod := "podplumb-" + machine.Name + ".pod.default.pod-4"
	require.Contains(t, stdout, "ip netns exec podplumb-"+machine.Name+".pod.default.pod-1 sh\n")
	require.Contains(t, stdout, "-down -name "+machine.Name+"\n")
	require.NotContains(t, stdout, "taken down")

	// What was proved still holds when the program that built it is gone.
	ns, err := netns.OpenName(pod)
	require.NoError(t, err)
	defer ns.Close()
	for _, frontend := range []string{"10.96.0.10:80", "[fd00:10:96::a]:80"} {
		asked, err := container.Ask(context.Background(), ns.DialContext, netip.MustParseAddrPort(frontend))
		require.NoError(t, err)
		require.Contains(t, []string{"pod-1", "pod-2", "pod-3"}, asked.Pod)
		require.Equal(t, asked.From, asked.Client)
	}

	// Another run does not take it away, and says what to do.
	before := machine.Traces(t)
	_, stderr := machine.Run(t, 1)
	require.Contains(t, stderr, "remove it with -down -name "+machine.Name)
	require.Equal(t, before, machine.Traces(t))

	stdout, _ = machine.Run(t, 0, "-down")
	require.Equal(t, "taken down: 10 namespaces and 9 processes\n", stdout)
	machine.NothingLeft(t)
	stdout, _ = machine.Run(t, 0, "-down")
	require.Equal(t, fmt.Sprintf("nothing to remove: no cluster %q is here\n", machine.Name), stdout)
	machine.Run(t, 0)
}

// Some kernels show bridged packets to netfilter and some do not. Services have to work on both, also between pods of one node.
func TestBridgeNetfilterOff(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	machine.Run(t, 0, "-keep", "-dns=false")
	open := func(name string) *netns.NS {
		ns, err := netns.OpenName("podplumb-" + machine.Name + "." + name)
		require.NoError(t, err)
		t.Cleanup(func() { ns.Close() })
		return ns
	}
	for _, node := range []string{"node.node-a", "node.node-b"} {
		for _, key := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
			if err := open(node).SetSysctl(key, "0"); !errors.Is(err, fs.ErrNotExist) { // without the setting it is off
				require.NoError(t, err)
			}
		}
	}
	for _, pod := range []string{"pod-1", "pod-3", "pod-4"} {
		ns := open("pod.default." + pod)
		for _, frontend := range []string{"10.96.0.10:80", "[fd00:10:96::a]:80"} {
			seen := map[string]int{}
			for range 40 {
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
				asked, err := container.Ask(ctx, ns.DialContext, netip.MustParseAddrPort(frontend))
				cancel()
				require.NoErrorf(t, err, "%s, after %v", pod, seen)
				seen[asked.Pod]++
			}
			require.Lenf(t, seen, 3, "%v", seen)
		}
	}
	machine.Run(t, 0, "-down")
}
