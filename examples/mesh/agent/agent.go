package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/podplumb/podplumb/examples/mesh/capture"
	"github.com/podplumb/podplumb/examples/mesh/identity"
	"github.com/podplumb/podplumb/examples/mesh/proxy"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/workloadapi"
	"github.com/podplumb/podplumb/examples/mesh/world"
	"github.com/podplumb/podplumb/netns"
)

// Config says for which node the agent works, and with what.
type Config struct {
	Node   string          // its name
	World  *world.World    // required
	Issuer identity.Issuer // required

	// Sockets is the directory of the Workload API's sockets. The one for all
	// callers is "workload.sock" in it; it is made if it does not exist.
	Sockets string

	// Find opens the network namespace of a pod; fs.ErrNotExist means that it
	// is not there yet. Nil looks under /run/netns for the one that has the
	// pod's addresses.
	Find func(*world.Pod) (*netns.NS, error)

	// Handler makes what serves HTTP for a pod. Nil passes it as bytes.
	Handler func(*stream.Workload, stream.Dialer) stream.Handler

	// Probes are networks that connections are not captured from: the node's
	// own addresses towards its pods.
	Probes []netip.Prefix

	Cluster    []netip.Prefix // see proxy.Config
	NameServer netip.AddrPort // see proxy.Config; valid: questions are captured
	Drain      time.Duration  // see proxy.Config

	// Release ends the capture when the agent ends.
	Release bool

	Counts *proxy.Counts
	Log    *slog.Logger
}

// SharedSocket is the file in Config.Sockets for all callers.
const SharedSocket = "workload.sock"

// look is how often namespaces are looked for that were not there, and
// failures are tried again.
const look = 100 * time.Millisecond

// idle is how often it is looked whether pods have other namespaces than they
// had, and the longest wait between two tries.
const idle = 2 * time.Second

// Agent keeps the pods of a node in the mesh.
type Agent struct {
	config Config
	ended  chan struct{}   // holds one token after a pod was given up
	seen   map[string]bool // pods that are looked after, or were found free

	mu      sync.Mutex
	callers map[netns.ID]spiffeid.ID
	ready   map[string]*netns.NS // pods that are captured
	changed chan struct{}
}

// New makes an Agent. It does nothing yet.
func New(c Config) *Agent {
	if c.Find == nil {
		c.Find = FindByAddress("")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Agent{config: c, ended: make(chan struct{}, 1), seen: map[string]bool{}, callers: map[netns.ID]spiffeid.ID{}, ready: map[string]*netns.NS{}, changed: make(chan struct{})}
}

// Run works until ctx ends.
func (a *Agent) Run(ctx context.Context) error {
	var err error
	if a.config.Sockets, err = filepath.Abs(a.config.Sockets); err != nil { // addresses of the Workload API have no others
		return err
	}
	if err := os.MkdirAll(a.config.Sockets, 0o755); err != nil {
		return err
	}
	shared, err := listenUnix(filepath.Join(a.config.Sockets, SharedSocket), 0o666)
	if err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running.Go(func() {
		err := workloadapi.Serve(ctx, shared, workloadapi.Config{Issuer: a.config.Issuer, Attestor: workloadapi.ByNetNS(a.who), Failed: a.failed})
		if err != nil {
			a.failed(err)
		}
	})
	pods := map[string]*member{}
	again := time.NewTimer(0)
	defer again.Stop()
	wait := look
	for {
		snapshot, changed := a.config.World.Snapshot()
		if missing := snapshot.Known && a.adopt(ctx, snapshot, pods, &running); !missing {
			wait = idle
		}
		again.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			wait = look
		case <-a.ended:
			wait = look
		case <-again.C:
			wait = min(2*wait, idle)
		}
	}
}

// adopt begins with pods that came and ends those that went. It returns
// whether some could not be begun with.
func (a *Agent) adopt(ctx context.Context, s *world.Snapshot, pods map[string]*member, running *sync.WaitGroup) (missing bool) {
	here, present := map[string]bool{}, map[string]bool{}
	for _, p := range s.Pods {
		if p.Workload.Node != a.config.Node {
			continue
		}
		key := fmt.Sprint(p.Workload, p.UID, p.Workload.Addresses)
		present[key] = true
		if !p.Workload.Meshed {
			missing = !a.seen[key] && !a.free(ctx, p, key) || missing
			continue
		}
		here[key], a.seen[key] = true, true
		if m := pods[key]; m != nil && !m.ended() {
			if m.same(p) && !m.replaced() {
				m.pod.Store(p)
			} else { // anew, and captured all the while
				m.end()
				missing = true
			}
			continue
		}
		m, err := a.begin(p)
		if err != nil {
			missing = true
			if !errors.Is(err, os.ErrNotExist) {
				a.failed(fmt.Errorf("pod %s: %w", p.Workload, err))
			}
			continue
		}
		pods[key] = m
		ctx, cancel := context.WithCancel(ctx)
		m.end = cancel
		running.Go(func() {
			m.run(ctx)
			cancel()
			select {
			case a.ended <- struct{}{}:
			default:
			}
		})
	}
	maps.DeleteFunc(a.seen, func(key string, _ bool) bool { return !present[key] })
	for key, m := range pods {
		if !here[key] {
			m.left.Store(true)
			m.end()
			delete(pods, key)
		}
	}
	return missing
}

// free takes away what an agent may have left in a pod that was in the mesh,
// and has left it while there was no agent. It returns whether that is done.
func (a *Agent) free(ctx context.Context, p *world.Pod, key string) bool {
	ns, err := a.config.Find(p)
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	if err == nil {
		defer ns.Close()
		var c *capture.Capture
		if c, err = capture.New(capture.Config{NetNS: ns}); err == nil {
			err = errors.Join(c.Remove(ctx), c.Close())
		}
	}
	if err != nil {
		a.failed(fmt.Errorf("pod %s: %w", p.Workload, err))
		return false
	}
	a.seen[key] = true
	return true
}

func (a *Agent) failed(err error) { a.config.Log.Error("agent", "error", err) }

// who is in a network namespace.
func (a *Agent) who(id netns.ID) (spiffeid.ID, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found, ok := a.callers[id]
	return found, ok
}

// Ready returns the pods that are captured now, by namespace and name, and a
// channel that is closed when that changes.
func (a *Agent) Ready() (map[string]bool, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make(map[string]bool, len(a.ready))
	for k := range a.ready {
		list[k] = true
	}
	return list, a.changed
}

// set notes that a pod is captured, in its namespace, or with nil that it is not.
func (a *Agent) set(pod string, ns *netns.NS) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ns != nil {
		a.ready[pod] = ns
	} else {
		delete(a.ready, pod)
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// listenUnix opens a socket, in place of one that a former process has left.
func listenUnix(path string, mode os.FileMode) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// FindByAddress looks for the named namespace that has a pod's addresses, among
// those whose name begins with a prefix.
func FindByAddress(prefix string) func(*world.Pod) (*netns.NS, error) {
	return func(p *world.Pod) (*netns.NS, error) { return findByAddress(prefix, p) }
}

func findByAddress(prefix string, p *world.Pod) (*netns.NS, error) {
	names, err := netns.List()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		ns, err := netns.OpenName(name)
		if err != nil {
			continue // it may be gone by now
		}
		if hasAddress(ns, p.Workload.Addresses[0]) {
			return ns, nil
		}
		_ = ns.Close()
	}
	return nil, fmt.Errorf("no namespace under %s has the address %s: %w", netns.RunDir, p.Workload.Addresses[0], os.ErrNotExist)
}

func hasAddress(ns *netns.NS, want netip.Addr) (has bool) {
	_ = ns.Do(func() error {
		addrs, err := net.InterfaceAddrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr() == want {
				has = true
			}
		}
		return err
	})
	return has
}
