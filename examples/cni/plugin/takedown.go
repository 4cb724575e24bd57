package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/podplumb/podplumb/examples/cni/ipam"
	"github.com/podplumb/podplumb/examples/cni/links"
	"github.com/podplumb/podplumb/examples/cni/record"
)

// takeDown removes what attachments have, wherever their ADD ended, except their records. What is gone already is fine. Links and
// table go side by side, as the kernel takes its time for both; addresses and ports are free for others only after that.
func (p *plugin) takeDown(ctx context.Context, s record.Store, gone ...*record.Attachment) error {
	table := make(chan error, 1)
	go func() { table <- withdraw(ctx, s, gone...) }()
	var names []string
	for _, a := range gone {
		if a.Link != "" {
			names = append(names, a.Link)
		}
	}
	err := links.Remove(ctx, owner, names...)
	p.passed("unlink")
	if err = errors.Join(err, <-table); err != nil {
		return err
	}
	p.passed("withdraw")
	var errs []error
	for _, a := range gone {
		errs = append(errs, s.ReleasePorts(ctx, a.Key, keys(a.Forwards)))
	}
	p.passed("unclaim")
	for _, a := range gone {
		if !a.Pool {
			continue
		}
		var addrs []netip.Addr
		for _, x := range a.Addresses {
			addrs = append(addrs, x.Addr())
		}
		if _, err := release(ctx, s.Leases(a.Network), ipam.Owner{ContainerID: a.ContainerID, IfName: a.IfName}, a.HostLocal, addrs); err != nil {
			errs = append(errs, fmt.Errorf("release the addresses of %s: %w", a.Key, err))
		}
	}
	p.passed("release")
	return errors.Join(errs...)
}
