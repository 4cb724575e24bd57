package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/service"
)

// dryRun prints what would change in the kernel.
func dryRun(ctx context.Context, o options, stdout io.Writer, log *slog.Logger) error {
	h := &health{patience: o.sync, metrics: newMetrics(), now: time.Now}
	src, err := newSource(o, h, log)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- src.run(ctx, newInbox(func() {})) }()
	select {
	case err := <-ended:
		return err
	case <-src.ready():
	}
	state, err := settle(ctx, o, newAdmission(log), src.state())
	if err != nil {
		return err
	}
	frontends, err := service.Resolve(state, src.node())
	if err != nil {
		return err
	}
	b, err := backends[o.backend](o, h.metrics, log)
	if err != nil {
		return err
	}
	defer b.close()
	plan, err := b.plan(ctx, frontends)
	if list, only := refusals(err); !only {
		return err
	} else {
		for _, r := range list {
			log.Error("not served", "frontend", r.Key.String(), "service", r.Service.String(), "err", r.Err)
		}
	}
	_, err = fmt.Fprint(stdout, plan)
	return err
}

// cleanup removes what any backend has left in the kernel.
func cleanup(ctx context.Context, o options, _ io.Writer, log *slog.Logger) error {
	var faults []error
	for _, name := range backendNames() {
		b, err := backends[name](o, newMetrics(), log)
		if errors.Is(err, ipvs.ErrNoIPVS) {
			continue // then nothing of it is there
		}
		if err == nil {
			err = errors.Join(b.clean(ctx), b.close())
		}
		if err != nil && !errors.Is(err, errors.ErrUnsupported) { // a kernel that has no IPVS has nothing of it to remove
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// explain prints what the node does with a packet, by what is in the kernel.
func explain(ctx context.Context, o options, stdout io.Writer, log *slog.Logger) error {
	p, err := parsePacket(o.args)
	if err != nil {
		return err
	}
	b, err := backends[o.backend](o, newMetrics(), log)
	if err != nil {
		return err
	}
	defer b.close()
	e, err := b.explain(ctx, p)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(stdout, e)
	return err
}

// parsePacket reads SRC DST:PORT[/PROTOCOL].
func parsePacket(args []string) (packet, error) {
	const form = "explain SRC DST:PORT[/tcp|/udp|/sctp]"
	if len(args) != 2 {
		return packet{}, usage("%s takes two arguments", form)
	}
	p := packet{protocol: service.TCP}
	if from, err := netip.ParseAddr(args[0]); err == nil {
		const port = 40000 // a port of the client; no rule looks at it
		p.from = netip.AddrPortFrom(from, port)
	} else if p.from, err = netip.ParseAddrPort(args[0]); err != nil {
		return packet{}, usage("%s: %q is neither an address nor an address and port", form, args[0])
	}
	to, protocol, ok := strings.Cut(args[1], "/")
	if ok {
		p.protocol = service.Protocol(strings.ToUpper(protocol))
	}
	var err error
	if p.to, err = netip.ParseAddrPort(to); err != nil {
		return packet{}, usage("%s: %q is not an address and port", form, to)
	}
	if p.protocol != service.TCP && p.protocol != service.UDP && p.protocol != service.SCTP {
		return packet{}, usage("%s: %q is not tcp, udp or sctp", form, protocol)
	}
	if p.from.Addr().Is4() != p.to.Addr().Is4() {
		return packet{}, usage("%s: %s and %s are not of the same family", form, p.from.Addr(), p.to.Addr())
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return packet{}, err
	}
	for _, a := range own {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr() == p.to.Addr() {
			p.toHost = true
		}
	}
	return p, nil
}
