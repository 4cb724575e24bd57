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
)

// takeDown removes what attachments have, wherever their ADD ended, except their records. What is gone already is fine. Links and
// table go side by side, as the kernel takes its time for both; addresses and ports are free for others only after that.
func (p *plugin) takeDown(ctx context.Context, s record.Store, gone ...*record.Attachment) error {
	return p.remove(ctx, s, gone, nil, func() error { return withdraw(ctx, s, gone...) })
}

// remove is takeDown with another way to clear the table, and more links to remove.
func (p *plugin) remove(ctx context.Context, s record.Store, gone []*record.Attachment, stray []string, clearTable func() error) error {
	table := make(chan error, 1)
	go func() { table <- clearTable() }()
	err := unlink(ctx, gone, stray)
	p.passed("unlink")
	if err = errors.Join(err, <-table); err != nil {
		return err
	}
	p.passed("withdraw")
	claims := make([]record.Claims, len(gone))
	for i, a := range gone {
		claims[i] = record.Claims{Key: a.Key, Ports: keys(a.Forwards)}
	}
	errs := []error{s.ReleasePorts(ctx, claims...)}
	p.passed("unclaim")
	errs = append(errs, releaseAll(ctx, s, gone))
	p.passed("release")
	return errors.Join(errs...)
}

// unlink removes stray links and those of attachments, or what was added to those of other plugins.
func unlink(ctx context.Context, gone []*record.Attachment, stray []string) error {
	names := slices.Clone(stray)
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
	slices.Sort(names)
	return errors.Join(append(errs, links.Remove(ctx, owner, slices.Compact(names)...))...)
}

// releaseAll gives back the addresses of attachments, those of a network under one lock.
func releaseAll(ctx context.Context, s record.Store, gone []*record.Attachment) error {
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
				errs = append(errs, release(leases, a))
			}
			return errors.Join(errs...)
		}))
	}
	return errors.Join(errs...)
}

// release gives back an attachment's addresses. When its ADD died before it could write them down, all leases are looked through.
func release(leases *ipam.Store, a *record.Attachment) error {
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
