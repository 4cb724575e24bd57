package service

import (
	"context"
	"sync"

	"github.com/podplumb/podplumb/nat"
)

// NAT returns the Backend that serves Frontends as forwards of c.
//
// The forwards, the virtual ranges, the local ranges and the localhost addresses of c's State belong to the Backend. Its networks and exclusions stay as they are, but for
// exclusions that are added so that the pods of Frontend.Inside are known as such; whoever changes them through c does not do so during Proxy.Sync.
//
// It serves every Frontend of up to 65,536 endpoints. Other ports of an external or load balancer address are rejected, unless it is an address of the node.
// Session affinity is kept for each address of a port by itself. Under ExternalTrafficPolicy Local a client is near when it is of Frontend.Inside or of
// the networks and exclusions of c's State, or when it is the node itself.
func NAT(c *nat.Client) Backend { return &natBackend{client: c, served: map[nat.Key]bool{}} }

type natBackend struct {
	client *nat.Client

	mu     sync.Mutex
	have   nat.State        // what the client is known to have, without forwards
	served map[nat.Key]bool // the forwards
	ports  [2]int           // how many of them are node ports, by family
}

func (b *natBackend) Apply(ctx context.Context, p Plan) error {
	part, err := natPart(p)
	if err != nil {
		return err
	}
	return b.apply(ctx, p.Full, part)
}

func (b *natBackend) apply(ctx context.Context, full bool, part natChange) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	ports, idle := b.after(part)
	if full || idle || !part.onlyForwards(b.have) {
		return b.all(ctx, full, part)
	}
	if _, err := b.client.Update(ctx, nat.Change{Set: part.set, Drop: part.drop}); err != nil {
		return err
	}
	for _, k := range part.drop {
		delete(b.served, k)
	}
	for _, f := range part.set {
		b.served[f.Key()] = true
	}
	b.ports = ports
	return nil
}

// after returns how many node ports there are after the change, and whether it leaves settings behind that no forward needs any more.
func (b *natBackend) after(part natChange) (ports [2]int, idle bool) {
	left := len(b.served)
	ports = b.ports
	count := func(k nat.Key, by int) {
		left += by
		if k.Addr.IsUnspecified() {
			ports[family(k.Addr)] += by
		}
	}
	for _, k := range part.drop {
		if b.served[k] {
			count(k, -1)
		}
	}
	for _, f := range part.set {
		if !b.served[f.Key()] {
			count(f.Key(), 1)
		}
	}
	for fam, n := range ports {
		idle = idle || n == 0 && (len(ofFamily(b.have.Local, fam)) > 0 || localhostOf(b.have, fam).IsValid())
	}
	return ports, idle || left == 0 && len(b.have.Exclude) > 0
}

// all reads what the client has, changes in it what is the Backend's, and has it made so.
func (b *natBackend) all(ctx context.Context, full bool, part natChange) error {
	have, err := b.client.Read(ctx)
	if err != nil {
		return err
	}
	want := part.onto(have, full)
	if _, err := b.client.Sync(ctx, want); err != nil {
		return err
	}
	b.served, b.ports = make(map[nat.Key]bool, len(want.Forwards)), [2]int{}
	for _, f := range want.Forwards {
		b.served[f.Key()] = true
		if f.Addr.IsUnspecified() {
			b.ports[family(f.Addr)]++
		}
	}
	b.have = want
	b.have.Forwards = nil
	return nil
}
