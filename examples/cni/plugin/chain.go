package plugin

import (
	"encoding/json"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// previous is the result of the plugins before this one in the chain.
type previous struct {
	result *types100.Result
	index  int // of the container's interface among the result's; -1: this plugin is to make it
}

// previous reads prevResult. It is nil at the head of a chain.
func (r *request) previous() (*previous, error) {
	if len(r.net.PrevResult) == 0 || string(r.net.PrevResult) == "null" {
		return nil, nil
	}
	bad := func(err error) (*previous, error) {
		return nil, withCode(types.ErrDecodingFailure, "prevResult must be a result of the version that cniVersion says", err)
	}
	c := &types.PluginConf{CNIVersion: r.net.CNIVersion}
	if err := json.Unmarshal(r.net.PrevResult, &c.RawPrevResult); err != nil {
		return bad(err)
	}
	if err := version.ParsePrevResult(c); err != nil {
		return bad(err)
	}
	result, err := types100.NewResultFromResult(c.PrevResult)
	if err != nil {
		return bad(err)
	}
	p := &previous{result: result, index: -1}
	for i, l := range result.Interfaces {
		if l.Name == r.key.IfName && l.Sandbox != "" {
			p.index = i
		}
	}
	return p, nil
}

// made reports whether another plugin made the container's interface.
func (p *previous) made() bool { return p != nil && p.index >= 0 }

// addresses are those of the container's interface; an address that belongs to no interface by its index counts as one.
func (p *previous) addresses() (out []address) {
	for _, x := range p.result.IPs {
		if x.Interface != nil && *x.Interface != p.index {
			continue
		}
		ip, ok := netip.AddrFromSlice(x.Address.IP)
		if !ok {
			continue
		}
		ones, _ := x.Address.Mask.Size()
		a := address{prefix: netip.PrefixFrom(ip.Unmap(), ones)}
		if gw, ok := netip.AddrFromSlice(x.Gateway); ok {
			a.gateway = gw.Unmap()
		}
		out = append(out, a)
	}
	return out
}

// chained checks that the configuration asks for nothing that only the maker of the interface can do.
func (r *request) chained() error {
	n := r.net
	if n.IPAM != nil && (len(n.IPAM.Ranges) > 0 || len(n.IPAM.Addresses) > 0) {
		return fail(types.ErrInvalidNetworkConfig, "leave ipam out, or leave the other plugin out of the chain",
			"ipam: %s has its addresses from the plugin before", r.key.IfName)
	}
	if n.IsGateway || n.VLAN != 0 || len(n.VLANTrunk) > 0 || n.PortIsolation || n.MACSpoofCheck || n.DisableContainerInterface {
		return fail(types.ErrInvalidNetworkConfig, "leave the keys of the bridge out, or leave the other plugin out of the chain",
			"isGateway, vlan, vlanTrunk, portIsolation, macspoofchk and disableContainerInterface: %s was made by the plugin before", r.key.IfName)
	}
	return nil
}
