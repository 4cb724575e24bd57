package e2e_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

// podmanConf has podman use CNI, and leaves out what cannot be had in a container: cgroups, profiles of security modules, limits that
// nobody may raise. DIR stands for the node's directory, BIN for that of the plugin.
const podmanConf = `[containers]
apparmor_profile = "unconfined"
seccomp_profile = "unconfined"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
cgroups = "disabled"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "crun"
volume_path = "DIR/root/volumes"
[network]
network_backend = "cni"
cni_plugin_dirs = ["BIN"]
network_config_dir = "DIR/net.d"
`

const podmanStorage = `[storage]
driver = "vfs"
graphroot = "DIR/root/storage"
runroot = "/run/containers/storage"
`

const podmanNetwork = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [{
  "type": "podplumb-cni", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
  "capabilities": {"portMappings": true, "ips": true, "mac": true, "aliases": true},
  "ipam": {"ranges": [[{"subnet": "10.66.0.0/16"}], [{"subnet": "fd66::/64"}]]}
}]}`

// podman is the program on a node, with nothing of this machine's configuration.
func (n *node) podman(t testing.TB, args ...string) string {
	t.Helper()
	return strings.TrimSpace(n.must(t, append([]string{"env", "CONTAINERS_CONF=" + n.path("containers.conf"), "CONTAINERS_STORAGE_CONF=" + n.path("storage.conf"), "podman"}, args...)...))
}

// TestPodman has podman, with its CNI backend, run containers: their addresses, published ports from everywhere, and nothing left.
func TestPodman(t *testing.T) {
	t.Parallel()
	kerneltest.RequireHost(t, "podman", "crun", "conmon", "busybox", "nsenter", "nft")
	l := newLab(t, 1)
	n := l.nodes[0]
	n.must(t, "sh", "-c", "[ -e /sys/fs/cgroup/cgroup.controllers ] || mount -t cgroup2 none /sys/fs/cgroup") // crun looks for it
	require.NoError(t, os.Mkdir(n.path("net.d"), 0o755))
	for name, text := range map[string]string{"containers.conf": podmanConf, "storage.conf": podmanStorage, "net.d/pods.conflist": podmanNetwork} {
		text = strings.NewReplacer("DIR", n.dir, "BIN", programs(t)).Replace(text)
		require.NoError(t, os.WriteFile(n.path(name), []byte(text), 0o600))
	}
	n.podman(t, "load", "-i", writeImage(t, l.dir))

	run := func(name string, args ...string) {
		t.Helper()
		args = append([]string{"run", "-d", "--name", name, "--hostname", name, "--network", "pods"}, args...)
		n.podman(t, append(args, imageName, "httpd", "-f", "-p", "8080", "-h", "/www")...)
	}
	inspect := func(name, field string) string {
		t.Helper()
		return n.podman(t, "inspect", "-f", `{{(index .NetworkSettings.Networks "pods").`+field+`}}`, name)
	}
	run("first", "-p", "30098:8080")
	n.podman(t, "rm", "-f", "-t", "0", "first")
	before := n.state(t)

	run("web", "-p", "30080:8080", "-p", "30053:53/udp", "--ip", "10.66.7.7", "--mac-address", "02:00:00:00:66:07")
	run("near")
	require.Equal(t, "10.66.7.7", inspect("web", "IPAddress"))
	require.Equal(t, "02:00:00:00:66:07", inspect("web", "MacAddress"))
	own := []string{"10.66.7.7", "[" + inspect("web", "GlobalIPv6Address") + "]"}
	for family := range 2 {
		port := netip.AddrPortFrom(n.addrs[family].Addr(), 30080)
		check(t, answer{outside[family].Addr(), "web"}, ask(t, l.wire, port), "published port from outside")
		checkPod(t, "web", ask(t, n.ns, port), "published port from the node")
		checkPod(t, "web", ask(t, n.ns, netip.AddrPortFrom(localhost[family], 30080)), "published port of localhost")
		for _, url := range []string{"http://" + own[family] + ":8080", "http://" + port.String()} {
			for _, from := range []string{"near", "web"} {
				checkPod(t, "web", parseAnswer(t, n.podman(t, "exec", from, "wget", "-qO-", url+"/cgi-bin/whoami")), url+" from "+from)
			}
		}
	}
	n.podman(t, "restart", "-t", "0", "web") // DEL and ADD, with the same address
	checkPod(t, "web", ask(t, l.wire, netip.AddrPortFrom(n.addrs[0].Addr(), 30080)), "after a restart")
	require.Equal(t, "10.66.7.7", inspect("web", "IPAddress"))

	require.FileExists(t, filepath.Join(n.path("cni"), "podplumb/.node/ports/udp-30053@0.0.0.0"))
	n.podman(t, "rm", "-f", "-t", "0", "web", "near")
	n.same(t, before)
}
