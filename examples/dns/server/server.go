package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/forward"
	"github.com/coredns/coredns/plugin/pkg/proxy"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"golang.org/x/sync/errgroup"
)

// Serve answers questions until ctx ends, then lets those under way end, closes the sockets and returns nil.
func Serve(ctx context.Context, config Config) error {
	if err := config.check(); err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	names := &names{Config: config}
	site := &dnsserver.Config{Zone: ".", Transport: transport.DNS}
	if config.Metrics != nil {
		counters, err := newCounters(config.Metrics)
		if err != nil {
			return fmt.Errorf("dns: metrics: %w", err)
		}
		site.AddPlugin(counters.plugin)
	}
	site.AddPlugin(func(next plugin.Handler) plugin.Handler { return identity{config.ID, next} })
	site.AddPlugin(func(next plugin.Handler) plugin.Handler { names.next = next; return names })
	if len(config.Upstream) > 0 {
		forwarder := newForwarder(config.Upstream)
		defer forwarder.OnShutdown() //nolint:errcheck // it has none
		site.AddPlugin(func(plugin.Handler) plugin.Handler { return forwarder })
		names.upstream = forwarder
	}

	// A dnsserver.Server takes one socket of each kind.
	group, ctx := errgroup.WithContext(ctx)
	for i := range max(len(config.Listeners), len(config.Packets)) {
		own := *site
		server, err := dnsserver.NewServer(transport.DNS+"://", []*dnsserver.Config{&own})
		if err != nil {
			return fmt.Errorf("dns: %w", err)
		}
		if i < len(config.Listeners) {
			group.Go(func() error { return serving(ctx, server.Serve(config.Listeners[i])) })
		}
		if i < len(config.Packets) {
			group.Go(func() error { return serving(ctx, server.ServePacket(config.Packets[i])) })
		}
		defer context.AfterFunc(ctx, func() {
			_ = server.Stop()
			config.close() // Stop does nothing to a server that has not begun yet
		})()
	}
	err := group.Wait()
	config.close()
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	return nil
}

// serving keeps the error of a socket that fails before its time.
func serving(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func newForwarder(upstream []netip.AddrPort) *forward.Forward {
	f := forward.New()
	f.SetProxyOptions(proxy.Options{PreferUDP: true, HCRecursionDesired: true, HCDomain: "."})
	for _, u := range upstream {
		p := proxy.NewProxy("forward", u.String(), transport.DNS)
		p.SetReadTimeout(time.Second)
		f.SetProxy(p)
	}
	return f
}
