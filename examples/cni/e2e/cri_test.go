package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// loopback is the plugin that containerd runs for every pod besides those of the network.
const loopback = "/usr/lib/cni/loopback"

// engine is a node's containerd, as a kubelet talks to it.
type engine struct {
	node *node
	pods cri.RuntimeServiceClient
}

// configuration of containerd: nothing of the machine's, and what cannot be had in a container left out.
const configuration = `version = 2
root = %[1]q
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = %[2]q
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %[3]q
  disable_apparmor = true
  restrict_oom_score_adj = true
  disable_cgroup = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %[4]q
    conf_dir = %[5]q
`

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// startContainerd starts containerd on a node and gives it the image.
func (n *node) startContainerd(t *testing.T, image string) *engine {
	t.Helper()
	for _, dir := range []string{"bin", "net.d"} {
		require.NoError(t, os.MkdirAll(n.path(dir), 0o755))
	}
	bin := programs(t)
	require.NoError(t, os.Symlink(filepath.Join(bin, pluginName), n.path("bin/"+pluginName)))
	require.NoError(t, os.Symlink(loopback, n.path("bin/loopback")))
	config := fmt.Sprintf(configuration, n.path("root"), n.path("sock"), imageName, n.path("bin"), n.path("net.d"))
	require.NoError(t, os.WriteFile(n.path("containerd.toml"), []byte(config), 0o600))
	r := &engine{node: n}
	r.start(t)
	conn, err := grpc.NewClient("unix://"+n.path("sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	r.pods = cri.NewRuntimeServiceClient(conn)
	eventually(t, "containerd answers", func() error {
		_, err := r.pods.Version(t.Context(), &cri.VersionRequest{})
		return err
	})
	n.must(t, "ctr", "--address", n.path("sock"), "--namespace", "k8s.io", "images", "import", image)
	return r
}

func (r *engine) start(t *testing.T) {
	t.Helper()
	r.node.daemon(t, "containerd", "sh", "-c", fmt.Sprintf("echo $$ >%s; exec containerd --config %s --log-level warn", r.node.path("pid"), r.node.path("containerd.toml")))
}

// kill kills containerd; the shims of the pods live on.
func (r *engine) kill(t *testing.T) {
	t.Helper()
	r.node.must(t, "sh", "-c", "kill -9 $(cat "+r.node.path("pid")+")")
}

// ready waits until the runtime has a network for pods.
func (r *engine) ready(t *testing.T) {
	t.Helper()
	eventually(t, "the network of "+r.node.name+" is ready", func() error {
		status, err := r.pods.Status(t.Context(), &cri.StatusRequest{})
		if err != nil {
			return err
		}
		for _, c := range status.GetStatus().GetConditions() {
			if !c.GetStatus() {
				return errors.New(c.GetMessage())
			}
		}
		return nil
	})
}

// pod is a pod with one container, which runs a web server.
type pod struct {
	runtime   *engine
	config    *cri.PodSandboxConfig
	sandbox   string
	container string
	addrs     []netip.Addr
}

// run starts a pod.
func (r *engine) run(t testing.TB, name string, annotations map[string]string, ports ...*cri.PortMapping) (*pod, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	logs := r.node.path("logs-" + name)
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, err
	}
	p := &pod{runtime: r, config: &cri.PodSandboxConfig{
		Metadata: &cri.PodSandboxMetadata{Name: name, Uid: "uid-" + name, Namespace: "default"}, Hostname: name,
		LogDirectory: logs, PortMappings: ports, Annotations: annotations, Linux: &cri.LinuxPodSandboxConfig{},
	}}
	sandbox, err := r.pods.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: p.config})
	if err != nil {
		return nil, err
	}
	p.sandbox = sandbox.GetPodSandboxId()
	created, err := r.pods.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: p.sandbox, SandboxConfig: p.config, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "web"}, Image: &cri.ImageSpec{Image: imageName}, LogPath: "web.log",
		Command: []string{"httpd", "-f", "-p", "8080", "-h", "/www"}, Linux: &cri.LinuxContainerConfig{},
	}})
	if err != nil {
		return nil, err
	}
	p.container = created.GetContainerId()
	if _, err := r.pods.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: p.container}); err != nil {
		return nil, err
	}
	status, err := r.pods.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: p.sandbox})
	if err != nil {
		return nil, err
	}
	texts := []string{status.GetStatus().GetNetwork().GetIp()}
	for _, ip := range status.GetStatus().GetNetwork().GetAdditionalIps() {
		texts = append(texts, ip.GetIp())
	}
	for _, text := range texts {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		p.addrs = append(p.addrs, addr)
	}
	return p, nil
}

// exec runs a command in the pod's container.
func (p *pod) exec(ctx context.Context, command ...string) (string, error) {
	answer, err := p.runtime.pods.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: p.container, Cmd: command, Timeout: 20})
	if err != nil {
		return "", err
	}
	if answer.GetExitCode() != 0 {
		return "", fmt.Errorf("%v: exit code %d: %s", command, answer.GetExitCode(), answer.GetStderr())
	}
	return string(answer.GetStdout()), nil
}

// ask has the pod ask a web server who is asking, and whom.
func (p *pod) ask(t testing.TB, to netip.AddrPort) answer {
	t.Helper()
	var text string
	err := attempt(func() (err error) {
		text, err = p.exec(t.Context(), "timeout", "5", "wget", "-q", "-O", "-", fmt.Sprintf("http://%s/cgi-bin/whoami", to))
		return err
	})
	if err != nil {
		return answer{pod: err.Error()}
	}
	return parseAnswer(t, text)
}

// attempt tries a few times: the server may not listen yet.
func attempt(try func() error) (err error) {
	for range 20 {
		if err = try(); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// answer is what a pod says of who asked it.
type answer struct {
	from netip.Addr
	pod  string // its name; or, without from, why there is no answer
}

func parseAnswer(t testing.TB, text string) answer {
	t.Helper()
	from, name, ok := strings.Cut(text, " ")
	require.True(t, ok, text)
	addr, err := netip.ParseAddr(strings.Trim(from, "[]"))
	require.NoError(t, err)
	return answer{from: addr.Unmap(), pod: name}
}

// stop stops and removes the pod.
func (p *pod) stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := p.runtime.pods.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.sandbox})
	require.NoError(t, err)
	_, err = p.runtime.pods.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.sandbox})
	require.NoError(t, err)
}
