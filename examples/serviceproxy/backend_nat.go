package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/service"
)

// natBackend serves Frontends in one flat nftables table.
type natBackend struct {
	service.Backend
	client *nat.Client
}

func newNATBackend(o options, m *metrics, log *slog.Logger) (backend, error) {
	client, err := nat.New(nat.Config{Table: o.table, Counters: o.counts, Repaired: func(p nat.Plan, err error) {
		if err != nil {
			log.Error("the table was changed by others and could not be put right", "err", err)
			return
		}
		m.repairs.Inc()
		log.Warn("the table was changed by others and was put right", "plan", p.String())
	}})
	if err != nil {
		return nil, err
	}
	return &natBackend{Backend: service.NAT(client), client: client}, nil
}

func (b *natBackend) mode() string { return "nftables" }

func (b *natBackend) keep(ctx context.Context) error { return b.client.Watch(ctx) }

func (b *natBackend) plan(ctx context.Context, frontends []service.Frontend) (fmt.Stringer, error) {
	have, err := b.client.Read(ctx)
	if err != nil {
		return nil, err
	}
	want, unserved := service.NATState(have, frontends)
	plan, err := b.client.Plan(ctx, want)
	return plan, errors.Join(unserved, err)
}

func (b *natBackend) explain(ctx context.Context, p packet) (fmt.Stringer, error) {
	state, err := b.client.Read(ctx)
	if err != nil {
		return nil, err
	}
	return nat.Explain(state, nat.Packet{Src: p.from, Dst: p.to, Proto: protocols[p.protocol], ToHost: p.toHost}), nil
}

var protocols = map[service.Protocol]nat.Proto{service.TCP: nat.TCP, service.UDP: nat.UDP, service.SCTP: nat.SCTP}

func (b *natBackend) counts(ctx context.Context) ([]count, error) {
	list, err := b.client.Counts(ctx)
	if err != nil {
		return nil, err
	}
	named := map[nat.Proto]service.Protocol{}
	for name, number := range protocols {
		named[number] = name
	}
	counts := make([]count, len(list))
	for i, c := range list {
		counts[i] = count{way{c.Key.Addr, c.Key.Port, named[c.Key.Proto]}, c.Target, c.Connections}
	}
	return counts, nil
}

func (b *natBackend) clean(ctx context.Context) error {
	_, err := b.client.Sync(ctx, nat.State{})
	return err
}

func (b *natBackend) close() error { return b.client.Close() }
