package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/service"
)

func parsed(t *testing.T, args ...string) options {
	t.Helper()
	var stderr strings.Builder
	o, _, ok := parse(append([]string{"--hostname-override", "n"}, args...), &stderr)
	require.True(t, ok, stderr.String())
	return o
}

func TestFlags(t *testing.T) {
	t.Parallel()
	require.Equal(t, func() options { o := defaults(); o.node, o.args = "n", []string{}; return o }(), parsed(t))
	o := parsed(t, "--hostname-override= Node-1 ", "--cluster-cidr=10.244.0.0/16,fd44::1/48", "--nodeport-addresses", "primary", "--masquerade-all", "--healthz-bind-address", "::",
		"--metrics-bind-address=", "--sync-period=1m", "--kubeconfig", "k", "--master=http://m")
	require.Equal(t, "node-1", o.node)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/48")}, o.clusterCIDRs)
	require.Equal(t, service.NodePortAddresses{Primary: true, Localhost: true}, o.nodePorts)
	require.False(t, parsed(t, "--iptables-localhost-nodeports=false", "--nodeport-addresses=primary").nodePorts.Localhost)
	require.Equal(t, "[::]:10256", o.healthz)
	require.Empty(t, o.metrics)
	require.True(t, o.masqueradeAll)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}, parsed(t, "--nodeport-addresses", "192.168.0.0/16").nodePorts.In)
}

// A command line of kube-proxy works, and tells what has no effect.
func TestFlagsOfKubeProxy(t *testing.T) {
	t.Parallel()
	var stderr strings.Builder
	o, _, ok := parse([]string{"--kubeconfig=/k", "--hostname-override=n", "--proxy-mode=iptables", "--cluster-cidr=10.244.0.0/16", "--conntrack-max-per-core=0", "--profiling", "--ipvs-strict-arp=true", "--v=2"}, &stderr)
	require.True(t, ok, stderr.String())
	require.Equal(t, "/k", o.kubeconfig)
	require.Equal(t, 2, o.verbosity)
	require.Equal(t, 4, strings.Count(stderr.String(), "has no effect"), stderr.String())
	require.Contains(t, stderr.String(), "serviceproxy: --proxy-mode has no effect: the choice here is --backend\n")
}

func TestFaultyFlags(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		`"10.244.0.0" is not a network`:           {"--cluster-cidr", "10.244.0.0,fd44::/48"},
		`"primary" stands alone`:                  {"--nodeport-addresses", "primary,10.0.0.0/8"},
		"the objects come from one place":         {"--manifests", "d", "--kubeconfig", "k"},
		"is longer than":                          {"--min-sync-period", "1h"},
		"the one is above 0":                      {"--sync-period", "0s"},
		`"localhost:1" is not an address`:         {"--healthz-bind-address", "localhost:1"},
		`"ebpf" is not one of `:                   {"--backend", "ebpf"},
		"flag provided but not defined: -no-such": {"--no-such"},
		"no such file":                            {"--config", "/no/such/file"},
	} {
		var stderr strings.Builder
		_, code, ok := parse(args, &stderr)
		require.False(t, ok, args)
		require.Equal(t, 2, code, args)
		require.Contains(t, stderr.String(), want, args)
	}
}

func TestConfigFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "config.conf")
	require.NoError(t, os.WriteFile(name, []byte(`
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 5}
clusterCIDR: 10.244.0.0/16,fd44::/48
conntrack: {maxPerCore: null}
healthzBindAddress: ""
metricsBindAddress: 0.0.0.0:10249
iptables: {masqueradeAll: true, localhostNodePorts: false, syncPeriod: 0s}
mode: iptables
nodePortAddresses: [192.168.0.0/16]
syncPeriod: 45s
`), 0o600))
	o := parsed(t, "--config", name, "--sync-period=1m")
	require.Equal(t, "/var/lib/kube-proxy/kubeconfig.conf", o.kubeconfig)
	require.Len(t, o.clusterCIDRs, 2)
	require.Equal(t, "0.0.0.0:10256", o.healthz)
	require.Equal(t, "0.0.0.0:10249", o.metrics)
	require.True(t, o.masqueradeAll)
	require.Len(t, o.nodePorts.In, 1)
	require.False(t, o.nodePorts.Localhost)
	require.Equal(t, time.Minute, o.sync, "flags go over the file")

	require.NoError(t, os.WriteFile(name, []byte("kind: Config\nclusterCIDR: x\nnodePortAddresses: [z]\n"), 0o600))
	var stderr strings.Builder
	_, _, ok := parse([]string{"--config", name}, &stderr)
	require.False(t, ok)
	for _, want := range []string{`kind: "Config" is not KubeProxyConfiguration`, `clusterCIDR: "x" is not`, `nodePortAddresses: "z" is not`} {
		require.Contains(t, stderr.String(), want)
	}
}

func TestExplainArguments(t *testing.T) {
	t.Parallel()
	p, err := parsePacket([]string{"fd00::1", "[fd00::2]:53/udp"})
	require.NoError(t, err)
	require.Equal(t, service.UDP, p.protocol)
	p, err = parsePacket([]string{"127.0.0.1:99", "127.0.0.1:80"})
	require.NoError(t, err)
	require.True(t, p.toHost)
	require.EqualValues(t, 99, p.from.Port())
	for _, args := range [][]string{{}, {"a", "b"}, {"1.2.3.4", "5.6.7.8"}, {"1.2.3.4", "[::1]:80"}, {"1.2.3.4", "5.6.7.8:80/icmp"}} {
		_, err := parsePacket(args)
		var usage *usageError
		require.ErrorAs(t, err, &usage, args)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	b := backoff{first: 100 * time.Millisecond, most: time.Second}
	for _, milliseconds := range []int{100, 200, 400, 800, 1000, 1000} {
		most := time.Duration(milliseconds) * time.Millisecond
		got := b.next()
		require.LessOrEqual(t, got, most)
		require.GreaterOrEqual(t, got, most*3/4)
	}
	b.reset()
	require.LessOrEqual(t, b.next(), 100*time.Millisecond)
}
