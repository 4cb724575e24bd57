package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/examples/cni/ipam"
	"github.com/podplumb/podplumb/examples/cni/links"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/examples/cni/stack"
)

// takeDown removes what attachments have, wherever their ADD ended, except their records. What is gone already is fine. Links and
// host ports go side by side, as the kernel takes its time for both.
func (p *plugin) takeDown(ctx context.Context, s record.Store, gone ...*record.Attachment) error {
	freed := make(chan error, 1)
	go func() {
		stack.Grow()
		freed <- p.freePorts(ctx, s, gone, func() error { return withdraw(ctx, s, gone...) })
	}()
	err := p.unlink(ctx, gone, nil)
	if err = errors.Join(err, <-freed); err != nil {
		return err
	}
	return p.release(ctx, s, gone)
}

// freePorts clears the table, and then gives back the host ports, which lead nowhere any more.
func (p *plugin) freePorts(ctx context.Context, s record.Store, gone []*record.Attachment, clearTable func() error) error {
	if err := clearTable(); err != nil {
		return err
	}
	p.passed("withdraw")
	claims := make([]record.Claims, len(gone))
	for i, a := range gone {
		claims[i] = record.Claims{Key: a.Key, Ports: keys(a.Forwards)}
	}
	err := s.ReleasePorts(ctx, claims...)
	p.passed("unclaim")
	return err
}

// unlink removes the links of attachments, except those that are removed already, or what was added to those of other plugins.
func (p *plugin) unlink(ctx context.Context, gone []*record.Attachment, removed map[string]bool) error {
	defer p.passed("unlink")
	var names []string
	var errs []error
	for _, a := range gone {
		if a.Chained {
			errs = append(errs, a.Shape.Clear(ctx, a.Link))
		} else {
			names = append(names, a.Link)
		}
		if a.Shape.Device != "" {
			names = append(names, a.Shape.Device)
		}
		errs = append(errs, a.Tuning.Undo(ctx, a.NetNS, a.IfName, a.Before))
	}
	names = slices.DeleteFunc(names, func(name string) bool { return removed[name] })
	slices.Sort(names)
	return errors.Join(append(errs, links.Remove(ctx, owner, slices.Compact(names)...))...)
}

// release gives back the addresses of attachments, those of a network under one lock. Their links are gone.
func (p *plugin) release(ctx context.Context, s record.Store, gone []*record.Attachment) error {
	defer p.passed("release")
	networks := map[string][]*record.Attachment{}
	for _, a := range gone {
		if a.Pool {
			networks[a.Network] = append(networks[a.Network], a)
		}
	}
	var errs []error
	for name, list := range networks {
		errs = append(errs, withLeases(ctx, s, name, func(leases *ipam.Store) error {
			var errs []error
			for _, a := range list {
				errs = append(errs, releaseOf(leases, a))
			}
			return errors.Join(errs...)
		}))
	}
	return errors.Join(errs...)
}

// releaseOf gives back an attachment's addresses. When its ADD died before it could write them down, all leases are looked through.
func releaseOf(leases *ipam.Store, a *record.Attachment) error {
	owner := ipam.Owner{ContainerID: a.ContainerID, IfName: a.IfName}
	var addrs []netip.Addr
	for _, x := range a.Addresses {
		addrs = append(addrs, x.Addr())
	}
	var err error
	if len(addrs) == 0 {
		addrs, err = leases.Leases(owner)
	}
	err = errors.Join(err, leases.Release(owner, addrs...))
	if a.HostLocal != "" {
		err = errors.Join(err, ipam.ReleaseHostLocal(a.HostLocal, owner, addrs...))
	}
	if err != nil {
		return fmt.Errorf("release the addresses of %s: %w", a.Key, err)
	}
	return nil
}

func withLeases(ctx context.Context, s record.Store, network string, fn func(*ipam.Store) error) (err error) {
	leases, err := ipam.Open(ctx, s.Leases(network))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leases.Close()) }()
	return fn(leases)
}
