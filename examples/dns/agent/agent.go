package agent

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
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/podplumb/podplumb/examples/dns/records"
	"github.com/podplumb/podplumb/examples/dns/server"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/examples/internal/source"
)

type options struct {
	directory, kubeconfig, master string
	listen                        []string
	netns, metrics                string
	config                        server.Config
}

// Run is the example.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o := options{listen: []string{":53"}}
	flags := flag.NewFlagSet("dns", flag.ContinueOnError)
	flags.StringVar(&o.directory, "f", "", "directory of manifests to follow, or one file")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the API server to follow")
	flags.StringVar(&o.master, "master", "", "address of the API server, in place of the kubeconfig's")
	run.List(flags, "listen", "addresses to serve, TCP and UDP, separated by commas (default :53)", &o.listen, run.Text)
	flags.StringVar(&o.netns, "netns", "", "network namespace to serve in: a name of `ip netns` or a path")
	flags.StringVar(&o.metrics, "metrics", "", "address for Prometheus's /metrics and for /ready, in the process's own network namespace")
	flags.StringVar(&o.config.Zone, "zone", "cluster.local", "domain of the cluster")
	flags.DurationVar(&o.config.TTL, "ttl", 5*time.Second, "time for which answers may be kept")
	flags.BoolVar(&o.config.Pods, "pods", false, "answer for addresses of pods: 10-244-0-7.<namespace>.pod.<zone>")
	flags.StringVar(&o.config.ID, "id", "", "name of this server, for those who ask id.server in class CHAOS; empty: it is not told")
	run.List(flags, "upstream", "servers for all other names, ADDRESS or ADDRESS:PORT", &o.config.Upstream, parseServer)
	run.List(flags, "reverse", "ranges of Services and pods, whose addresses have no names elsewhere", &o.config.Reverse, netip.ParsePrefix)
	run.List(flags, "address", "addresses under which clients know this server", &o.config.Addresses, netip.ParseAddr)
	question, args := cutQuestion(args)
	if code, ok := run.Parse(flags, args, stderr); !ok {
		return code
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	do := serve
	if question != nil {
		do = func(ctx context.Context, o *options, log *slog.Logger) error {
			return ask(ctx, o, question, stdout, log)
		}
	}
	if err := do(ctx, &o, log); err != nil {
		return run.Explain(ctx, stderr, "dns", err)
	}
	return run.Proved
}

func parseServer(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	return netip.ParseAddrPort(s)
}

// serve opens the sockets, follows the objects and answers until ctx ends.
func serve(ctx context.Context, o *options, log *slog.Logger) error {
	objects, err := source.Choose(o.directory, o.kubeconfig, o.master, "podplumb-dns")
	if err != nil {
		return err
	}
	if err := o.open(ctx); err != nil {
		return err
	}
	store := new(records.Store)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	o.config.Store, o.config.Metrics = store, registry
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, o.config) })
	group.Go(func() error { return follow(ctx, objects, store, log) })
	if o.metrics != "" {
		group.Go(func() error { return tell(ctx, o.metrics, registry, store) })
	}
	for _, l := range o.config.Listeners {
		log.Info("serving", "zone", o.config.Zone, "address", l.Addr().String())
	}
	return group.Wait()
}

// open opens the sockets in the network namespace that they are for.
func (o *options) open(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	packet, stream := new(net.ListenConfig).ListenPacket, new(net.ListenConfig).Listen
	if o.netns != "" {
		ns, err := run.OpenNetNS(o.netns)
		if err != nil {
			return err
		}
		defer ns.Close()
		packet, stream = ns.ListenPacket, ns.Listen
	}
	for _, address := range o.listen {
		l, err := stream(ctx, "tcp", address)
		if err != nil {
			return err
		}
		o.config.Listeners = append(o.config.Listeners, l)
		p, err := packet(ctx, "udp", l.Addr().String())
		if err != nil {
			return err
		}
		o.config.Packets = append(o.config.Packets, p)
	}
	return nil
}

func (o *options) close() {
	for _, l := range o.config.Listeners {
		_ = l.Close()
	}
	for _, p := range o.config.Packets {
		_ = p.Close()
	}
}

// tell serves the counters, and /ready once the cluster is known.
func tell(ctx context.Context, address string, registry *prometheus.Registry, store *records.Store) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if store.Snapshot() == nil {
			http.Error(w, "the cluster is not known yet", http.StatusServiceUnavailable)
		}
	})
	s := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}
