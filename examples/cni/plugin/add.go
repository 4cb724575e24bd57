package plugin

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/podplumb/podplumb/examples/cni/ipam"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
)

// undoTimeout bounds undoing, which goes on when the command's own time is up.
const undoTimeout = 30 * time.Second

func (p *plugin) add(ctx context.Context, args *skel.CmdArgs) error {
	r, err := newRequest(args)
	if err != nil {
		return err
	}
	if err := checkNetNS(r.netns); err != nil {
		return err
	}
	sets, err := r.sets()
	if err != nil {
		return err
	}
	ports, err := r.ports(r.families(sets))
	if err != nil {
		return err
	}
	file, err := r.store.Create(ctx, r.key)
	if err != nil {
		return withCode(types.ErrIOFailure, "make dataDir writable", err)
	}
	defer file.Close()
	if file.Have != nil { // an ADD that came to no end, or whose result never reached the runtime
		if err := p.takeDown(ctx, r.store, file.Have); err != nil {
			return err
		}
	}
	a := &record.Attachment{
		Key: r.key, NetNS: r.netns, Link: linkName(r.key), HostLocal: r.hostLocalDir(), Pool: sets != nil,
		ForceAddress: r.net.ForceAddress, Forwards: ports,
	}
	if r.net.IPMasq {
		a.Masquerade = subnets(sets)
	}
	if err := file.Write(a, true); err != nil {
		return withCode(types.ErrIOFailure, "make room in dataDir", errors.Join(err, file.Remove()))
	}
	p.passed("record")
	result, err := p.build(ctx, r, file, a, sets)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if uerr := p.takeDown(ctx, r.store, a); uerr != nil {
			return errors.Join(err, uerr) // the record stays, for DEL
		}
		return errors.Join(err, file.Remove())
	}
	return types.PrintResult(result, r.net.CNIVersion)
}

// build does the steps of ADD after the record.
func (p *plugin) build(ctx context.Context, r *request, file *record.File, a *record.Attachment, sets []ipam.Set) (types.Result, error) {
	if len(a.Forwards) > 0 {
		if err := r.store.ClaimPorts(ctx, a.Key, keys(a.Forwards)); err != nil {
			return nil, err
		}
	}
	p.passed("ports")
	addrs, err := r.allocate(ctx, sets)
	if err != nil {
		return nil, err
	}
	p.passed("addresses")
	addrs = r.withGateways(addrs)
	for _, x := range addrs {
		a.Addresses = append(a.Addresses, x.prefix)
		if m := x.prefix.Masked(); r.net.IPMasq && !slices.ContainsFunc(a.Masquerade, func(o netip.Prefix) bool { return o.Overlaps(m) }) {
			a.Masquerade = append(a.Masquerade, m)
		}
	}
	a.Forwards = aim(a.Forwards, a.Addresses)
	a.Node = r.nodeSysctls(addrs)
	if a.State, err = r.state(sets, addrs); err != nil {
		return nil, err
	}
	if err := errors.Join(a.State.Validate(), nat.Change{Set: a.Forwards}.Validate()); err != nil {
		return nil, withCode(types.ErrInvalidNetworkConfig, "correct the network configuration", err)
	}
	if err := file.Write(a, false); err != nil {
		return nil, err
	}
	p.passed("plan")
	if err := setNode(a.Node); err != nil {
		return nil, err
	}
	p.passed("sysctls")
	if err := connect(ctx, a); err != nil {
		return nil, err
	}
	p.passed("link")
	if err := publish(ctx, r.store, a); err != nil {
		return nil, err
	}
	p.passed("table")
	result, err := r.result(a, addrs)
	if err != nil {
		return nil, err
	}
	a.Done = true
	if err := file.Write(a, false); err != nil {
		return nil, err
	}
	p.passed("done")
	return result, nil
}

// subnets are those of all ranges: what is masqueraded is the network and not the container.
func subnets(sets []ipam.Set) []netip.Prefix {
	var out []netip.Prefix
	for _, set := range sets {
		for _, x := range set {
			out = append(out, x.Subnet)
		}
	}
	return out
}

// checkNetNS makes sure that the container's namespace is one, and not the node's.
func checkNetNS(path string) error {
	ns, err := netns.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return withCode(types.ErrUnknownContainer, "CNI_NETNS must be the path of the container's network namespace", err)
	case err != nil:
		return withCode(types.ErrInvalidNetNS, "CNI_NETNS must be the path of the container's network namespace", err)
	}
	defer ns.Close()
	node, err := netns.Current()
	if err != nil {
		return err
	}
	defer node.Close()
	if node.Equal(ns) {
		return fail(types.ErrInvalidNetNS, "give the container a network namespace of its own", "CNI_NETNS: %s is the node's own namespace", path)
	}
	return nil
}
