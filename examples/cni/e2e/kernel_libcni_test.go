package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/netns"
)

// configuration of a network by itself; DIR stands for a directory for leases and records, VERSION for that of the specification.
const alone = `{"cniVersion":"VERSION","name":"alone","plugins":[{"type":"podplumb-cni","dataDir":"DIR","isDefaultGateway":true,"ipMasq":true,"hairpinMode":true,
	"capabilities":{"portMappings":true},"ipam":{"type":"host-local","ranges":[[{"subnet":"10.99.0.0/24"}],[{"subnet":"fd00:99::/64"}]]}}]}`

// machine is a namespace in which libcni runs plugins.
type machine struct {
	ns  *netns.NS
	bin string
}

// ExecPlugin runs a plugin in the machine's namespace.
func (m *machine) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, bytes.NewReader(stdin), &out, &errs
	if err := m.ns.Start(cmd); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		told := &types.Error{}
		if json.Unmarshal(out.Bytes(), told) == nil && told.Msg != "" {
			return nil, told
		}
		return nil, fmt.Errorf("%w: %s%s", err, out.String(), errs.String())
	}
	return out.Bytes(), nil
}

// FindInPath is that of any program that uses libcni.
func (m *machine) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}

// Decode is that of any program that uses libcni.
func (m *machine) Decode(text []byte) (version.PluginInfo, error) {
	return (&version.PluginDecoder{}).Decode(text)
}

// TestLibCNI has libcni do all that it can, in every version of the specification.
func TestLibCNI(t *testing.T) {
	t.Parallel()
	kerneltest.RequireHost(t, "ip")
	for _, spec := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(spec, func(t *testing.T) {
			t.Parallel()
			m := &machine{ns: newNS(t), bin: programs(t)}
			dir := t.TempDir()
			list, err := libcni.ConfListFromBytes([]byte(strings.NewReplacer("DIR", dir, "VERSION", spec).Replace(alone)))
			require.NoError(t, err)
			cni := libcni.NewCNIConfigWithCacheDir([]string{m.bin}, t.TempDir(), m)
			_, err = cni.ValidateNetworkList(t.Context(), list)
			require.NoError(t, err)
			pods := []*netns.NS{newNS(t), newNS(t)}
			attach := func(i int) *libcni.RuntimeConf {
				return &libcni.RuntimeConf{
					ContainerID: fmt.Sprintf("pod-%d", i), NetNS: pods[i].Path(), IfName: "eth0",
					CapabilityArgs: map[string]any{"portMappings": []map[string]any{{"hostPort": 8100 + i, "containerPort": 80, "protocol": "tcp"}}},
				}
			}
			add := func(i int) *current.Result {
				result, err := cni.AddNetworkList(t.Context(), list, attach(i))
				require.NoError(t, err)
				require.Equal(t, spec, result.Version())
				r, err := current.NewResultFromResult(result)
				require.NoError(t, err)
				require.Len(t, r.IPs, 2)
				return r
			}
			for i := range pods {
				r := add(i)
				if i == 1 {
					for _, ip := range r.IPs {
						addr, _ := netip.AddrFromSlice(ip.Address.IP)
						serveHTTP(t, pods[1], addr.Unmap())
						require.Equal(t, "pod", get(t, pods[0], netip.AddrPortFrom(addr.Unmap(), 80)))
					}
				}
			}
			check := func(i int) error { return cni.CheckNetworkList(t.Context(), list, attach(i)) }
			if spec >= "0.4.0" {
				require.NoError(t, check(0))
				require.NoError(t, check(1))
			}
			if spec >= "1.1.0" {
				require.NoError(t, cni.GetStatusNetworkList(t.Context(), list))
				require.NoError(t, cni.GCNetworkList(t.Context(), list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "pod-1", IfName: "eth0"}}}))
				require.NoError(t, check(1))
				require.ErrorContains(t, pods[0].Do(func() error { return linkError("eth0") }), "no such network interface")
				add(0)
			}
			if spec >= "0.4.0" {
				require.NoError(t, m.run(t, "ip", "-6", "address", "delete", "fd00:99::1/64", "dev", "cni0"))
				require.ErrorContains(t, check(1), "fd00:99::1/64", "damage")
			}
			for i := range pods {
				require.NoError(t, cni.DelNetworkList(t.Context(), list, attach(i)))
				require.NoError(t, cni.DelNetworkList(t.Context(), list, attach(i)), "twice")
			}
			require.Empty(t, attachments(t, dir), "records")
		})
	}
}

func attachments(t testing.TB, dir string) (left []string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "*", "attachments", "*"))
	require.NoError(t, err)
	return left
}

// run runs a tool in the machine's namespace.
func (m *machine) run(t testing.TB, args ...string) error {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := m.ns.Start(cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%v: %w: %s", args, err, out.String())
	}
	return nil
}

// TestCNITool uses the plugin from the command line of the specification's authors.
func TestCNITool(t *testing.T) {
	t.Parallel()
	kerneltest.RequireHost(t, "go")
	m, pod := &machine{ns: newNS(t), bin: programs(t)}, newNS(t)
	dir, conf, bin, cache := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	built, err := exec.Command("go", "build", "-o", filepath.Join(bin, "cnitool"), "github.com/containernetworking/cni/cnitool").CombinedOutput()
	require.NoError(t, err, string(built))
	text := strings.NewReplacer("DIR", dir, "VERSION", "1.1.0").Replace(alone)
	require.NoError(t, os.WriteFile(filepath.Join(conf, "10-alone.conflist"), []byte(text), 0o600))
	tool := func(verb string) (string, error) {
		var out bytes.Buffer
		// It keeps results in /var/lib/cni, whatever it is told.
		cmd := exec.Command("unshare", "-m", "sh", "-c", `mkdir -p /var/lib/cni && mount --bind "$0" /var/lib/cni && exec "$@"`,
			cache, filepath.Join(bin, "cnitool"), verb, "alone", pod.Path())
		cmd.Env = append(os.Environ(), "CNI_PATH="+m.bin, "NETCONFPATH="+conf, "CNI_IFNAME=net1", `CAP_ARGS={"portMappings":[{"hostPort":9100,"containerPort":80,"protocol":"udp"}]}`)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := m.ns.Start(cmd); err != nil {
			return "", err
		}
		err := cmd.Wait()
		return out.String(), err
	}
	out, err := tool("add")
	require.NoError(t, err, out)
	require.Contains(t, out, `"fd00:99::`)
	require.NoError(t, pod.Do(func() error { return linkError("net1") }))
	for _, verb := range []string{"check", "status", "del", "del"} {
		out, err := tool(verb)
		require.NoError(t, err, out)
	}
	require.Error(t, pod.Do(func() error { return linkError("net1") }))
	require.Empty(t, attachments(t, dir))
}
