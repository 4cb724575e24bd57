package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

// A directory is followed while its files change in every way that files do.
func TestDirectory(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	dir := t.TempDir()
	write(t, dir, "one.yaml", serviceText(1, "")+sliceText(1, 0, 1))
	p := start(t, l, "--manifests", dir, "--service-cidr", "10.96.0.0/16,fd96::/112")
	both := func(ns int, n int, servers ...string) {
		t.Helper()
		for family := range 2 {
			for _, network := range []string{"tcp", "udp"} {
				reaches(t, l.pods[ns], network, netip.AddrPortFrom(clusterIP(n, family), 80), servers...)
			}
		}
	}
	both(2, 1, "pod-0", "pod-1")

	// A file comes, and one changes.
	write(t, dir, "two.yaml", serviceText(2, "")+sliceText(2, 2))
	both(2, 2, "pod-2")
	write(t, dir, "two.yaml", serviceText(2, "")+sliceText(2, 0))
	both(2, 2, "pod-0")

	// What cannot be read, or is faulty, or claims what others have, stops nobody; what was there stays.
	write(t, dir, "two.yaml", serviceText(2, "")+sliceText(2, 1)+"---\nkind: {")
	write(t, dir, "three.yaml", strings.Replace(serviceText(3, ""), "port: 80,", "port: 80000,", 1)+"---"+strings.Replace(serviceText(4, ""), clusterIP(4, 0).String(), clusterIP(1, 0).String(), 1)+
		"---"+serviceText(5, "")+sliceText(5, 2))
	both(2, 5, "pod-2")
	both(2, 2, "pod-1")
	both(2, 1, "pod-0", "pod-1")
	for _, want := range []string{"two.yaml: document 4", "Service default/svc-3", "80000 is not in 1-65535", "Service default/svc-4", "conflict with services[default/svc-1]"} {
		eventually(t, func() bool { return strings.Contains(p.Stderr(), want) }, func() string { return want + " in the log\n" + p.Stderr() })
	}
	count := func() float64 { return p.metric(t, "podplumb_serviceproxy_refused_objects") }
	eventually(t, func() bool { return count() == 2 }, func() string { return fmt.Sprint(count()) })

	// When the one that had it goes, the other gets it.
	require.NoError(t, os.Remove(filepath.Join(dir, "one.yaml")))
	write(t, dir, "four.yaml", sliceText(4, 2))
	reaches(t, l.pods[2], "tcp", netip.AddrPortFrom(clusterIP(1, 0), 80), "pod-2")

	// A file that is written slowly, in place: nothing that it had goes meanwhile.
	file, err := os.OpenFile(filepath.Join(dir, "two.yaml"), os.O_WRONLY|os.O_TRUNC, 0)
	require.NoError(t, err)
	defer file.Close()
	text := serviceText(2, "") + sliceText(2, 2)
	for part := range strings.SplitAfterSeq(text, "\n") {
		_, err := file.WriteString(part)
		require.NoError(t, err)
		time.Sleep(15 * time.Millisecond)
		_, err = ask(l.pods[2], "tcp", netip.AddrPortFrom(clusterIP(2, 1), 80))
		require.NoError(t, err, "after %q", part)
	}
	both(2, 2, "pod-2")
	require.NoError(t, os.Remove(filepath.Join(dir, "two.yaml")))
	refused(t, l.pods[2], netip.AddrPortFrom(clusterIP(2, 0), 80))
	p.end(t)
	reaches(t, l.pods[2], "tcp", netip.AddrPortFrom(clusterIP(5, 1), 80), "pod-2")
}

// A volume of a ConfigMap changes by moving a link, all files at once; so may the directory itself.
func TestDirectoryBehindLinks(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	top := t.TempDir()
	volume := filepath.Join(top, "volume")
	publish := func(root, version, text string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Join(root, ".."+version), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, ".."+version, "svc.yaml"), []byte(text), 0o644))
		require.NoError(t, os.Symlink(".."+version, filepath.Join(root, "..data_tmp")))
		require.NoError(t, os.Rename(filepath.Join(root, "..data_tmp"), filepath.Join(root, "..data")))
	}
	publish(volume, "1", serviceText(1, "")+sliceText(1, 0))
	require.NoError(t, os.Symlink(filepath.Join("..data", "svc.yaml"), filepath.Join(volume, "svc.yaml")))
	current := filepath.Join(top, "current")
	require.NoError(t, os.Symlink("volume", current))
	start(t, l, "--manifests", current)
	to := netip.AddrPortFrom(clusterIP(1, 1), 80)
	reaches(t, l.pods[1], "tcp", to, "pod-0")
	publish(volume, "2", serviceText(1, "")+sliceText(1, 1))
	reaches(t, l.pods[1], "tcp", to, "pod-1")
	require.NoError(t, os.RemoveAll(filepath.Join(volume, "..1")))

	other := filepath.Join(top, "other")
	require.NoError(t, os.Mkdir(other, 0o755))
	write(t, other, "svc.yaml", serviceText(1, "")+sliceText(1, 0))
	require.NoError(t, os.Symlink("other", current+".tmp"))
	require.NoError(t, os.Rename(current+".tmp", current))
	reaches(t, l.pods[1], "tcp", to, "pod-0")
	write(t, other, "svc.yaml", serviceText(1, "")+sliceText(1, 1)) // it is watched there, too
	reaches(t, l.pods[1], "tcp", to, "pod-1")
}

// From every side, to every kind of address, and what the node says of it.
func TestNodePortsAndHealthChecks(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	dir := t.TempDir()
	const local = `
apiVersion: v1
kind: Service
metadata: {name: lb}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 32100
  clusterIPs: [10.96.9.9, "fd96::99"]
  ports: [{name: tcp, port: 80, targetPort: 8080, nodePort: 30090}]
status: {loadBalancer: {ingress: [{ip: 198.51.100.9}, {ip: "2001:db8:9::9"}]}}
`
	slice := strings.ReplaceAll(sliceText(9, 0), "service-name: svc-9", "service-name: lb")
	write(t, dir, "a.yaml", strings.Replace(serviceText(1, ", nodePort: 30080"), "spec:", "spec:\n  type: NodePort\n  externalIPs: [198.51.100.1, \"2001:db8:9::1\"]", 1)+sliceText(1, 0, 1)+"---"+local+slice)
	write(t, dir, "node.yaml", fmt.Sprintf("kind: Node\nmetadata: {name: %s}\nstatus: {addresses: [{type: InternalIP, address: %q}, {type: InternalIP, address: %q}]}\n", nodeName, nodeAddrs[0], nodeAddrs[1]))
	p := start(t, l, "--manifests", dir)
	for family := range 2 {
		loopback := addrs("127.0.0.1", "::1")[family]
		reaches(t, l.node, "tcp", netip.AddrPortFrom(loopback, 30080), "pod-0", "pod-1")
		// With externalTrafficPolicy Local clients keep their address, and those that are near reach the whole cluster.
		for _, to := range []netip.AddrPort{netip.AddrPortFrom(nodeAddrs[family], 30090), netip.AddrPortFrom(addrs("198.51.100.9", "2001:db8:9::9")[family], 80)} {
			reaches(t, l.outside, "tcp", to, "pod-0")
			answer, err := ask(l.outside, "tcp", to)
			require.NoError(t, err)
			require.Equal(t, outsideAddrs[family], answer.client)
			reaches(t, l.pods[1], "tcp", to, "pod-0")
		}
		external := addrs("198.51.100.1", "2001:db8:9::1")[family]
		for _, to := range []netip.AddrPort{netip.AddrPortFrom(nodeAddrs[family], 30080), netip.AddrPortFrom(external, 80), netip.AddrPortFrom(clusterIP(1, family), 80)} {
			reaches(t, l.outside, "tcp", to, "pod-0", "pod-1")
			reaches(t, l.pods[0], "tcp", to, "pod-0", "pod-1")
			reaches(t, l.node, "tcp", to, "pod-0", "pod-1")
		}
		for url, status := range map[string]int{"http://192.168.7.1:32100/": 200, "http://[fd07::1]:32100/healthz": 200, "http://[fd07::1]:10256/livez": 200} {
			answers(t, l.outside, url, status)
		}
	}
	body, header := answers(t, l.outside, "http://192.168.7.1:32100/", 200)
	require.JSONEq(t, `{"service": {"namespace": "default", "name": "lb"}, "localEndpoints": 1, "serviceProxyHealthy": true}`, body)
	require.Equal(t, "1", header.Get("X-Load-Balancing-Endpoint-Weight"))

	// The endpoint goes; the Service gets another port; it goes.
	write(t, dir, "a.yaml", local+strings.ReplaceAll(sliceText(9), "service-name: svc-9", "service-name: lb"))
	answers(t, l.outside, "http://192.168.7.1:32100/", 503)
	write(t, dir, "a.yaml", strings.Replace(local, "32100", "32101", 1)+slice)
	answers(t, l.outside, "http://192.168.7.1:32101/", 200)
	_, _, _, err := get(l.outside, "http://192.168.7.1:32100/")
	require.Error(t, err, "nobody listens there any more")
	write(t, dir, "a.yaml", serviceText(1, ""))
	eventually(t, func() bool {
		_, _, _, err := get(l.outside, "http://192.168.7.1:32101/")
		return err != nil
	}, func() string { return "somebody listens on the port of a Service that is gone" })
	p.end(t)

	// What it did is in the kernel, to be seen and to be removed.
	stdout := func(args ...string) string {
		t.Helper()
		e := kerneltest.StartIn(t, l.node, append(common(), args...)...)
		require.Equal(t, 0, e.Wait(t), e.Stderr())
		return e.Stdout()
	}
	require.Empty(t, stdout("--manifests", dir, "--dry-run"), "nothing is left to do")
	write(t, dir, "a.yaml", serviceText(2, ""))
	require.Equal(t, strings.Count(stdout("--manifests", dir, "--dry-run"), "+ forward "), 4)
	require.NotEmpty(t, ruleset(t, l.node))
	stdout("--cleanup")
	require.Empty(t, ruleset(t, l.node))
}
