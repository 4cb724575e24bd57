package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/mesh/world"
	"github.com/podplumb/podplumb/nat"
)

// load keeps connections coming from web to db, and counts those that served
// and those that failed.
type load struct {
	good, bad atomic.Int64
	last      atomic.Pointer[error]
}

func (b *bed) load(ctx context.Context, running *sync.WaitGroup) *load {
	l := &load{}
	for _, f := range families {
		for range 3 {
			running.Go(func() {
				for ctx.Err() == nil {
					c, err := b.dial("web", b.at("db", f, 8080))
					if err == nil {
						_, err = says(c, secret)
						_ = c.Close()
					}
					if err != nil {
						l.bad.Add(1)
						l.last.Store(&err)
					} else {
						l.good.Add(1)
					}
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
	}
	return l
}

// When the proxies are killed, nothing passes and nothing is in clear, until
// they are there again.
func TestKilled(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, m mode) {
		b := newBed(t, m, "web@a", "db@b", "-legacy@b")
		b.echo("db", ":8080")
		var start func() (kill func())
		if m == nodeMode {
			b.publish()
			start = func() func() {
				var agents []*kerneltest.Example
				for _, n := range b.net.Nodes {
					agents = append(agents, kerneltest.StartIn(t, n.NS, "node", "-node", n.Name, "-f", filepath.Join(b.dir, "objects.yaml"),
						"-ca", filepath.Join(b.dir, "ca.json"), "-sockets", filepath.Join(b.dir, n.Name), "-netns", b.prefix, "-cluster", b.ranges()))
				}
				return func() {
					for _, a := range agents {
						a.Signal(syscall.SIGKILL)
						a.Wait(t)
					}
				}
			}
		} else {
			b.enrol()
			first := b.proxies
			start = func() func() {
				if first == nil {
					for _, p := range b.meshed() {
						first = append(first, b.sidecar(p))
					}
				}
				mine := first
				first = nil
				return func() {
					for _, cmd := range mine {
						_ = cmd.Process.Kill()
						_ = cmd.Wait()
					}
				}
			}
		}
		wire := b.tap()
		kill := start()
		served := func() bool {
			c, err := b.dial("web", b.at("db", 0, 8080))
			if err == nil {
				greeting, fault := says(c, "x")
				if err = fault; err == nil && greeting == c.LocalAddr().String() {
					err = fmt.Errorf("not captured")
				}
				_ = c.Close()
			}
			return err == nil
		}
		kerneltest.Eventually(t, "the mesh serves", served)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		l := b.load(ctx, &running)
		var open []net.Conn
		for _, f := range families {
			c, err := b.dial("web", b.at("db", f, 8080))
			require.NoError(t, err)
			defer c.Close()
			_, err = says(c, secret)
			require.NoError(t, err)
			open = append(open, c)
		}
		kerneltest.Eventually(t, "there is load", func() bool { return l.good.Load() > 50 })
		kill()
		for _, c := range open {
			require.Error(t, echoes(c, secret))
		}
		good := l.good.Load()
		bad := l.bad.Load()
		kerneltest.Eventually(t, "connections fail", func() bool { return l.bad.Load() > bad+50 })
		require.LessOrEqual(t, l.good.Load(), good+6, "those that were under way may have got through")
		for _, f := range families {
			b.refused("web", b.at("db", f, 8080))
			b.refused("legacy", b.at("db", f, 8080))
		}
		kill = start()
		kerneltest.Eventually(t, "the mesh serves again", served)
		good = l.good.Load()
		kerneltest.Eventually(t, "there is load", func() bool { return l.good.Load() > good+50 })
		cancel()
		running.Wait()
		kill()
		wire.Settle()
		require.NotEmpty(t, wire.Frames())
		require.Zero(t, wire.Saw(secret))
		t.Logf("%d connections served, %d refused", l.good.Load(), l.bad.Load())
	})
}

// Identities and roots are replaced while connections come and go; none fails.
func TestRotation(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, m mode) {
		b := newBed(t, m, "web@a", "db@b")
		b.leaf = 3 * time.Second
		b.echo("db", ":8080")
		b.enrol()
		b.listened("web", "db", 8080)
		long, err := b.dial("web", b.at("db", 0, 8080))
		require.NoError(t, err)
		defer long.Close()
		_, err = says(long, "hello")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		l := b.load(ctx, &running)
		before, changed := b.ca.Bundle()
		require.NoError(t, b.ca.Rotate())
		select { // the second root is published
		case <-changed:
		default:
		}
		end := time.Now().Add(b.leaf + b.leaf/2) // every identity was renewed, and signed by the new root
		for time.Now().Before(end) {
			require.NoError(t, echoes(long, "still here"))
			time.Sleep(50 * time.Millisecond)
		}
		cancel()
		running.Wait()
		after, _ := b.ca.Bundle()
		require.NotEqual(t, len(before.X509Authorities()), len(after.X509Authorities()))
		if err := l.last.Load(); err != nil {
			require.NoError(t, *err, "%d of %d failed", l.bad.Load(), l.good.Load()+l.bad.Load())
		}
		require.Greater(t, l.good.Load(), int64(100))
		t.Logf("%d connections", l.good.Load())
	})
}

// A pod that leaves the mesh while its agent is dead is let go by the next one.
func TestLeftMeanwhile(t *testing.T) {
	t.Parallel()
	b := newBed(t, nodeMode, "web@a", "-db@a")
	b.publish()
	b.echo("db", ":8080")
	start := func() *kerneltest.Example {
		return kerneltest.StartIn(t, b.net.Nodes[0].NS, "node", "-node", "node-a", "-f", filepath.Join(b.dir, "objects.yaml"),
			"-ca", filepath.Join(b.dir, "ca.json"), "-sockets", filepath.Join(b.dir, "s"), "-netns", b.prefix, "-cluster", b.ranges())
	}
	captured := func() (captured, served bool) {
		c, err := b.dial("web", b.at("db", 0, 8080))
		if err != nil {
			return false, false
		}
		defer c.Close()
		greeting, err := says(c, "x")
		return greeting != c.LocalAddr().String(), err == nil
	}
	a := start()
	kerneltest.Eventually(t, "web is captured", func() bool { is, served := captured(); return is && served })
	a.Signal(syscall.SIGKILL)
	a.Wait(t)
	b.refused("web", b.at("db", 0, 8080))
	for _, o := range b.objects {
		if p, ok := o.(*corev1.Pod); ok {
			p.Labels[world.Label] = "disabled"
		}
	}
	b.publish()
	start()
	kerneltest.Eventually(t, "web is let go", func() bool { is, served := captured(); return !is && served })
}

// An agent that is asked to ends well: what is under way ends by itself, what
// begins goes its own way, and no rule is left.
func TestRelease(t *testing.T) {
	t.Parallel()
	b := newBed(t, nodeMode, "web@a", "-db@a")
	b.publish()
	b.echo("db", ":8080")
	a := kerneltest.StartIn(t, b.net.Nodes[0].NS, "node", "-node", "node-a", "-f", filepath.Join(b.dir, "objects.yaml"), "-release",
		"-ca", filepath.Join(b.dir, "ca.json"), "-sockets", filepath.Join(b.dir, "s"), "-netns", b.prefix, "-cluster", b.ranges())
	var c net.Conn
	kerneltest.Eventually(t, "web is captured", func() bool {
		var err error
		if c, err = b.dial("web", b.at("db", 0, 8080)); err != nil {
			return false
		}
		greeting, err := says(c, "x")
		if err == nil && greeting != c.LocalAddr().String() {
			return true
		}
		_ = c.Close()
		return false
	})
	defer c.Close()
	a.Signal(syscall.SIGTERM)
	kerneltest.Eventually(t, "what begins is not captured", func() bool {
		d, err := b.dial("web", b.at("db", 0, 8080))
		if err != nil {
			return false
		}
		defer d.Close()
		greeting, err := says(d, "x")
		return err == nil && greeting == d.LocalAddr().String()
	})
	require.NoError(t, echoes(c, "the proxy is still there"))
	require.NoError(t, c.(interface{ CloseWrite() error }).CloseWrite())
	require.Equal(t, 0, a.Wait(t), a.Stderr())
	c2, err := nat.New(nat.Config{NetNS: b.net.Pod("web").NS, Table: "podplumb-mesh"})
	require.NoError(t, err)
	defer c2.Close()
	left, err := c2.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, nat.State{}, left)
}
