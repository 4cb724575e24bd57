package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	spiffe "github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/podplumb/podplumb/examples/mesh/capture"
	"github.com/podplumb/podplumb/examples/mesh/proxy"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/workloadapi"
	"github.com/podplumb/podplumb/examples/mesh/world"
	"github.com/podplumb/podplumb/netns"
)

// member is a pod in the mesh.
type member struct {
	agent *Agent
	pod   atomic.Pointer[world.Pod] // as it is now
	ns    *netns.NS
	id    netns.ID

	end      context.CancelFunc
	left     atomic.Bool // the pod is no more in the mesh
	finished chan struct{}
}

// begin opens the pod's namespace.
func (a *Agent) begin(p *world.Pod) (*member, error) {
	ns, err := a.config.Find(p)
	if err != nil {
		return nil, err
	}
	id, err := ns.ID()
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	m := &member{agent: a, ns: ns, id: id, finished: make(chan struct{})}
	m.pod.Store(p)
	a.mu.Lock()
	a.callers[id] = p.Workload.ID
	a.mu.Unlock()
	return m, nil
}

// same holds if what was begun with still fits.
func (m *member) same(p *world.Pod) bool {
	was := m.pod.Load()
	return was.Sidecar == p.Sidecar && slices.Equal(was.ExcludeInbound, p.ExcludeInbound) && slices.Equal(was.ExcludeOutbound, p.ExcludeOutbound)
}

// replaced holds if there is another namespace under the name by now.
func (m *member) replaced() bool {
	if m.ns.Name() == "" {
		return false
	}
	info, err := os.Stat(filepath.Join(netns.RunDir, m.ns.Name()))
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (netns.ID{Dev: uint64(st.Dev), Ino: st.Ino}) != m.id //nolint:unconvert // it differs between architectures
}

func (m *member) ended() bool {
	select {
	case <-m.finished:
		return true
	default:
		return false
	}
}

func (m *member) name() string { return m.pod.Load().Workload.String() }

// run keeps the pod in the mesh until ctx ends or it leaves. The agent begins
// anew with one that could not be kept.
func (m *member) run(ctx context.Context) {
	defer close(m.finished)
	defer m.ns.Close()
	defer func() {
		m.agent.mu.Lock()
		delete(m.agent.callers, m.id)
		m.agent.mu.Unlock()
	}()
	if err := m.serve(ctx); err != nil && ctx.Err() == nil {
		m.agent.failed(fmt.Errorf("pod %s: %w", m.name(), err))
		select {
		case <-ctx.Done():
		case <-time.After(look):
		}
	}
}

func (m *member) serve(ctx context.Context) error {
	p := m.pod.Load()
	c, err := capture.New(capture.Config{
		NetNS: m.ns, User: p.Sidecar, DNS: m.agent.config.NameServer.IsValid(), From: m.agent.config.Probes,
		Inbound: p.ExcludeInbound, Outbound: p.ExcludeOutbound,
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if p.Sidecar != 0 {
		return m.keep(ctx, c, func(ctx context.Context) error { <-ctx.Done(); return nil })
	}
	var running sync.WaitGroup
	defer running.Wait()
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	address, err := m.workloadAPI(serving, &running)
	if err != nil {
		return errors.Join(err, c.Begin(ctx)) // refused, rather than in clear
	}
	me := &struct{ *spiffe.X509Source }{} // there before anybody is served
	handler := m.agent.config.Handler
	config := proxy.Config{
		Workload: p.Workload, NetNS: m.ns, Mark: capture.Mark, Identity: me, Resolver: m.agent.config.World,
		Policy: func() proxy.Policy { return m.pod.Load().Policy }, Cluster: m.agent.config.Cluster,
		NameServer: m.agent.config.NameServer, Drain: m.agent.config.Drain, Counts: m.agent.config.Counts, Log: m.agent.config.Log,
	}
	if handler != nil {
		config.Handler = func(d stream.Dialer) stream.Handler { return handler(p.Workload, d) }
	}
	px := proxy.New(config)
	defer px.Close()
	if err := px.Listen(ctx); err != nil {
		return errors.Join(err, c.Begin(ctx))
	}
	return m.keep(ctx, c, func(ctx context.Context) error {
		source, err := spiffe.NewX509Source(ctx, spiffe.WithClientOptions(spiffe.WithAddr(address)))
		if err != nil {
			return err
		}
		defer source.Close()
		me.X509Source = source
		return px.Serve(ctx)
	})
}

// keep captures the pod's connections while serve runs.
func (m *member) keep(ctx context.Context, c *capture.Capture, serve func(context.Context) error) error {
	if err := c.Begin(ctx); err != nil {
		return err
	}
	m.agent.set(m.name(), m.ns)
	defer m.agent.set(m.name(), nil)
	following, cancel := context.WithCancel(ctx)
	var follows sync.WaitGroup
	follows.Go(func() { _ = c.Follow(following, m.agent.failed) })
	end := func() { cancel(); follows.Wait() }
	defer end()
	left := func() bool { return m.left.Load() || m.agent.config.Release }
	// When it is to end well, what begins goes its own way again, and what runs
	// is let to end.
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		end()
		if left() {
			_ = c.Drain(context.WithoutCancel(ctx)) // a namespace that is gone has no rules
		}
	})
	err := serve(ctx)
	if !stop() {
		<-stopped
		if left() {
			_ = c.Remove(context.WithoutCancel(ctx))
		}
	}
	return err
}

// workloadAPI serves the pod's identity to its proxy, on a socket that nobody
// else has.
func (m *member) workloadAPI(ctx context.Context, running *sync.WaitGroup) (address string, err error) {
	w := m.pod.Load().Workload
	// Names of pods can be longer than those of sockets (unix(7)).
	sum := sha256.Sum256([]byte(w.String()))
	path := filepath.Join(m.agent.config.Sockets, fmt.Sprintf("%x.sock", sum[:10]))
	l, err := listenUnix(path, 0o600)
	if err != nil {
		return "", err
	}
	running.Go(func() {
		err := workloadapi.Serve(ctx, l, workloadapi.Config{Issuer: m.agent.config.Issuer, Attestor: workloadapi.Only(w.ID), Failed: m.agent.failed})
		if err != nil {
			m.agent.failed(err)
		}
	})
	return "unix://" + path, nil
}
