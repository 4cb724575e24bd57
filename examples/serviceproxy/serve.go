package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/podplumb/podplumb/service"
)

// serve is the proxy itself. When it ends, what it has made goes on to work.
func serve(ctx context.Context, o options, _ io.Writer, log *slog.Logger) error {
	if len(o.args) > 0 {
		return usage("unexpected argument %q", o.args[0])
	}
	m := newMetrics()
	h := &health{patience: 2 * o.sync, metrics: m, now: time.Now}
	src, err := newSource(o, h, log)
	if err != nil {
		return err
	}
	b, err := backends[o.backend](o, m, log)
	if err != nil {
		return err
	}
	defer b.close()
	proxy, err := service.New(service.Config{Node: service.Node{Meta: service.Meta{Name: o.node}}, Backend: b})
	if err != nil {
		return usage("--hostname-override: %w", err)
	}
	in := newInbox(h.queued)
	e := &engine{
		log: log, options: o, proxy: proxy, source: src, inbox: in, admission: newAdmission(log), health: h, metrics: m, unserved: map[service.Key]bool{},
		checks: newChecks(log, h, func() ([]netip.Addr, error) { return nodeAddresses(o.nodePorts, src.node) }),
	}
	defer e.checks.follow(nil)
	if o.counts {
		m.registry.MustRegister(newConnections(proxy, b, log))
	}
	warnForwarding(log)
	log.Info("started", "node", o.node, "backend", o.backend)

	// The first that ends, ends all.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var group sync.WaitGroup
	defer group.Wait()
	background := func(name string, f func() error) {
		group.Go(func() {
			if err := f(); ctx.Err() == nil {
				stop(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	background("objects", func() error { return src.run(ctx, in) })
	background("drift", func() error { return b.keep(ctx) })
	for _, server := range []struct {
		name, address string
		handler       http.Handler
	}{{"healthz", o.healthz, h.handler()}, {"metrics", o.metrics, m.handler(b.mode())}} {
		if server.address != "" {
			background(server.name, func() error { return answer(ctx, server.address, server.handler, log) })
		}
	}
	background("engine", func() error { return e.run(ctx) })
	<-ctx.Done()
	group.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	log.Info("ended; what is served goes on to be")
	return nil
}

func newSource(o options, h *health, log *slog.Logger) (source, error) {
	if o.manifests != "" {
		return newDirectory(o.manifests, o.node, log), nil
	}
	return newAPIServer(o, h, log)
}

// answer serves HTTP until ctx is done. An address that is taken, perhaps by the proxy that this one replaces, is tried
// again: it does not keep the Services from being served.
func answer(ctx context.Context, address string, handler http.Handler, log *slog.Logger) error {
	again := backoff{first: 100 * time.Millisecond, most: 5 * time.Second}
	for {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
			defer context.AfterFunc(ctx, func() { _ = server.Close() })()
			return server.Serve(listener)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		log.Warn("cannot listen, and tries again", "address", address, "err", err)
		sleep(ctx, again.next())
	}
}

// warnForwarding tells when the kernel would not pass on what is translated. Turning it on is for whoever set up the node:
// it changes more than Services.
func warnForwarding(log *slog.Logger) {
	for key, file := range map[string]string{
		"net.ipv4.ip_forward": "/proc/sys/net/ipv4/ip_forward", "net.ipv6.conf.all.forwarding": "/proc/sys/net/ipv6/conf/all/forwarding",
	} {
		if value, err := os.ReadFile(file); err == nil && len(value) > 0 && value[0] == '0' {
			log.Warn("the kernel does not forward: endpoints on other hosts and in pods are out of reach for others", "sysctl", key)
		}
	}
}
