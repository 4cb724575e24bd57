package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/podplumb/podplumb/examples/cni/links"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/veth"
)

// filters reports whether the network's bridge tells VLANs apart.
func (r *request) filters() bool { return r.net.VLAN != 0 || len(r.net.VLANTrunk) > 0 }

// vlans is the membership of the container's port: the VLANs that are asked for, and besides trunks VLAN 1 for what comes untagged,
// unless preserveDefaultVlan is off. Beside an access VLAN there is no other for untagged frames.
func (r *request) vlans() veth.VLANs {
	n := r.net
	v := veth.VLANs{Access: uint16(n.VLAN)}
	for _, t := range n.VLANTrunk {
		if t.ID != nil {
			v.Trunks = append(v.Trunks, veth.VLANRange{First: uint16(*t.ID), Last: uint16(*t.ID)})
		}
		if t.MinID != nil && t.MaxID != nil {
			v.Trunks = append(v.Trunks, veth.VLANRange{First: uint16(*t.MinID), Last: uint16(*t.MaxID)})
		}
	}
	if r.filters() && v.Access == 0 && *n.PreserveDefaultVLAN {
		v.Access = 1
	}
	return v
}

// lock is the port's, if it is to take in only what comes from the container's own MAC address, in each VLAN that it is in.
func (r *request) lock(p veth.Pair) links.Lock {
	if !r.net.MACSpoofCheck {
		return links.Lock{}
	}
	l := links.Lock{MAC: p.Pod.MAC.String()}
	if v := p.Host.Port.VLANs; v.Access != 0 {
		l.VLANs = append(l.VLANs, int(v.Access))
	}
	for _, t := range p.Host.Port.VLANs.Trunks {
		for id := int(t.First); id <= int(t.Last); id++ {
			l.VLANs = append(l.VLANs, id)
		}
	}
	return l
}

// ownNetNS is the path by which the node's namespace is found in every process that runs in it.
const ownNetNS = "/proc/self/ns/net"

// gatewayState is the node's own end in the VLAN of a network that it is the gateway of: a pair with one end on the bridge and the
// other, BRIDGE.VLAN, with the gateway addresses. So one bridge can have networks, and gateways, in several VLANs.
func (r *request) gatewayState(bridges []veth.Bridge, gateways []netip.Prefix) veth.State {
	n := r.net
	if !n.IsGateway || n.VLAN == 0 {
		return veth.State{}
	}
	name := fmt.Sprintf("%s.%d", n.Bridge, n.VLAN)
	k := record.Key{Network: ".vlan", ContainerID: n.Bridge, IfName: name}
	return veth.State{Bridges: bridges, Pairs: []veth.Pair{{
		Host: veth.Host{Name: linkName(k), MAC: hostMAC(k), MTU: n.MTU, Bridge: n.Bridge, Port: veth.Port{VLANs: veth.VLANs{Access: uint16(n.VLAN)}}},
		Pod:  veth.Pod{NetNS: ownNetNS, Name: name, MAC: podMAC(k, nil), MTU: n.MTU, Addresses: gateways, DAD: n.EnableDAD},
	}}}
}

// openGateway is the client of the node's end in a VLAN. Like the bridge it stays, for the next container.
func openGateway(a *record.Attachment) (*veth.Client, error) {
	return veth.New(veth.Config{Owner: owner, Attachment: "vlan/" + a.Gateway.Pairs[0].Pod.Name})
}

// connectGateway makes the node's end in the network's VLAN.
func connectGateway(ctx context.Context, a *record.Attachment) (err error) {
	if len(a.Gateway.Pairs) == 0 {
		return nil
	}
	c, err := openGateway(a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	_, err = c.Update(ctx, a.Gateway)
	return err
}
