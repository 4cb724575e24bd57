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
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/podplumb/podplumb/examples/cni/ipam"
	"github.com/podplumb/podplumb/examples/cni/links"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/examples/cni/stack"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
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
	if err := r.findDNS(); err != nil {
		return err
	}
	before, err := r.previous()
	if err != nil {
		return err
	}
	a, sets, err := r.intent(ctx, before)
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
	if a.Chained { // only now, that nothing of an ADD before is left
		was, err := links.Look(ctx, r.netns, r.key.IfName)
		if err != nil {
			return errors.Join(err, file.Remove())
		}
		a.Before = &was
	}
	if err := file.Write(a, true); err != nil {
		return withCode(types.ErrIOFailure, "make room in dataDir", errors.Join(err, file.Remove()))
	}
	p.passed("record")
	result, err := p.build(ctx, r, file, a, sets, before)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if uerr := p.takeDown(ctx, r.store, a); uerr != nil {
			return errors.Join(err, uerr) // the record stays, for DEL
		}
		return errors.Join(err, file.Remove())
	}
	return printResult(result, r.net.CNIVersion)
}

// intent is what the record says before anything exists: all that a later call needs to undo any of it.
func (r *request) intent(ctx context.Context, before *previous) (*record.Attachment, []ipam.Set, error) {
	a := &record.Attachment{Key: r.key, NetNS: r.netns, Link: linkName(r.key), ForceAddress: r.net.ForceAddress, Shape: r.shape()}
	if before.made() {
		if err := r.chained(); err != nil {
			return nil, nil, err
		}
		a.Chained = true
		v4, v6 := false, false
		for _, x := range before.addresses() {
			v4, v6 = v4 || x.prefix.Addr().Is4(), v6 || x.prefix.Addr().Is6()
		}
		ports, err := r.ports(v4, v6)
		if err != nil {
			return nil, nil, err
		}
		a.Forwards = ports
		a.Link, a.Uplink, err = links.NodeEnd(ctx, r.netns, r.key.IfName)
		if err != nil && !a.Shape.IsZero() {
			return nil, nil, err
		}
		return a, nil, nil
	}
	sets, err := r.sets()
	if err != nil {
		return nil, nil, err
	}
	a.Forwards, err = r.ports(r.families(sets))
	a.HostLocal, a.Pool = r.hostLocalDir(), sets != nil
	if r.net.IPMasq {
		a.Masquerade = subnets(sets)
	}
	return a, sets, err
}

// build does the steps of ADD after the record.
func (p *plugin) build(ctx context.Context, r *request, file *record.File, a *record.Attachment, sets []ipam.Set, before *previous) (*types100.Result, error) {
	if len(a.Forwards) > 0 {
		if err := r.store.ClaimPorts(ctx, a.Key, keys(a.Forwards)); err != nil {
			return nil, err
		}
	}
	p.passed("ports")
	var addrs []address
	var err error
	if a.Chained {
		addrs = before.addresses()
	} else if addrs, err = r.allocate(ctx, sets); err != nil {
		return nil, err
	}
	p.passed("addresses")
	if err := r.plan(a, sets, addrs); err != nil {
		return nil, err
	}
	if err := file.Write(a, false); err != nil {
		return nil, err
	}
	p.passed("plan")
	// The links and the table wait for different locks of the kernel, so they are made side by side.
	table := make(chan error, 1)
	go func() {
		stack.Grow()
		table <- p.run([]step{{"table", func() error { return publish(ctx, r.store, a) }}})
	}()
	err = p.run([]step{
		{"sysctls", func() error { return setNode(a.Node) }},
		{"gateway", func() error { return onBridge(ctx, a, func() error { return connectGateway(ctx, a) }) }},
		{"link", func() error {
			return onBridge(ctx, a, func() (err error) { r.bridgeMAC, err = connect(ctx, a); return err })
		}},
		{"lock", func() error { return a.Lock.Apply(ctx, a.Link) }},
		{"tuning", func() error { return a.Tuning.Apply(ctx, a.NetNS, a.IfName) }},
		{"shape", func() error { return a.Shape.Apply(ctx, a.Link, owner+"/"+attachmentTag(a.Key, "")) }},
	})
	if err = errors.Join(err, <-table); err != nil {
		return nil, err
	}
	result := r.result(a, addrs, before)
	a.Done = true
	if err := file.Write(a, false); err != nil {
		return nil, err
	}
	p.passed("done")
	return result, nil
}

// step is a part of ADD that is done or not.
type step struct {
	name string
	do   func() error
}

// run does steps until one fails.
func (p *plugin) run(steps []step) error {
	for _, s := range steps {
		if err := s.do(); err != nil {
			return err
		}
		p.passed(s.name)
	}
	return nil
}

// plan completes the record, now that the addresses are known, and checks it.
func (r *request) plan(a *record.Attachment, sets []ipam.Set, addrs []address) error {
	if !a.Chained {
		addrs = r.withGateways(addrs)
		a.State = r.state(sets, addrs)
		a.Lock = r.lock(a.State.Pairs[0])
		a.Gateway = r.gatewayState(a.State.Bridges, gateways(sets, addrs))
	}
	for _, x := range addrs {
		a.Addresses = append(a.Addresses, x.prefix)
		if m := x.prefix.Masked(); r.net.IPMasq && !slices.ContainsFunc(a.Masquerade, func(o netip.Prefix) bool { return o.Overlaps(m) }) {
			a.Masquerade = append(a.Masquerade, m)
		}
	}
	a.Forwards = aim(a.Forwards, a.Addresses)
	if len(a.Forwards) > 0 && *r.net.SNAT {
		a.Localhost = r.nodeAddresses(addrs, a)
	}
	a.Node = r.nodeSysctls(addrs)
	a.Tuning = r.tuning(addrs)
	if a.Chained {
		a.Tuning.MTU = r.net.MTU
		if r.mac != (veth.MAC{}) {
			a.Tuning.MAC = r.mac.String()
		}
	}
	err := errors.Join(a.State.Validate(), a.Gateway.Validate(), change(a).Validate())
	return withCode(types.ErrInvalidNetworkConfig, "correct the network configuration", err)
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
