package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/service"
)

// backend serves Frontends on this node.
type backend interface {
	service.Backend
	// mode is the name that kube-proxy has for it.
	mode() string
	// keep puts back what others change, until ctx is done.
	keep(ctx context.Context) error
	// plan says what would change in the kernel if these Frontends were served and nothing else.
	plan(ctx context.Context, frontends []service.Frontend) (fmt.Stringer, error)
	// explain says what the kernel does with a packet.
	explain(ctx context.Context, p packet) (fmt.Stringer, error)
	// counts says how many connections each endpoint has got, when options.counts is set.
	counts(ctx context.Context) ([]count, error)
	// clean removes all that it has in the kernel.
	clean(ctx context.Context) error
	close() error
}

// packet is the first of a connection.
type packet struct {
	from, to netip.AddrPort
	protocol service.Protocol
	toHost   bool // to is an address of this host
}

// backends are those that --backend chooses from.
var backends = map[string]func(o options, m *metrics, log *slog.Logger) (backend, error){
	"nat":  newNATBackend,
	"ipvs": newIPVSBackend,
}

func backendNames() []string { return slices.Sorted(maps.Keys(backends)) }
