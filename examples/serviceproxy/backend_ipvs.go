package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/service"
)

// ipvsBackend serves cluster IPs as virtual servers, and the rest in the table of the NAT backend.
type ipvsBackend struct {
	*natBackend
	both    *service.IPVSBackend
	servers *ipvs.Client
}

func newIPVSBackend(o options, m *metrics, log *slog.Logger) (backend, error) {
	owns := ipvs.Owns{Prefixes: o.serviceCIDRs}
	switch {
	case o.cleanup:
		// To look for virtual servers must not load the module that makes them.
		if _, err := os.Stat("/proc/thread-self/net/ip_vs"); err != nil {
			return nil, ipvs.ErrNoIPVS
		}
		var err error
		if owns, err = madeRanges(); err != nil {
			return nil, err
		}
	case len(owns.Prefixes) == 0:
		return nil, usage("--backend ipvs needs --service-cidr: the node answers for all of its addresses")
	}
	table, err := newNATBackend(o, m, log)
	if err != nil {
		return nil, err
	}
	servers, err := ipvs.New(ipvs.Config{Owns: owns})
	if err != nil {
		return nil, errors.Join(err, table.close())
	}
	b := &ipvsBackend{natBackend: table.(*natBackend), servers: servers}
	b.both = service.IPVS(servers, b.client)
	b.Backend = b.both
	return b, nil
}

// madeRanges are those that an earlier run has made.
func madeRanges() (ipvs.Owns, error) {
	all, err := ipvs.New(ipvs.Config{Owns: ipvs.Everything()})
	if err != nil {
		return ipvs.Owns{}, err
	}
	defer all.Close()
	ranges, err := all.Ranges(context.Background())
	if err != nil {
		return ipvs.Owns{}, err
	}
	if len(ranges) == 0 {
		return ipvs.Owns{}, ipvs.ErrNoIPVS // nothing of ours
	}
	var owns ipvs.Owns
	for _, r := range ranges {
		owns.Prefixes = append(owns.Prefixes, r.Prefix)
	}
	return owns, nil
}

func (b *ipvsBackend) mode() string { return "ipvs" }

func (b *ipvsBackend) plan(ctx context.Context, frontends []service.Frontend) (fmt.Stringer, error) {
	return b.both.Plan(ctx, frontends)
}

// counts are those of the table, and of the virtual servers where they lead.
func (b *ipvsBackend) counts(ctx context.Context) ([]count, error) {
	counts, err := b.natBackend.counts(ctx)
	if err != nil {
		return nil, err
	}
	stats, err := b.servers.Stats(ctx)
	if err != nil {
		return nil, err
	}
	type led struct {
		way
		endpoint netip.AddrPort
	}
	at := map[led]uint64{}
	named := map[ipvs.Protocol]service.Protocol{ipvs.TCP: service.TCP, ipvs.UDP: service.UDP, ipvs.SCTP: service.SCTP}
	for _, s := range stats {
		for _, d := range s.Destinations {
			at[led{way{s.Key.Address.Addr(), s.Key.Address.Port(), named[s.Key.Protocol]}, d.Address}] = d.Connections
		}
	}
	for i := range counts {
		k := led{counts[i].way, counts[i].endpoint}
		counts[i].connections += at[k]
		delete(at, k)
	}
	for k, n := range at {
		counts = append(counts, count{k.way, k.endpoint, n})
	}
	return counts, nil
}

func (b *ipvsBackend) clean(ctx context.Context) error {
	_, err := b.servers.Sync(ctx, ipvs.State{})
	return errors.Join(err, b.servers.SyncRanges(ctx, nil), b.natBackend.clean(ctx))
}

func (b *ipvsBackend) close() error {
	return errors.Join(b.both.Close(), b.servers.Close(), b.natBackend.close())
}
