package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/netns"
)

func TestMain(m *testing.M) {
	code := kerneltest.Main(m, func(context.Context, []string, io.Writer, io.Writer) int { return run.Failed })
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// stockVersion is the release of the stock plugins.
const stockVersion = "github.com/containernetworking/plugins@v1.9.1"

var built struct {
	once sync.Once
	dir  string
	err  error
}

// programs returns a directory with the plugins of both sides. The stock ones are built in their own module, so that what they need stays
// out of this one.
func programs(b testing.TB) string {
	b.Helper()
	built.once.Do(func() { built.dir, built.err = build() })
	require.NoError(b, built.err)
	return built.dir
}

func build() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "podplumb-cni-bench"); err != nil {
		return "", err
	}
	run := func(in string, env []string, args ...string) ([]byte, error) {
		cmd := exec.Command("go", args...)
		cmd.Dir = in
		cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("go %v: %w\n%s", args, err, errs.String())
		}
		return out.Bytes(), nil
	}
	if _, err := run("", nil, "build", "-o", filepath.Join(dir, "podplumb-cni"), "github.com/podplumb/podplumb/examples/cni"); err != nil {
		return dir, err
	}
	alone := []string{"GOWORK=off", "GOFLAGS="}
	text, err := run(dir, alone, "mod", "download", "-json", stockVersion)
	if err != nil {
		return dir, err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(text, &module); err != nil {
		return dir, err
	}
	if _, err = run(module.Dir, alone, "build", "-o", dir+"/", "./plugins/main/bridge", "./plugins/ipam/host-local", "./plugins/meta/portmap"); err != nil {
		return dir, err
	}
	return dir, install(dir)
}

// install replaces programs by copies of them. What a linker has just written lies in the page cache in single pages, and takes a fifth
// longer to start than what was copied, unpacked or read from disk, as programs are that a node uses.
func install(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		text, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path+".new", text, 0o755)
		}
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// side is one of the two, on a node of its own.
type side struct {
	name string
	node *netns.NS
	dir  string
	list *libcni.NetworkConfigList
	cni  *libcni.CNIConfig
	cpu  atomic.Int64 // nanoseconds of all plugins that were run, and of what these ran
}

// newSide makes a node and reads its configuration, in which DIR stands for a directory for state.
func newSide(b testing.TB, name, conflist string) *side {
	b.Helper()
	s := &side{name: name, dir: b.TempDir()}
	var err error
	s.node, err = netns.New()
	require.NoError(b, err)
	b.Cleanup(func() { _ = s.node.Close() })
	require.NoError(b, s.node.LoopbackUp())
	s.list, err = libcni.ConfListFromBytes([]byte(strings.ReplaceAll(conflist, "DIR", s.dir)))
	require.NoError(b, err)
	s.cni = libcni.NewCNIConfigWithCacheDir([]string{programs(b)}, filepath.Join(s.dir, "cache"), s)
	return s
}

// ExecPlugin runs a plugin on the node, and counts what it costs.
func (s *side) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, path)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, bytes.NewReader(stdin), &out, &errs
	if err := s.node.Start(cmd); err != nil {
		return nil, err
	}
	err := cmd.Wait()
	s.cpu.Add(int64(cmd.ProcessState.SystemTime() + cmd.ProcessState.UserTime()))
	if err != nil {
		told := types.Error{}
		if json.Unmarshal(out.Bytes(), &told) == nil && told.Msg != "" {
			return nil, &told
		}
		return nil, fmt.Errorf("%s: %w: %s%s", filepath.Base(path), err, out.String(), errs.String())
	}
	return out.Bytes(), nil
}

// FindInPath and Decode are those of any other program that uses libcni.
func (s *side) FindInPath(plugin string, paths []string) (string, error) {
	return invoke.FindInPath(plugin, paths)
}
func (s *side) Decode(text []byte) (version.PluginInfo, error) {
	return (&version.PluginDecoder{}).Decode(text)
}

// pod is a namespace that a runtime has made for a pod.
type pod struct {
	ns *netns.NS
	rt *libcni.RuntimeConf
}

var pods atomic.Int64

func newPod(b testing.TB, hostPorts ...int) *pod {
	b.Helper()
	name := fmt.Sprintf("podplumb-bench-%d-%d", os.Getpid(), pods.Add(1))
	ns, err := netns.Create(name)
	require.NoError(b, err)
	p := &pod{ns: ns, rt: &libcni.RuntimeConf{ContainerID: name, NetNS: ns.Path(), IfName: "eth0"}}
	var mappings []map[string]any
	for _, port := range hostPorts {
		mappings = append(mappings, map[string]any{"hostPort": port, "containerPort": 80, "protocol": "tcp"})
	}
	if mappings != nil {
		p.rt.CapabilityArgs = map[string]any{"portMappings": mappings}
	}
	return p
}

func (p *pod) close(b testing.TB) {
	b.Helper()
	name := p.ns.Name()
	require.NoError(b, p.ns.Close())
	require.NoError(b, netns.Remove(name))
}

// patience bounds a command.
const patience = 2 * time.Minute

func (s *side) add(b testing.TB, p *pod) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := s.cni.AddNetworkList(ctx, s.list, p.rt)
	require.NoError(b, err, s.name)
}

func (s *side) del(b testing.TB, p *pod) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(b, s.cni.DelNetworkList(ctx, s.list, p.rt), s.name)
}

// cost is the time that something took and the processor time that plugins used meanwhile.
type cost struct{ wall, cpu time.Duration }

func (s *side) measure(f func()) cost {
	cpu, begin := s.cpu.Load(), time.Now()
	f()
	return cost{time.Since(begin), time.Duration(s.cpu.Load() - cpu)}
}

// median of the wall times, and of the processor times.
func median(costs []cost) cost {
	walls, cpus := make([]time.Duration, len(costs)), make([]time.Duration, len(costs))
	for i, c := range costs {
		walls[i], cpus[i] = c.wall, c.cpu
	}
	slices.Sort(walls)
	slices.Sort(cpus)
	return cost{walls[len(walls)/2], cpus[len(cpus)/2]}
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/1e6) }

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }
