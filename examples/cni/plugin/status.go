package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/podplumb/podplumb/examples/cni/ipam"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

// status says whether an ADD can succeed: whether the store can be read and written, the kernel has what the network needs, and an
// address is free.
func (p *plugin) status(ctx context.Context, args *skel.CmdArgs) error {
	r, err := newRequest(args)
	if err != nil {
		return err
	}
	sets, err := r.sets()
	if err != nil {
		return err
	}
	if err := r.readable(ctx); err != nil {
		return withCode(codeUnavailable, "repair what the message names in dataDir, or drain the node and remove it", err)
	}
	if err := r.possible(ctx); err != nil {
		return withCode(codeUnavailable, "load the kernel modules veth, bridge and nf_tables; the plugin needs CAP_NET_ADMIN and CAP_SYS_ADMIN", err)
	}
	return r.room(ctx, sets)
}

// readable reads every record and lease of the network.
func (r *request) readable(ctx context.Context) error {
	k := record.Key{Network: r.key.Network, ContainerID: ".status", IfName: "probe"} // no container is named so
	f, err := r.store.Create(ctx, k)
	if err != nil {
		return err
	}
	err = errors.Join(f.Write(&record.Attachment{Key: k}, false), f.Remove(), f.Close())
	if err != nil {
		return err
	}
	_, err = r.store.All()
	return err
}

// possible makes what the network needs in a namespace that nobody sees.
func (r *request) possible(ctx context.Context) (err error) {
	node, err := netns.New()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	pod, err := netns.New()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pod.Close()) }()
	var sample []address
	for _, text := range []string{"192.0.2.2/24", "2001:db8::2/64"} {
		x := netip.MustParsePrefix(text)
		sample = append(sample, address{prefix: x, gateway: x.Masked().Addr().Next()})
	}
	want := r.state(nil, sample)
	want.Pairs[0].Pod.Name = "eth0"
	want.Pairs[0].Pod.NetNS = fmt.Sprintf("/proc/self/fd/%d", pod.Fd())
	want.Pairs[0].Pod.Routes = nil
	links, err := veth.New(veth.Config{NetNS: node, Owner: owner})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, links.Close()) }()
	if _, err := links.Sync(ctx, want); err != nil {
		return err
	}
	if !r.net.IPMasq && !r.net.Caps["portMappings"] {
		return nil
	}
	table, err := nat.New(nat.Config{NetNS: node, Table: tableName})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	_, err = table.Sync(ctx, nat.State{Networks: []nat.Network{{Prefix: sample[0].prefix.Masked()}, {Prefix: sample[1].prefix.Masked()}}})
	return err
}

// room fails when a range has no free address.
func (r *request) room(ctx context.Context, sets []ipam.Set) (err error) {
	if sets == nil {
		return nil
	}
	var full []error
	err = withLeases(ctx, r.store, r.key.Network, func(s *ipam.Store) error {
		for i, set := range sets {
			free, err := s.Free(set)
			if err != nil {
				return err
			}
			if free == 0 {
				full = append(full, fmt.Errorf("ranges[%d]: %s: %w", i, set, ipam.ErrFull))
			}
		}
		return nil
	})
	if err != nil {
		return withCode(codeUnavailable, "make dataDir writable, and repair or remove the file that the message names", err)
	}
	return withCode(codeExhausted, "remove containers, or give ipam.ranges another range", errors.Join(full...))
}
