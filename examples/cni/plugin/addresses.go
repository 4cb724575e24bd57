package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podplumb/podplumb/examples/cni/conf"
	"github.com/podplumb/podplumb/examples/cni/ipam"
)

// address is one of a container's, with the gateway of its subnet.
type address struct {
	prefix  netip.Prefix
	gateway netip.Addr // zero: none
}

// sets are the address ranges of the network: the runtime's for this container, then the configuration's.
func (r *request) sets() ([]ipam.Set, error) {
	if r.net.IPAM == nil || r.net.IPAM.Type != "host-local" {
		return nil, nil
	}
	var out []ipam.Set
	var faults []error
	for _, source := range []struct {
		path string
		sets [][]conf.IPRange
	}{{"runtimeConfig.ipRanges", r.net.Runtime.IPRanges}, {"ipam.ranges", r.net.IPAM.Ranges}} {
		for i, ranges := range source.sets {
			set, errs := canonicalSet(fmt.Sprintf("%s[%d]", source.path, i), ranges)
			faults = append(faults, errs...)
			out = append(out, set)
		}
	}
	if len(out) == 0 {
		faults = append(faults, errors.New("ipam.ranges: is required, as [[{\"subnet\": \"10.244.1.0/24\"}]]"))
	}
	if len(faults) == 0 {
		faults = overlaps(out)
	}
	return out, withCode(types.ErrInvalidNetworkConfig, "correct the address ranges", errors.Join(faults...))
}

func canonicalSet(path string, ranges []conf.IPRange) (set ipam.Set, faults []error) {
	if len(ranges) == 0 {
		return nil, []error{fmt.Errorf("%s: is empty", path)}
	}
	for i, c := range ranges {
		at := fmt.Sprintf("%s[%d]", path, i)
		subnet, err := netip.ParsePrefix(c.Subnet)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s.subnet: %q is no subnet such as 10.244.1.0/24", at, c.Subnet))
			continue
		}
		x, err := ipam.Range{Subnet: subnet, Start: c.RangeStart, End: c.RangeEnd, Gateway: c.Gateway, Reserved: c.Reserved}.Canonical()
		if err != nil {
			for line := range strings.Lines(err.Error()) {
				faults = append(faults, fmt.Errorf("%s.%s", at, strings.TrimSpace(line)))
			}
			continue
		}
		if len(set) > 0 && set[0].Start.Is4() != x.Start.Is4() {
			faults = append(faults, fmt.Errorf("%s.subnet: %s is of another family than %s before it: a container gets one address of each list", at, x.Subnet, set[0].Subnet))
			continue
		}
		set = append(set, x)
	}
	return set, faults
}

// overlaps finds addresses that are in two ranges.
func overlaps(sets []ipam.Set) (faults []error) {
	type named struct {
		at string
		r  ipam.Range
	}
	var seen []named
	for i, set := range sets {
		for j, r := range set {
			at := fmt.Sprintf("ranges[%d][%d]", i, j)
			for _, o := range seen {
				if r.Start.BitLen() == o.r.Start.BitLen() && !o.r.End.Less(r.Start) && !r.End.Less(o.r.Start) {
					faults = append(faults, fmt.Errorf("%s: %s overlaps %s %s", at, r, o.at, o.r))
				}
			}
			seen = append(seen, named{at, r})
		}
	}
	return faults
}

// families tells which families the container's addresses will be of, before it has any.
func (r *request) families(sets []ipam.Set) (v4, v6 bool) {
	note := func(a netip.Addr) { v4, v6 = v4 || a.Is4(), v6 || a.Is6() }
	for _, s := range sets {
		if len(s) > 0 {
			note(s[0].Start)
		}
	}
	fixed, _ := r.static()
	for _, a := range fixed {
		note(a.prefix.Addr())
	}
	return v4, v6
}

// static returns the fixed addresses: those that the runtime asks for replace those of the configuration.
func (r *request) static() ([]address, error) {
	if r.net.IPAM == nil || r.net.IPAM.Type != "static" {
		return nil, nil
	}
	var out []address
	for _, text := range r.askedText {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fail(types.ErrInvalidNetworkConfig, "write it as 10.1.2.3/24", "%s: ipam.type static needs a prefix length", text)
		}
		a := address{prefix: p}
		for _, c := range r.net.IPAM.Addresses {
			if c.Address.Masked() == p.Masked() {
				a.gateway = c.Gateway
			}
		}
		out = append(out, a)
	}
	if len(out) > 0 {
		return out, nil
	}
	for _, c := range r.net.IPAM.Addresses {
		out = append(out, address{prefix: c.Address, gateway: c.Gateway})
	}
	return out, nil
}

// hostLocalDir is the directory of host-local's leases of this network.
func (r *request) hostLocalDir() string {
	dir := defaultHostLocal
	if r.net.IPAM != nil && r.net.IPAM.DataDir != "" {
		dir = r.net.IPAM.DataDir
	}
	return filepath.Join(dir, r.net.Name)
}

// allocate gives the container its addresses: one of each set, or the fixed ones.
func (r *request) allocate(ctx context.Context, sets []ipam.Set) (out []address, err error) {
	if sets == nil {
		return r.static()
	}
	err = withLeases(ctx, r.store, r.key.Network, func(s *ipam.Store) error {
		if _, err := s.Import(r.hostLocalDir()); err != nil {
			return fmt.Errorf("take over the leases of host-local: %w", err)
		}
		leases, err := s.Allocate(r.owner(), sets, r.ips...)
		for _, l := range leases {
			out = append(out, address{prefix: l.Prefix(), gateway: l.Gateway})
		}
		return err
	})
	return out, err
}
