package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/podplumb/podplumb/examples/cni/ipam"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/veth"
)

func (p *plugin) check(ctx context.Context, args *skel.CmdArgs) error {
	r, err := newRequest(args)
	if err != nil {
		return err
	}
	file, err := r.store.Open(ctx, r.key)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (file.Have == nil || !file.Have.Done) {
		return fail(codeDamaged, "call DEL, then ADD", "there is no record of a finished ADD of %s", r.key)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	before, err := r.previous()
	if err != nil {
		return err
	}
	a := file.Have
	mtu := retuned(a, before)
	damage, err := p.damage(ctx, r.store, a)
	if err != nil {
		return err
	}
	damage = slices.DeleteFunc(damage, func(fault error) bool { return mtu.MatchString(fault.Error()) })
	if len(damage) > 0 {
		return withCode(codeDamaged, "call DEL, then ADD", errors.Join(damage...))
	}
	return nil
}

// retuned lets the container's interface be what plugins later in the chain, such as tuning, have made of it: prevResult tells its MAC
// address, and from version 1.1.0 on its MTU. It returns what matches a difference of the MTU alone that is theirs.
func retuned(a *record.Attachment, last *previous) *regexp.Regexp {
	never := regexp.MustCompile(`$^`)
	if a.Chained || !last.made() {
		return never
	}
	is := last.result.Interfaces[last.index]
	pod := &a.State.Pairs[0].Pod
	if mac, err := veth.ParseMAC(is.Mac); err == nil {
		pod.MAC = mac
	}
	if is.Mtu == 0 {
		return regexp.MustCompile(` pod: mtu \d+ -> \d+$`)
	}
	return regexp.MustCompile(fmt.Sprintf(` pod: mtu %d -> \d+$`, is.Mtu))
}

// damage compares everything that an attachment has with its record.
func (p *plugin) damage(ctx context.Context, s record.Store, a *record.Attachment) (out []error, err error) {
	lost, err := lostLeases(ctx, s, a)
	if err != nil {
		return nil, err
	}
	out = append(out, lost...)
	if err := checkNode(a.Node); err != nil {
		out = append(out, err)
	}
	for _, look := range []func() ([]error, error){
		func() ([]error, error) { return a.Borrowed.Check(ctx) },
		func() ([]error, error) { return lostLinks(ctx, a) },
		func() ([]error, error) { return a.Lock.Check(ctx, a.Link) },
		func() ([]error, error) { return a.Tuning.Check(ctx, a.NetNS, a.IfName) },
		func() ([]error, error) { return a.Shape.Check(ctx, a.Link) },
	} {
		lost, err := look()
		if err != nil {
			return out, err
		}
		out = append(out, lost...)
	}
	lost, err = lostEntries(ctx, s, a)
	return append(out, lost...), err
}

func lostLeases(ctx context.Context, s record.Store, a *record.Attachment) (out []error, err error) {
	if !a.Pool {
		return nil, nil
	}
	err = withLeases(ctx, s, a.Network, func(leases *ipam.Store) error {
		for _, x := range a.Addresses {
			ok, err := leases.Holds(ipam.Owner{ContainerID: a.ContainerID, IfName: a.IfName}, x.Addr())
			if err != nil {
				return err
			}
			if !ok {
				out = append(out, fmt.Errorf("address %s is not leased to the container", x.Addr()))
			}
		}
		return nil
	})
	return out, err
}

// lostLinks are the lines of the plan that would repair the bridge and the pair.
func lostLinks(ctx context.Context, a *record.Attachment) (out []error, err error) {
	if a.Chained {
		return nil, nil
	}
	c, err := openLinks(a)
	if err != nil {
		return nil, err
	}
	if out, err = lostLink(ctx, c, a.State); err != nil || len(a.Gateway.Pairs) == 0 {
		return out, err
	}
	if c, err = openGateway(a); err != nil {
		return out, err
	}
	more, err := lostLink(ctx, c, a.Gateway)
	return append(out, more...), err
}

// lostLink asks a client, and closes it.
func lostLink(ctx context.Context, c *veth.Client, want veth.State) (out []error, err error) {
	defer func() { err = errors.Join(err, c.Close()) }()
	plan, err := c.PlanUpdate(ctx, want)
	if err != nil {
		return []error{err}, nil
	}
	for line := range strings.Lines(plan.String()) {
		out = append(out, fmt.Errorf("repair needs: %s", strings.TrimSpace(line)))
	}
	return out, nil
}
