package main_test

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/netns"
)

// inPod runs a program as `ip netns exec` does, and returns what it says.
func inPod(t *testing.T, ns *netns.NS, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	args := strings.Fields(command)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, ns.StartMounted(cmd))
	_ = cmd.Wait() // the output tells more
	return out.String()
}

// Programs in pods find Services by the resolv.conf that they have there, over UDP and TCP, while policies are in force and when the
// program that built the cluster is gone; and what the cluster's objects are told to be shows at once.
func TestNamesInPods(t *testing.T) {
	kerneltest.RequireHost(t, "getent", "dig", "busybox")
	machine := kerneltest.NewMachine(t)
	machine.Run(t, 0, "-keep")
	pod, err := netns.OpenName("podplumb-" + machine.Name + ".pod.default.pod-4")
	require.NoError(t, err)
	defer pod.Close()
	require.Equal(t, "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.53\nnameserver fd00:10:96::35\noptions ndots:5\n",
		inPod(t, pod, "cat /etc/resolv.conf"))
	for command, want := range map[string]string{
		"getent ahostsv4 my-service":                                            "10.96.0.10",
		"getent ahostsv6 my-service.default":                                    "fd00:10:96::a",
		"getent ahostsv4 shop":                                                  "10.96.0.10",
		"getent hosts 10.96.0.10":                                               "my-service.default.svc.cluster.local",
		"dig +search +short myapp.default.svc A":                                "10.244.2.3\n",
		"dig +short @10.96.0.53 my-service.default.svc.cluster.local AAAA +tcp": "fd00:10:96::a\n",
		"dig +short @fd00:10:96::35 -x fd00:10:96::a":                           "my-service.default.svc.cluster.local.\n",
		"dig +short _http._tcp.myapp.default.svc.cluster.local SRV":             "8080 10-244-1-5.myapp.default.svc.cluster.local.\n",
		"dig nobody.default.svc.cluster.local":                                  "status: NXDOMAIN",
		"dig svc.cluster.local":                                                 "status: NOERROR",
		"busybox nslookup my-service.default.svc.cluster.local":                 "Address: 10.96.0.10\n",
	} {
		require.Contains(t, inPod(t, pod, command), want, command)
	}
	// The containers themselves find them too: this one asks another by its Service's name.
	answer, err := container.AskThrough(t.Context(), pod.DialContext, netip.MustParseAddrPort("10.244.2.4:80"), "my-service:80")
	require.NoError(t, err)
	require.Contains(t, []string{"pod-1", "pod-2", "pod-3"}, answer.Pod)

	path := filepath.Join(run.Dir, machine.Name, "objects", "later.json")
	require.NoError(t, os.WriteFile(path, []byte(`{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "later"}, "spec": {"clusterIP": "10.96.7.7"}}`), 0o600))
	kerneltest.Eventually(t, "the new Service has a name", func() bool {
		return inPod(t, pod, "dig +short later.default.svc.cluster.local") == "10.96.7.7\n"
	})
	machine.Run(t, 0, "-down")
	require.NoDirExists(t, filepath.Join("/etc/netns", pod.Name()))
}

// A cluster may have a DNS server of its own, and pods ways of their own to find names.
func TestOwnNames(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	stdout, stderr := machine.Run(t, 0, "-v", "-nodes", "1", "-f", directory(t, `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: names, namespace: kube-system, labels: {app: names}}
spec: {containers: [{name: dns, image: podplumb/dns, args: [-listen, ':5353', -metrics, ':9153'], ports: [{name: d, containerPort: 5353, protocol: UDP}, {name: dt, containerPort: 5353}],
  readinessProbe: {httpGet: {path: /ready, port: 9153}}}]}
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.99, selector: {app: names}, ports: [{name: d, port: 53, protocol: UDP, targetPort: d}, {name: dt, port: 53, targetPort: dt}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, namespace: shop, labels: {app: db}}
spec: {hostname: db-0, subdomain: db, containers: [{name: c, ports: [{name: sql, containerPort: 5432}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db-1, namespace: shop, labels: {app: db}}
spec: {hostname: db-1, subdomain: db, dnsConfig: {searches: [kube-system.svc.cluster.local], options: [{name: ndots, value: '2'}]}, containers: [{name: c, ports: [{name: sql, containerPort: 5433}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: sql, port: 5432, targetPort: sql}]}
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: shop}
spec: {clusterIP: None, selector: {app: nothing}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: shell, annotations: {podplumb.github.io/command: 'ask db-1.db.shop:5433'}}
spec: {containers: [{name: c}]}
`))
	require.Equal(t, "warning: no document declares a Node: 1 are made up\n", stderr)
	for _, want := range []string{
		"ok      Service kube-system/kube-dns at 10.96.0.99:53/UDP\n",
		"  shop/db-0  SRV _sql._tcp.db.shop.svc.cluster.local: 5432 db-0.db.shop.svc.cluster.local 5433 db-1.db.shop.svc.cluster.local\n",
		"  shop/db-0  PTR 10.244.1.3: db-0.db.shop.svc.cluster.local\n",
		"  shop/db-0  A empty: none\n",
		"  kube-system/names  A empty.shop: none\n",
		`| {"pod":"shop/db-1",`,
	} {
		require.Contains(t, stdout, want)
	}
}
