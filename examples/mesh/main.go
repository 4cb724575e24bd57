// The mesh example encrypts, identifies and watches what pods say to each other, without their knowledge.
//
//	sudo go run ./mesh                    the demo: two nodes, four pods, what is on the wire, who is refused
//	mesh node -node NAME -f DIR           bring the pods of a node into the mesh
//	mesh proxy -pod NAMESPACE/NAME        be the proxy inside of a pod
//	mesh trace FILE [ID...]               draw the traces that -trace-file collected
//
// Container runtimes may call it as a CNI plugin, the last of a list, which holds pods back until the mesh has them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/examples/internal/source"
	"github.com/podplumb/podplumb/examples/mesh/proxy"
	"github.com/podplumb/podplumb/examples/mesh/trace"
	"github.com/podplumb/podplumb/examples/mesh/world"
)

func main() { run.Main(Run) }

// Run is the example.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if isHook(args) {
		return runHook(ctx, stderr)
	}
	if len(args) > 0 {
		switch args[0] {
		case "node":
			return runNode(ctx, args[1:], stderr)
		case "proxy":
			return runProxy(ctx, args[1:], stderr)
		case "trace":
			return runTrace(args[1:], stdout, stderr)
		case "app":
			return runApp(ctx, args[1:], stdout, stderr)
		}
	}
	return runDemo(ctx, args, stdout, stderr)
}

// options are those that a node's agent and a pod's proxy share.
type options struct {
	directory, kubeconfig, master string
	cluster                       []netip.Prefix
	nameServer                    string
	metrics                       string
	drain                         time.Duration
	verbose                       bool
	traces                        traceOptions
	limits                        limitOptions
}

func (o *options) register(flags *flag.FlagSet) {
	flags.StringVar(&o.directory, "f", "", "directory of manifests to follow, or one file")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the API server to follow")
	flags.StringVar(&o.master, "master", "", "address of the API server, in place of the kubeconfig's")
	run.List(flags, "cluster", "networks of pods and Services: what is not known there is refused, and not reached in clear", &o.cluster, netip.ParsePrefix)
	flags.StringVar(&o.nameServer, "dns", "", "capture questions to name servers and ask this one, ADDRESS:PORT")
	flags.StringVar(&o.metrics, "metrics", "", "address for Prometheus's /metrics, and /healthz, /readyz and /config")
	flags.DurationVar(&o.drain, "drain", 10*time.Second, "how long connections have to end by themselves when this process is to end")
	o.traces.register(flags)
	o.limits.register(flags)
	flags.BoolVar(&o.verbose, "v", false, "log every connection that fails")
}

// parsed are the parts of options that are not only text.
type parsed struct {
	objects    source.Source
	nameServer netip.AddrPort
	log        *slog.Logger
	registry   *prometheus.Registry
	counts     *proxy.Counts
	requests   *requests
}

func (o *options) parse(ctx context.Context, stderr io.Writer) (p parsed, err error) {
	var faults []error
	if p.objects, err = source.Choose(o.directory, o.kubeconfig, o.master, "podplumb-mesh"); err != nil {
		faults = append(faults, err)
	}
	if o.nameServer != "" {
		if p.nameServer, err = netip.ParseAddrPort(o.nameServer); err != nil {
			faults = append(faults, fmt.Errorf("-dns: %w", err))
		}
	}
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	p.log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	p.registry = prometheus.NewRegistry()
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if p.counts, err = proxy.NewCounts(p.registry); err != nil {
		faults = append(faults, err)
	}
	limits, err := o.limits.config()
	if err != nil {
		faults = append(faults, err)
	}
	if o.limits.b3 {
		o.traces.Formats = trace.B3 | trace.B3Multi
	}
	if p.requests, err = newRequests(ctx, o.traces.Config, limits, p.registry, p.log); err != nil {
		faults = append(faults, err)
	}
	return p, errors.Join(faults...)
}

// follow takes in the objects, until ctx ends.
func (o *options) follow(ctx context.Context, group *errgroup.Group, p parsed, w *world.World) {
	group.Go(func() error { return w.Follow(ctx, p.objects) })
	group.Go(func() error { return p.requests.follow(ctx, p.objects) })
}

// spaciously lets garbage grow to some times of what lives, which is little in a proxy, before it is collected; GOGC says
// otherwise.
func spaciously() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}

// tell serves the counters and what else there is to be known, until ctx ends.
func (p *parsed) tell(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{}))
	p.requests.admin(mux)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// listenMetrics opens the address for the counters, if there is one.
func (o *options) listenMetrics(ctx context.Context) (net.Listener, error) {
	if o.metrics == "" {
		return nil, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", o.metrics)
	if err != nil {
		return nil, fmt.Errorf("-metrics: %w", err)
	}
	return l, nil
}
