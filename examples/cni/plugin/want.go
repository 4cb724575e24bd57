package plugin

import (
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/examples/cni/ipam"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/veth"
)

// owner marks what the plugin made: it begins the alias of each link.
const owner = "podplumb-cni"

// digest is what names and MAC addresses of an attachment are made of, so that they are known before anything exists.
func digest(k record.Key) [sha256.Size]byte {
	return sha256.Sum256([]byte(k.Network + "\x00" + k.ContainerID + "\x00" + k.IfName))
}

// linkName is the name of the node's end of the pair: 55 bits of the digest after the prefix by which other programs on a node, such as
// NetworkManager, know to leave a link alone.
func linkName(k record.Key) string {
	d := digest(k)
	return "veth" + strings.ToLower(base32.HexEncoding.EncodeToString(d[:]))[:11]
}

// attachmentTag is the attachment's name in a link's alias: network/container/interface where that fits into an alias, which has 255
// bytes for everything, and otherwise the link's name alone.
func attachmentTag(k record.Key, netns string) string {
	full := k.String()
	if len(owner)+1+len(full)+len(" netns=")+len(netns) > 255 {
		return linkName(k)
	}
	return full
}

// taggedKey is what attachmentTag made the alias of a link of.
func taggedKey(alias string) (record.Key, bool) {
	tag, ok := strings.CutPrefix(alias, owner+"/")
	tag, _, _ = strings.Cut(tag, " ")
	parts := strings.Split(tag, "/")
	if !ok || len(parts) != 3 {
		return record.Key{}, false
	}
	return record.Key{Network: parts[0], ContainerID: parts[1], IfName: parts[2]}, true
}

// hostMAC and podMAC are locally administered addresses (IEEE 802, bit 1 of the first byte). The container's follows from its IPv4
// address, if it has one, so that neighbours who knew the address's last container know the next one too.
func hostMAC(k record.Key) veth.MAC {
	d := digest(k)
	return veth.MAC{0x02, d[11], d[12], d[13], d[14], d[15]}
}

func podMAC(k record.Key, addrs []address) veth.MAC {
	for _, a := range addrs {
		if ip := a.prefix.Addr(); ip.Is4() {
			b := ip.As4()
			return veth.MAC{0x0a, 0x58, b[0], b[1], b[2], b[3]}
		}
	}
	d := digest(k)
	return veth.MAC{0x06, d[16], d[17], d[18], d[19], d[20]}
}

// bridgeState is what the network wants of its bridge: gateways holds one address for each subnet.
func (r *request) bridgeState(gateways []netip.Prefix) veth.Bridge {
	n := r.net
	b := veth.Bridge{Name: n.Bridge, MTU: n.MTU, Promiscuous: n.PromiscMode, DAD: n.EnableDAD}
	if n.IsGateway {
		b.Addresses = gateways
	}
	return b
}

// gateways are those of all ranges of the network, so that each container wants the same of the bridge, and of the given addresses.
func gateways(sets []ipam.Set, addrs []address) []netip.Prefix {
	var out []netip.Prefix
	for _, set := range sets {
		for _, x := range set {
			out = append(out, netip.PrefixFrom(x.Gateway, x.Subnet.Bits()))
		}
	}
	for _, a := range addrs {
		if a.gateway.IsValid() {
			out = append(out, netip.PrefixFrom(a.gateway, a.prefix.Bits()))
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return slices.Compact(out)
}

// withGateways fills in the first address of the subnet as the gateway where the bridge is to be one and none is given.
func (r *request) withGateways(addrs []address) []address {
	if !r.net.IsGateway {
		return addrs
	}
	for i := range addrs {
		if a := &addrs[i]; !a.gateway.IsValid() && a.prefix.Bits() < a.prefix.Addr().BitLen()-1 {
			a.gateway = a.prefix.Masked().Addr().Next()
		}
	}
	return addrs
}

// podRoutes are the routes of the container's main table. A route without a gateway goes through that of an address of its family.
func (r *request) podRoutes(addrs []address) ([]veth.Route, error) {
	gateway := func(is4 bool) (via netip.Addr) {
		for _, a := range addrs {
			if a.gateway.IsValid() && a.prefix.Addr().Is4() == is4 {
				return a.gateway
			}
		}
		return via
	}
	var out []veth.Route
	if r.net.IPAM != nil {
		for i, c := range r.net.IPAM.Routes {
			via := c.GW
			if !via.IsValid() && (c.Scope == nil || *c.Scope == 0) {
				via = gateway(c.Dst.Addr().Is4())
			}
			if !slices.ContainsFunc(addrs, func(a address) bool { return a.prefix.Addr().Is4() == c.Dst.Addr().Is4() }) {
				return nil, fail(7, "remove the route, or add a range of its family", "ipam.routes[%d].dst: %s is of a family that the container has no address of", i, c.Dst)
			}
			out = append(out, veth.Route{To: c.Dst.Masked(), Via: via, Metric: uint32(c.Priority), MTU: uint32(c.MTU)})
		}
	}
	if r.net.IsDefaultGateway {
		for _, is4 := range []bool{true, false} {
			d := veth.DefaultVia(netip.IPv6Unspecified())
			if is4 {
				d = veth.DefaultVia(netip.IPv4Unspecified())
			}
			d.Via = gateway(is4)
			if d.Via.IsValid() && !slices.ContainsFunc(out, func(o veth.Route) bool { return o.To == d.To }) {
				out = append(out, d)
			}
		}
	}
	return out, nil
}

// state is the bridge and the pair of the attachment.
func (r *request) state(sets []ipam.Set, addrs []address) (veth.State, error) {
	n := r.net
	routes, err := r.podRoutes(addrs)
	if err != nil {
		return veth.State{}, err
	}
	p := veth.Pair{
		Host: veth.Host{Name: linkName(r.key), MAC: hostMAC(r.key), MTU: n.MTU, Bridge: n.Bridge, Port: veth.Port{Hairpin: n.HairpinMode, Isolated: n.PortIsolation}},
		Pod:  veth.Pod{NetNS: r.netns, Name: r.key.IfName, MAC: r.mac, MTU: n.MTU, Routes: routes, DAD: n.EnableDAD},
	}
	if p.Pod.MAC == (veth.MAC{}) {
		p.Pod.MAC = podMAC(r.key, addrs)
	}
	for _, a := range addrs {
		p.Pod.Addresses = append(p.Pod.Addresses, a.prefix)
	}
	return veth.State{Bridges: []veth.Bridge{r.bridgeState(gateways(sets, addrs))}, Pairs: []veth.Pair{p}}, nil
}

// nodeSysctls are the switches of the node that the network needs.
func (r *request) nodeSysctls(addrs []address) map[string]string {
	out := map[string]string{}
	for _, a := range addrs {
		switch {
		case !r.net.IsGateway && !r.net.IPMasq && len(r.net.Runtime.PortMappings) == 0:
		case a.prefix.Addr().Is4():
			out["net.ipv4.ip_forward"] = "1"
		default:
			out["net.ipv6.conf.all.forwarding"] = "1"
		}
	}
	return out
}

// label is the attachment's name in the table, where 64 bytes are free.
func label(k record.Key) string {
	s := fmt.Sprintf("%s %s", linkName(k), k.ContainerID)
	return s[:min(len(s), 64)]
}
