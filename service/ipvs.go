package service

import (
	"context"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/nat"
)

// IPVS returns the Backend that serves Frontends as virtual servers of c, with what IPVS cannot do left to n.
//
// A Frontend with an address that c owns and with endpoints becomes a virtual server, whose destinations are masqueraded to (so Sysctls.Conntrack is set,
// and with it what Recommended has to say of removed and drained destinations). n turns away clients outside of Sources, refuses where there are no
// endpoints and on other ports and addresses of the ranges, and masquerades clients. Whole Frontends go to n where IPVS would not keep the promise: node
// ports, since a virtual server is of one address; ExternalTrafficPolicy Local, since a virtual server has the same destinations for every client; an
// Affinity below ten minutes, since IPVS keeps a client with its destination until the last of its connections has left the table, two minutes after it
// was closed; and addresses that c does not own. What n does not serve is refused as NAT does it.
//
// All services and ranges of c belong to the Backend, and of n what NAT says. The service ranges of a State, as far as c owns them, become ranges of c: one
// local route each. So does each other address that is served, unless the node has it. The node answers ARP for such an address like for its own: leave
// the addresses of load balancers out of what c owns where another machine shall attract them.
//
// A removed Frontend ends its connections. Close the Backend before its clients.
func IPVS(c *ipvs.Client, n *nat.Client) *IPVSBackend {
	return &IPVSBackend{client: c, nat: &natBackend{client: n, served: map[nat.Key]bool{}}}
}

// IPVSBackend is the Backend of IPVS. Its fields are set before it is used first.
type IPVSBackend struct {
	// Scheduler chooses the scheduler of a Frontend. Kubernetes has no field for it; f.Service tells whose annotation to look at. Nil, or an empty
	// answer, is ipvs.RoundRobin. A scheduler that the kernel does not have leaves the Frontend unserved.
	Scheduler func(f Frontend) ipvs.Scheduler

	// Drain bounds how long an endpoint that was removed keeps its TCP and SCTP connections: it gets no new ones, and is removed when none is left, or
	// then. Zero means 15 minutes, after which IPVS forgets silent connections anyway; below zero it is removed at once. UDP clients move on at once.
	Drain time.Duration

	client *ipvs.Client
	nat    *natBackend

	mu       sync.Mutex
	known    bool // what follows is what the kernel has
	services map[ipvs.Key]ipvs.Service
	leaving  map[ipvs.Key]map[netip.AddrPort]time.Time // draining destinations, with their deadlines
	routes   routes

	closed  bool
	stop    context.CancelFunc // of the drainer; nil: none runs
	drainer sync.WaitGroup
}

// persistent is the least Affinity that IPVS can keep closely enough.
const persistent = 10 * time.Minute

// drainDefault is the time after which the kernel forgets an idle TCP connection (IP_VS_TCP_S_ESTABLISHED).
const drainDefault = 15 * time.Minute

// Apply implements Backend.
func (b *IPVSBackend) Apply(ctx context.Context, p Plan) error {
	part, err := natPart(p)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return &OpError{Op: "apply", Object: "frontends", Err: os.ErrClosed}
	}
	if p.Full || !b.known {
		if err := b.read(ctx); err != nil {
			return err
		}
	}
	s := b.prepare(p, &part)
	err = s.do(ctx, p.Full)
	if len(b.leaving) > 0 && b.stop == nil {
		var during context.Context
		during, b.stop = context.WithCancel(context.Background())
		b.drainer.Go(func() { b.drain(during) })
	}
	return err
}

// read learns what the kernel has: the rest of an earlier process, or of others.
func (b *IPVSBackend) read(ctx context.Context) error {
	have, err := b.client.Read(ctx)
	if err != nil {
		return err
	}
	ranges, err := b.client.Ranges(ctx)
	if err != nil {
		return err
	}
	b.services = make(map[ipvs.Key]ipvs.Service, len(have.Services))
	for _, s := range have.Services {
		b.services[s.Key] = s
	}
	if b.leaving == nil {
		b.leaving = map[ipvs.Key]map[netip.AddrPort]time.Time{}
	}
	b.routes.made = nil
	for _, r := range ranges {
		b.routes.made = append(b.routes.made, r.Prefix)
	}
	b.known = true
	return nil
}

// Close stops waiting for what drains: it stays as it is, without new connections, until another Backend finds it. What is served stays too.
func (b *IPVSBackend) Close() error {
	b.mu.Lock()
	b.closed = true
	if b.stop != nil {
		b.stop()
	}
	b.mu.Unlock()
	b.drainer.Wait()
	return nil
}

// IPVSPlan is what a Backend of IPVS would change: in virtual servers, and in what it leaves to nat.
type IPVSPlan struct {
	Servers  ipvs.Plan
	Forwards nat.Plan
}

// Empty reports whether there is nothing to do.
func (p IPVSPlan) Empty() bool { return p.Servers.Empty() && p.Forwards.Empty() }

// String prints one change a line, virtual servers first.
func (p IPVSPlan) String() string { return p.Servers.String() + p.Forwards.String() }

// Plan returns what Apply would change in virtual servers and forwards to serve these Frontends and nothing else. It changes nothing.
func (b *IPVSBackend) Plan(ctx context.Context, frontends []Frontend) (IPVSPlan, error) {
	full := Plan{Full: true, Set: frontends}
	part, unserved := natPart(full)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.read(ctx); err != nil {
		return IPVSPlan{}, err
	}
	s := b.prepare(full, &part)
	var out IPVSPlan
	var want ipvs.State
	for _, v := range s.then() {
		want.Services = append(want.Services, v)
	}
	var err error
	if out.Servers, err = b.client.Plan(ctx, want); err != nil {
		return IPVSPlan{}, err
	}
	have, err := b.nat.client.Read(ctx)
	if err != nil {
		return IPVSPlan{}, err
	}
	if out.Forwards, err = b.nat.client.Plan(ctx, part.onto(have, true)); err != nil {
		return IPVSPlan{}, err
	}
	return out, unserved
}
