package plugin

import (
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/podplumb/podplumb/examples/cni/conf"
	"github.com/podplumb/podplumb/examples/cni/links"
	"github.com/podplumb/podplumb/examples/cni/record"
)

// result is what ADD prints: the bridge, the pair's two ends, addresses, routes and name servers.
func (r *request) result(a *record.Attachment, addrs []address) (*types100.Result, error) {
	out := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	pair := a.State.Pairs[0]
	for _, b := range a.State.Bridges {
		mac, err := links.MAC(b.Name)
		if err != nil {
			return nil, err
		}
		out.Interfaces = append(out.Interfaces, &types100.Interface{Name: b.Name, Mac: mac, Mtu: pair.Host.MTU})
	}
	out.Interfaces = append(out.Interfaces,
		&types100.Interface{Name: pair.Host.Name, Mac: pair.Host.MAC.String(), Mtu: pair.Host.MTU},
		&types100.Interface{Name: pair.Pod.Name, Mac: pair.Pod.MAC.String(), Mtu: pair.Pod.MTU, Sandbox: r.netns})
	for _, x := range addrs {
		out.IPs = append(out.IPs, &types100.IPConfig{
			Interface: types100.Int(len(out.Interfaces) - 1), Address: ipNet(x.prefix), Gateway: ipOf(x.gateway),
		})
	}
	if r.net.IPAM != nil {
		for _, c := range r.net.IPAM.Routes {
			out.Routes = append(out.Routes, &types.Route{
				Dst: ipNet(c.Dst), GW: ipOf(c.GW), MTU: c.MTU, AdvMSS: c.AdvMSS, Priority: c.Priority, Table: c.Table, Scope: c.Scope,
			})
		}
	}
	for _, route := range pair.Pod.Routes {
		if listed(out.Routes, route.To) {
			continue
		}
		out.Routes = append(out.Routes, &types.Route{Dst: ipNet(route.To), GW: ipOf(route.Via), MTU: int(route.MTU), Priority: int(route.Metric)})
	}
	out.DNS = r.dns()
	return out, nil
}

func listed(routes []*types.Route, to netip.Prefix) bool {
	want := ipNet(to)
	for _, r := range routes {
		if r.Dst.String() == want.String() {
			return true
		}
	}
	return false
}

// ipNet and ipOf turn addresses into the form of the types package.
func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func ipOf(a netip.Addr) net.IP {
	if !a.IsValid() {
		return nil
	}
	return a.AsSlice()
}

// dns is the runtime's if it gives any, otherwise the configuration's.
func (r *request) dns() types.DNS {
	if d := r.net.Runtime.DNS; d != nil && len(d.Servers)+len(d.Searches)+len(d.Options) > 0 {
		return types.DNS{Nameservers: d.Servers, Search: d.Searches, Options: d.Options}
	}
	for _, d := range r.configuredDNS() {
		if len(d.Nameservers)+len(d.Search)+len(d.Options) > 0 || d.Domain != "" {
			return types.DNS{Nameservers: d.Nameservers, Domain: d.Domain, Search: d.Search, Options: d.Options}
		}
	}
	return types.DNS{}
}

func (r *request) configuredDNS() []conf.DNS {
	out := []conf.DNS{r.net.DNS}
	if r.net.IPAM != nil && r.net.IPAM.DNS != nil {
		out = append(out, *r.net.IPAM.DNS)
	}
	return out
}
