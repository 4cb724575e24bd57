package plugin

import (
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/podplumb/podplumb/examples/cni/conf"
	"github.com/podplumb/podplumb/examples/cni/record"
)

// result is what ADD prints: after what plugins before have made, the bridge, the pair's two ends, addresses, routes and name servers.
func (r *request) result(a *record.Attachment, addrs []address, before *previous) *types100.Result {
	out := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	if before != nil {
		out = before.result
		out.CNIVersion = types100.ImplementedSpecVersion
	}
	if a.Chained {
		r.retouch(out, a, before.index)
		return out
	}
	pair := a.State.Pairs[0]
	hostMTU, podMTU := pair.Host.MTU, pair.Pod.MTU
	if r.net.CNIVersion != "1.1.0" { // before, the specification did not know it
		hostMTU, podMTU = 0, 0
	}
	if b := pair.Host.Bridge; b != "" {
		out.Interfaces = append(out.Interfaces, &types100.Interface{Name: b, Mac: r.bridgeMAC.String(), Mtu: hostMTU})
	}
	out.Interfaces = append(out.Interfaces,
		&types100.Interface{Name: pair.Host.Name, Mac: pair.Host.MAC.String(), Mtu: hostMTU},
		&types100.Interface{Name: pair.Pod.Name, Mac: pair.Pod.MAC.String(), Mtu: podMTU, Sandbox: r.netns})
	own := len(out.Interfaces) - 1
	for i, x := range addrs {
		out.IPs = append(out.IPs, &types100.IPConfig{Interface: types100.Int(own), Address: ipNet(pair.Pod.Addresses[i]), Gateway: ipOf(x.gateway)})
	}
	var routes []*types.Route
	for _, c := range r.routesOf(addrs) {
		routes = append(routes, &types.Route{
			Dst: ipNet(c.Dst.Masked()), GW: ipOf(c.GW), MTU: c.MTU, AdvMSS: c.AdvMSS, Priority: c.Priority, Table: c.Table, Scope: c.Scope,
		})
	}
	for _, x := range pair.Pod.Routes {
		if !listed(routes, x.To) {
			routes = append(routes, &types.Route{Dst: ipNet(x.To), GW: ipOf(x.Via), MTU: int(x.MTU), Priority: int(x.Metric)})
		}
	}
	out.Routes = append(out.Routes, routes...)
	if !r.dns.IsEmpty() {
		out.DNS = r.dns
	}
	return out
}

// retouch notes in the result of others what was changed of the container's interface.
func (r *request) retouch(out *types100.Result, a *record.Attachment, index int) {
	if a.Tuning.MAC != "" {
		out.Interfaces[index].Mac = a.Tuning.MAC
	}
	if a.Tuning.MTU != 0 && (r.net.CNIVersion == "1.1.0" || out.Interfaces[index].Mtu != 0) {
		out.Interfaces[index].Mtu = a.Tuning.MTU
	}
	if !r.dns.IsEmpty() {
		out.DNS = r.dns
	}
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

// findDNS fills in the name servers to pass on: the runtime's if it gives any, then the configuration's, then those of a file.
func (r *request) findDNS() error {
	if d := r.net.Runtime.DNS; d != nil && len(d.Servers)+len(d.Searches)+len(d.Options) > 0 {
		r.dns = types.DNS{Nameservers: d.Servers, Search: d.Searches, Options: d.Options}
		return nil
	}
	list := []*conf.DNS{&r.net.DNS}
	if r.net.IPAM != nil {
		list = append(list, r.net.IPAM.DNS)
	}
	for _, d := range list {
		if d == nil {
			continue
		}
		if r.dns = (types.DNS{Nameservers: d.Nameservers, Domain: d.Domain, Search: d.Search, Options: d.Options}); !r.dns.IsEmpty() {
			return nil
		}
	}
	if r.net.IPAM == nil || r.net.IPAM.ResolvConf == "" {
		return nil
	}
	var err error
	r.dns, err = parseResolvConf(r.net.IPAM.ResolvConf)
	return err
}
