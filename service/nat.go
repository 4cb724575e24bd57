package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/podplumb/podplumb/nat"
)

// NAT returns the Backend that serves Frontends as forwards of c.
//
// The forwards and the virtual ranges of c's State belong to the Backend. Its networks and exclusions stay as they are, but for exclusions that are added
// so that the pods of Frontend.Inside are known as such. Whoever changes them through c meanwhile does not do so during Proxy.Sync. It serves cluster IPs, and external and load balancer addresses under ExternalTrafficPolicy
// Cluster; other ports of such an address are rejected, unless it is an address of the node. Node ports, ExternalTrafficPolicy Local, source ranges and
// session affinity are refused with errors.ErrUnsupported.
func NAT(c *nat.Client) Backend { return &natBackend{client: c, served: map[nat.Key]bool{}} }

type natBackend struct {
	client *nat.Client

	mu     sync.Mutex
	inside []netip.Prefix   // networks that the client's State is known to have
	served map[nat.Key]bool // forwards that it has
}

func (b *natBackend) Apply(ctx context.Context, p Plan) error {
	part, err := natPart(p)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.Full || part.ranges() || !part.known(b.inside) || b.last(part) {
		return b.all(ctx, p.Full, part)
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
	return nil
}

// last reports whether no forward is left after the change; then the exclusions may go too.
func (b *natBackend) last(part natChange) bool {
	if len(part.set) > 0 || len(part.drop) < len(b.served) {
		return false
	}
	left := len(b.served)
	for _, k := range part.drop {
		if b.served[k] {
			left--
		}
	}
	return left == 0
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
	b.inside = want.Exclude
	b.served = make(map[nat.Key]bool, len(want.Forwards))
	for _, f := range want.Forwards {
		b.served[f.Key()] = true
	}
	return nil
}

// natChange is a Plan in the words of package nat.
type natChange struct {
	set       []nat.Forward
	drop      []nat.Key
	setRange  []nat.Virtual
	dropRange []netip.Prefix
	inside    []netip.Prefix
}

// natPart translates a Plan, or says which of its Frontends cannot be.
func natPart(p Plan) (natChange, error) {
	var part natChange
	var errs []error
	set := make(map[nat.Key]bool, len(p.Set))
	part.set = make([]nat.Forward, 0, len(p.Set))
	for i := range p.Set {
		f := &p.Set[i]
		switch f.Kind {
		case KindUnknownPort: // every port of a forward's address that is not a forward is rejected
			continue
		case KindUnallocated:
			part.setRange = append(part.setRange, nat.Virtual{Prefix: f.Range, Miss: natRefusal(f.Refusal)})
			continue
		}
		if err := natLacks(f); err != nil {
			errs = append(errs, &UnservedError{Key: f.Key, Service: f.Service, Err: err})
			continue
		}
		forward := natForward(f)
		set[forward.Key()] = true
		part.set = append(part.set, forward)
		part.inside = union(part.inside, f.Inside)
	}
	for _, k := range p.Drop {
		switch k.Kind {
		case KindUnknownPort, KindNodePort: // never set
		case KindUnallocated:
			part.dropRange = append(part.dropRange, k.Range)
		default:
			// An address may change its kind and stay: dropping what is set in the same breath would lose it.
			if key := (nat.Key{Addr: k.Addr, Port: k.Port, Proto: natProto(k.Protocol)}); !set[key] {
				part.drop = append(part.drop, key)
			}
		}
	}
	return part, errors.Join(errs...)
}

// natLacks says what of a Frontend package nat has no words for.
func natLacks(f *Frontend) error {
	lacks := func(what string) error {
		return fmt.Errorf("the NAT backend does not serve %s: %w", what, errors.ErrUnsupported)
	}
	switch {
	case f.Kind == KindNodePort:
		return lacks("node ports")
	case f.Masquerade == MasqueradeNode || len(f.Near) > 0:
		return lacks("externalTrafficPolicy Local")
	case len(f.Sources) > 0:
		return lacks("loadBalancerSourceRanges")
	case f.Affinity > 0:
		return lacks("sessionAffinity")
	}
	return nil
}

func natForward(f *Frontend) nat.Forward {
	forward := nat.Forward{Addr: f.Addr, Port: f.Port, Proto: natProto(f.Protocol), Name: natName(f), Empty: natRefusal(f.Refusal)}
	forward.To = make([]nat.Target, len(f.Endpoints))
	for i, e := range f.Endpoints {
		forward.To[i] = nat.Target{Addr: e.Addr.Addr(), Port: e.Addr.Port()}
	}
	switch f.Masquerade {
	case MasqueradeOutside:
		forward.Masquerade = nat.MasqueradeRemote
	case MasqueradeAll:
		forward.Masquerade = nat.MasqueradeAll
	}
	return forward
}

// natName is what a person who lists the table sees.
func natName(f *Frontend) string {
	const most = 64
	name := f.Service.String()
	if f.PortName != "" {
		name += ":" + f.PortName
	}
	if len(name) > most {
		name = name[:most-3] + "..."
	}
	return name
}

func natProto(p Protocol) nat.Proto {
	switch p {
	case UDP:
		return nat.UDP
	case SCTP:
		return nat.SCTP
	}
	return nat.TCP
}

func natRefusal(r Refusal) nat.Refusal {
	if r == Drop {
		return nat.Drop
	}
	return nat.Reject
}

func (c *natChange) ranges() bool { return len(c.setRange) > 0 || len(c.dropRange) > 0 }

func (c *natChange) known(inside []netip.Prefix) bool {
	return !slices.ContainsFunc(c.inside, func(p netip.Prefix) bool { return !slices.Contains(inside, p) })
}

// onto returns the State that have becomes.
func (c *natChange) onto(have nat.State, full bool) nat.State {
	want := nat.State{Networks: have.Networks, Exclude: union(have.Exclude, c.inside), Forwards: c.set, Virtual: c.setRange}
	if !full {
		gone := make(map[nat.Key]bool, len(c.drop)+len(c.set))
		for _, k := range c.drop {
			gone[k] = true
		}
		for _, f := range c.set {
			gone[f.Key()] = true
		}
		want.Forwards = append(slices.DeleteFunc(slices.Clone(have.Forwards), func(f nat.Forward) bool { return gone[f.Key()] }), c.set...)
		want.Virtual = append(slices.DeleteFunc(slices.Clone(have.Virtual), func(v nat.Virtual) bool {
			return slices.Contains(c.dropRange, v.Prefix) || slices.ContainsFunc(c.setRange, func(o nat.Virtual) bool { return o.Prefix == v.Prefix })
		}), c.setRange...)
	}
	if len(want.Networks) == 0 && len(want.Forwards) == 0 {
		want.Exclude = nil // it would say nothing
	}
	return want
}

// union returns the networks of both, sorted; it is a itself when b adds nothing.
func union(a, b []netip.Prefix) []netip.Prefix {
	if !slices.ContainsFunc(b, func(p netip.Prefix) bool { return !slices.Contains(a, p) }) {
		return a
	}
	out := slices.Clone(a)
	for _, p := range b {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(x, y netip.Prefix) int {
		return cmp.Or(x.Addr().Compare(y.Addr()), x.Bits()-y.Bits())
	})
	return out
}
