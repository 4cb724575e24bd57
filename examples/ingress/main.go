// The ingress example leads HTTP requests from outside to Services by host and path, as Ingress objects say
// (networking.k8s.io/v1), and as Gateways and routes of the Gateway API do (gateway.networking.k8s.io/v1).
//
//	ingress -f DIR -http :80 -https :443           follow a directory of manifests
//	ingress -kubeconfig FILE -address 192.0.2.10   follow an API server, and write the address into the status of Ingresses
//	ingress -kubeconfig FILE -gateway-address 192.0.2.16/28     serve Gateways, each at an address of its own
//	ingress -f DIR status                          say the status of Gateways and routes
//	ingress -f DIR route shop.example/api/v1       say which rule and which endpoints a request meets
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
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/podplumb/podplumb/examples/ingress/listen"
	"github.com/podplumb/podplumb/examples/ingress/proxy"
	"github.com/podplumb/podplumb/examples/ingress/route"
	"github.com/podplumb/podplumb/examples/ingress/upstream"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/examples/internal/source"
	"github.com/podplumb/podplumb/netns"
)

func main() { run.Main(Run) }

type options struct {
	directory, kubeconfig, master string
	http, https                   []string
	metrics, netns, controller    string
	addresses                     []netip.Addr
	pool, proxies                 []netip.Prefix
	all, client                   route.Limit
	traces                        string
	share                         float64
	quiet                         bool
}

// Run is the example.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("ingress", flag.ContinueOnError)
	flags.StringVar(&o.directory, "f", "", "directory of manifests to follow, or one file")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the API server to follow")
	flags.StringVar(&o.master, "master", "", "address of the API server, in place of the kubeconfig's")
	run.List(flags, "http", "addresses for HTTP, separated by commas", &o.http, run.Text)
	run.List(flags, "https", "addresses for HTTPS, separated by commas", &o.https, run.Text)
	flags.StringVar(&o.netns, "netns", "", "network namespace to serve and to reach endpoints in: a name of `ip netns` or a path")
	flags.StringVar(&o.metrics, "metrics", "", "address for Prometheus's /metrics and for /ready, in the process's own network namespace")
	flags.StringVar(&o.controller, "controller", "podplumb.github.io/ingress", "which IngressClasses are served: those with this controller")
	run.List(flags, "address", "addresses of this ingress for the status of Ingresses", &o.addresses, netip.ParseAddr)
	run.List(flags, "gateway-address", "networks of addresses for Gateways, each of which gets its own, such as 192.0.2.16/28,2001:db8::/120", &o.pool, prefix)
	run.List(flags, "proxy-protocol", "networks of load balancers that speak the PROXY protocol; connections from elsewhere are refused then", &o.proxies, netip.ParsePrefix)
	flags.Func("rate-limit", "requests a second to each rule, RATE or RATE/BURST; the annotation "+route.LimitAnnotation+" of an Ingress comes first", limit(&o.all))
	flags.Func("client-rate-limit", "the same, of each client; the annotation is "+route.ClientLimitAnnotation, limit(&o.client))
	flags.StringVar(&o.traces, "traces", "", "where spans go: URL of a collector that speaks OTLP, such as http://127.0.0.1:4318/v1/traces, a file, or - for the standard output")
	flags.Float64Var(&o.share, "trace-share", 1, "share of the traces that begin here and are kept, from 0 to 1")
	flags.BoolVar(&o.quiet, "quiet", false, "no access log")
	verb, request, args := cutRequest(args)
	if code, ok := run.Parse(flags, args, stderr); !ok {
		return code
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	do := serve
	if verb != "" {
		do = func(ctx context.Context, o *options, _ io.Writer, log *slog.Logger) error {
			return explain(ctx, o, verb, request, stdout, log)
		}
	}
	if err := do(ctx, &o, stdout, log); err != nil {
		return run.Explain(ctx, stderr, "ingress", err)
	}
	return run.Proved
}

// serve opens the sockets, follows the objects and serves until ctx ends.
func serve(ctx context.Context, o *options, stdout io.Writer, log *slog.Logger) error {
	if len(o.http)+len(o.https)+len(o.pool) == 0 {
		return errors.New("-http, -https or -gateway-address: nothing to serve")
	}
	objects, err := source.Choose(o.directory, o.kubeconfig, o.master, "podplumb-ingress")
	if err != nil {
		return err
	}
	open, dial, done, err := o.network()
	if err != nil {
		return err
	}
	defer done()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // little is kept from one request to the next: the heap is small, and collecting it often costs more
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics, err := proxy.NewMetrics(registry)
	if err != nil {
		return err
	}
	var access *slog.Logger
	if !o.quiet {
		access = slog.New(slog.NewJSONHandler(stdout, nil))
	}
	transport := upstream.NewTransport(dial)
	defer transport.Close()
	p := proxy.New(transport, metrics, access)
	p.Limit(o.all, o.client)
	var handler http.Handler = p
	if o.traces != "" {
		provider, done, err := tracing(ctx, o.traces, o.share, stdout)
		if err != nil {
			return err
		}
		defer done()
		handler = p.Trace(provider)
	}
	w := newWorld(o.controller, p.Set, log)
	w.gateways.config.Addresses = o.pool
	w.gateways.sockets = sockets{
		listen: func(ctx context.Context, address netip.AddrPort) (net.Listener, error) {
			return open(ctx, "tcp", address.String())
		},
		serve: func(ctx context.Context, l net.Listener, address netip.AddrPort, secure bool) error {
			config := o.listening(handler)
			mark := config.Context
			config.Context = func(ctx context.Context, secure bool) context.Context {
				return proxy.WithAddress(mark(ctx, secure), address)
			}
			if secure {
				config.Certificate = p.CertificateAt(address)
			}
			return listen.Serve(ctx, l, config)
		},
		log: func(message string, address netip.AddrPort, fault error) {
			if fault != nil {
				log.Error(message, "address", address.String(), "fault", fault)
			} else {
				log.Info(message, "address", address.String())
			}
		},
	}

	var listeners []net.Listener
	for _, address := range slices.Concat(o.http, o.https) {
		l, err := open(ctx, "tcp", address)
		if err != nil {
			for _, l := range listeners {
				_ = l.Close()
			}
			return err
		}
		listeners = append(listeners, l)
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, l := range listeners {
		config := o.listening(handler)
		if i >= len(o.http) {
			config.Certificate = p.Certificate
		}
		log.Info("serving", "address", l.Addr().String(), "tls", config.Certificate != nil)
		group.Go(func() error { return listen.Serve(ctx, l, config) })
	}
	group.Go(func() error { return w.follow(ctx, objects) })
	group.Go(func() error { return w.publish(ctx) })
	if api, ok := objects.(source.APIServer); ok {
		if len(o.addresses) > 0 {
			group.Go(func() error { return w.tellStatus(ctx, api.Config, o.addresses) })
		}
		if len(o.pool) > 0 {
			group.Go(func() error { return w.tellGateways(ctx, api.Config) })
		}
	}
	if o.metrics != "" {
		group.Go(func() error { return tell(ctx, o.metrics, registry, w) })
	}
	return group.Wait()
}

// listening is what is the same for all sockets.
func (o *options) listening(handler http.Handler) listen.Config {
	return listen.Config{Handler: handler, Proxies: o.proxies, Context: func(ctx context.Context, secure bool) context.Context {
		if secure {
			return proxy.WithSecure(ctx)
		}
		return ctx
	}}
}

// limit is a flag for a limit.
func limit(to *route.Limit) func(string) error {
	return func(text string) (err error) {
		*to, err = route.ParseLimit(text)
		return err
	}
}

// prefix parses a network, or one address.
func prefix(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

type opener func(ctx context.Context, network, address string) (net.Listener, error)

// network returns how to listen, and how to dial: in the process's own namespace, or in another.
func (o *options) network() (open opener, dial upstream.Dial, done func(), err error) {
	if o.netns == "" {
		return new(net.ListenConfig).Listen, nil, func() {}, nil
	}
	ns, err := run.OpenNetNS(o.netns)
	if err != nil {
		return nil, nil, nil, err
	}
	dialer := netns.Dialer{NS: ns, Dialer: upstream.Dialer()}
	return ns.Listen, dialer.DialContext, func() { _ = ns.Close() }, nil
}

// tell serves the counters, and /ready once the objects are known.
func tell(ctx context.Context, address string, registry *prometheus.Registry, w *world) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /ready", func(rw http.ResponseWriter, _ *http.Request) {
		if !w.ready.Load() {
			http.Error(rw, "the objects are not known yet", http.StatusServiceUnavailable)
		}
	})
	s := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}
