package plugin

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podplumb/podplumb/examples/cni/conf"
	"github.com/podplumb/podplumb/examples/cni/links"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/nat"
)

var protos = map[string]nat.Proto{"tcp": nat.TCP, "udp": nat.UDP, "sctp": nat.SCTP}

// ports are the host ports that the container asks for, one for each family that it will have, before it has an address.
func (r *request) ports(v4, v6 bool) ([]nat.Forward, error) {
	var out []nat.Forward
	var faults []error
	for i, m := range r.net.Runtime.PortMappings {
		if m.HostPort == 0 {
			continue
		}
		f := nat.Forward{Port: uint16(m.HostPort), Proto: protos[m.Protocol], Name: label(r.key), To: []nat.Target{{Port: uint16(m.ContainerPort)}}}
		if r.net.MasqAll {
			f.Masquerade = nat.MasqueradeAll
		}
		var hosts []netip.Addr
		switch host, err := netip.ParseAddr(m.HostIP); {
		case err != nil: // empty
			if v4 {
				hosts = append(hosts, netip.IPv4Unspecified())
			}
			if v6 {
				hosts = append(hosts, netip.IPv6Unspecified())
			}
		default:
			hosts = []netip.Addr{host.Unmap()}
		}
		for _, h := range hosts {
			if h.Is4() && !v4 || h.Is6() && !v6 {
				faults = append(faults, fmt.Errorf("runtimeConfig.portMappings[%d].hostIP: %s is of a family that the container has no address of", i, h))
				continue
			}
			f.Addr = h
			out = append(out, f)
		}
	}
	return out, withCode(types.ErrInvalidNetworkConfig, "map the port of a family that the network has", errors.Join(faults...))
}

// aim leads the forwards to the container's first address of their family.
func aim(forwards []nat.Forward, addrs []netip.Prefix) []nat.Forward {
	out := make([]nat.Forward, len(forwards))
	for i, f := range forwards {
		f.To = []nat.Target{f.To[0]}
		for _, a := range addrs {
			if a.Addr().Is4() == f.Addr.Is4() {
				f.To[0].Addr = a.Addr()
				break
			}
		}
		out[i] = f
	}
	return out
}

func keys(forwards []nat.Forward) []nat.Key {
	out := make([]nat.Key, len(forwards))
	for i := range forwards {
		out[i] = forwards[i].Key()
	}
	return out
}

// nodeAddresses are the node's addresses towards the container, one for each family of its host ports: its gateways, if they are the
// node's. In their name the node's loopback addresses reach host ports.
func (r *request) nodeAddresses(addrs []address, a *record.Attachment) []netip.Addr {
	if a.Chained || r.net.Mode == conf.BridgeMode && !r.net.IsGateway {
		return links.SourcesTo(a.Forwards)
	}
	var out []netip.Addr
	for _, f := range a.Forwards {
		if gw := gatewayOf(addrs, f.Addr.Is4()); gw.IsValid() && !slices.Contains(out, gw) {
			out = append(out, gw)
		}
	}
	return out
}
