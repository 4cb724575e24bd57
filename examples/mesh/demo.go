package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/report"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/examples/internal/source"
	"github.com/podplumb/podplumb/examples/mesh/agent"
	"github.com/podplumb/podplumb/examples/mesh/identity"
	"github.com/podplumb/podplumb/examples/mesh/l7"
	"github.com/podplumb/podplumb/examples/mesh/lab"
	"github.com/podplumb/podplumb/examples/mesh/proxy"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/trace"
	"github.com/podplumb/podplumb/examples/mesh/world"
	"github.com/podplumb/podplumb/netns"
)

//go:embed shop
var shop embed.FS

// runDemo builds two nodes with a shop on them, brings it into the mesh, shows what that changes, and takes it down.
func runDemo(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	out := report.New(stdout)
	flags := flag.NewFlagSet("mesh", flag.ContinueOnError)
	name := flags.String("name", "mesh", "name of the demo, part of the names of its namespaces")
	if code, ok := run.Parse(flags, args, stderr); !ok {
		return code
	}
	r, stale, err := run.Start(*name)
	if err != nil {
		return run.Explain(ctx, stderr, "mesh", err)
	}
	if stale.Any() {
		out.Line("removed what a killed run had left: %s", stale)
	}
	d := &demo{out: out, run: r, log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))}
	defer func() {
		d.close()
		removed, err := r.End()
		if err != nil {
			fmt.Fprintln(stderr, "mesh: take down:", err)
			code = run.Failed
		} else if removed.Any() {
			out.Line("taken down: %s", removed)
		}
	}()
	if err := d.show(ctx); err != nil {
		return run.Explain(ctx, stderr, "mesh", err)
	}
	if d.failed {
		return run.Failed
	}
	out.Summary("everything holds")
	return run.Proved
}

type demo struct {
	out    *report.Printer
	run    *run.Run
	log    *slog.Logger
	failed bool

	namespaces []*netns.NS
	net        *lab.Net
	apps       []*container.Process
	wire       *lab.Wiretap

	dir      string // of the manifests, the sockets and the traces
	ca       *identity.CA
	world    *world.World
	agents   []*agent.Agent
	requests *requests
	serving  sync.WaitGroup
	stop     context.CancelFunc
}

func (d *demo) show(ctx context.Context) error {
	if err := d.out.Steps(ctx,
		report.Step{Title: "network namespaces", Do: d.build},
		report.Step{Title: "applications", Do: d.start},
	); err != nil {
		return err
	}
	before, err := d.beforehand(ctx)
	if err != nil {
		return err
	}
	defer before.Close()
	if err := d.out.Steps(ctx, report.Step{Title: "the mesh: authority, agents, proxies", Do: d.enrol}); err != nil {
		return err
	}
	d.describe()
	for _, show := range []func(context.Context) error{
		func(ctx context.Context) error { return d.showOld(ctx, before) },
		d.showWire, d.showClear, d.showStrangers, d.showForbidden, d.showTrace, d.showCanary, d.showRotation,
	} {
		if err := show(ctx); err != nil {
			return err
		}
	}
	return nil
}

// verdict prints a finding, and remembers one that is bad.
func (d *demo) verdict(ok bool, format string, args ...any) {
	d.failed = d.failed || !ok
	d.out.Verdict(ok, format, args...)
}

func (d *demo) detail(format string, args ...any) { d.out.Line("          "+format, args...) }

func (d *demo) build(ctx context.Context) (string, error) {
	var err error
	d.net, err = lab.Build(ctx, func(name string) (*netns.NS, error) {
		ns, err := d.run.NetNS(name)
		if err == nil {
			d.namespaces = append(d.namespaces, ns)
		}
		return ns, err
	}, []string{"web", "order", "intruder"}, []string{"payment-v1", "payment-v2", "ledger"})
	if err != nil {
		return "", err
	}
	if d.wire, err = lab.Tap(d.net.Wire, lab.Uplink); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d, named %s*", len(d.namespaces), d.run.Prefix()), nil
}

// start starts the applications, which know the Services by their addresses.
func (d *demo) start(ctx context.Context) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	for _, app := range []struct{ pod, next string }{
		{"order", "http://10.96.0.11"}, {"payment-v1", "http://10.96.0.14"}, {"payment-v2", "http://10.96.0.14"}, {"ledger", ""},
	} {
		pod := d.net.Pod(app.pod)
		p, err := container.Command(container.Config{
			NetNS: pod.NS, Run: d.run.Name, Pod: app.pod, Env: []string{"SELF=" + self, "NAME=" + app.pod, "NEXT=" + app.next},
		}, `exec "$SELF" app -name "$NAME" -next "$NEXT"`)
		if err != nil {
			return "", err
		}
		d.apps = append(d.apps, p)
		for try := 0; ; try++ {
			c, err := pod.NS.DialContext(ctx, "tcp", "127.0.0.1:8080")
			if err == nil {
				_ = c.Close()
				break
			}
			if try > 500 || !p.Running() || ctx.Err() != nil {
				return "", errors.Join(fmt.Errorf("the application of %s does not answer: %w", app.pod, err), ctx.Err())
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return fmt.Sprintf("%d processes", len(d.apps)), nil
}

// enrol brings the shop into the mesh: an agent on each node, which share an authority and follow the manifests.
func (d *demo) enrol(ctx context.Context) (string, error) {
	d.dir = filepath.Join(d.run.Path(), "mesh")
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return "", err
	}
	if err := os.CopyFS(d.dir, shop); err != nil {
		return "", err
	}
	domain := spiffeid.RequireTrustDomainFromString("cluster.local")
	var err error
	if d.ca, err = identity.OpenCA(identity.Config{TrustDomain: domain, Leaf: time.Minute, Spread: 300 * time.Millisecond}); err != nil {
		return "", err
	}
	registry := prometheus.NewRegistry()
	counts, err := proxy.NewCounts(registry)
	if err != nil {
		return "", err
	}
	if d.requests, err = newRequests(ctx, trace.Config{File: filepath.Join(d.dir, traceFile), Ratio: 1}, l7.Config{}, registry, d.log); err != nil {
		return "", err
	}
	failed := func(err error) { d.log.Error("the last good state counts", "fault", err) }
	d.world = world.New(domain, failed)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	objects := source.Directory(filepath.Join(d.dir, "shop"))
	d.serving.Go(func() { _ = d.ca.Run(serving, failed) })
	d.serving.Go(func() {
		if err := d.world.Follow(serving, objects); err != nil {
			failed(err)
		}
	})
	d.serving.Go(func() {
		if err := d.requests.follow(serving, objects); err != nil {
			failed(err)
		}
	})
	for _, node := range d.net.Nodes {
		a := agent.New(agent.Config{
			Node: node.Name, World: d.world, Issuer: d.ca, Sockets: filepath.Join(d.dir, node.Name), Find: agent.FindByAddress(d.run.Prefix()),
			Handler: func(pod *stream.Workload, dialer stream.Dialer) stream.Handler {
				return d.requests.handler(pod, d.world, dialer)
			},
			Probes: probes(node), Cluster: lab.Ranges, Drain: -1, Counts: counts, Log: d.log,
		})
		d.agents = append(d.agents, a)
		d.serving.Go(func() {
			if err := a.Run(serving); err != nil {
				failed(err)
			}
		})
	}
	return d.captured(ctx)
}

// probes are the addresses from which a node reaches its pods: those may come in clear.
func probes(n *lab.Node) []netip.Prefix {
	var list []netip.Prefix
	for _, a := range n.Gates {
		list = append(list, netip.PrefixFrom(a, a.BitLen()))
	}
	return list
}

// captured waits until all pods of the mesh are.
func (d *demo) captured(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		s, _ := d.world.Snapshot()
		want, have := 0, 0
		for _, p := range s.Pods {
			if p.Workload.Meshed {
				want++
			}
		}
		for _, a := range d.agents {
			ready, _ := a.Ready()
			have += len(ready)
		}
		if s.Known && have == want {
			return fmt.Sprintf("%d pods", have), nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%d of %d pods are captured: %w", have, want, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (d *demo) describe() {
	rows := [][]string{{"POD", "NODE", "ADDRESSES", "IDENTITY"}}
	s, _ := d.world.Snapshot()
	for _, p := range s.Pods {
		id := p.Workload.ID.String()
		if !p.Workload.Meshed {
			id = "not in the mesh"
		}
		rows = append(rows, []string{p.Workload.Name, p.Workload.Node, fmt.Sprint(p.Workload.Addresses[0], " ", p.Workload.Addresses[1]), id})
	}
	d.out.Line("")
	d.out.Table(rows...)
	d.out.Line("")
}

func (d *demo) close() {
	if d.stop != nil {
		d.stop()
		d.serving.Wait()
	}
	if d.requests != nil {
		d.requests.close()
	}
	for _, p := range d.apps {
		p.Kill()
	}
	if d.wire != nil {
		_ = d.wire.Close()
	}
	for _, ns := range d.namespaces {
		_ = ns.Close()
	}
	if d.dir != "" {
		_ = os.RemoveAll(d.dir)
	}
}
