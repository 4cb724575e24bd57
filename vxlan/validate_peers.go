package vxlan

import (
	"net/netip"
	"strconv"
)

// peerKeys is what the peers of one device may not share.
type peerKeys struct {
	vteps   map[netip.Addr]int
	macs    map[MAC]holder
	tunnels map[netip.Addr]holder
}

// holder is the index of a peer, or -1 for the device.
type holder int

// String names the holder within its device.
func (h holder) String() string {
	if h < 0 {
		return "the device"
	}
	return "peers[" + strconv.Itoa(int(h)) + "]"
}

// peers checks the peers of one device; own holds the device's addresses.
func (c *checker) peers(at place, d *Device, own map[netip.Addr]bool) {
	n := len(d.Peers)
	keys := peerKeys{vteps: make(map[netip.Addr]int, n), macs: make(map[MAC]holder, n), tunnels: make(map[netip.Addr]holder, 2*n)}
	for a := range own {
		keys.tunnels[a] = -1
	}
	if mac := d.mac(); !mac.IsZero() {
		keys.macs[mac] = -1
	}
	family := d.Source
	for i := range d.Peers {
		p := &d.Peers[i]
		at.peer = i
		if c.unicast(at.field("vtep"), p.VTEP) {
			if !family.IsValid() {
				family = p.VTEP
			}
			switch j, taken := keys.vteps[p.VTEP]; {
			case p.VTEP == d.Source:
				c.fault(at.field("vtep"), "%s is the device's own source", p.VTEP)
			case p.VTEP.Is4() != family.Is4():
				c.fault(at.field("vtep"), "%s is not of the family of %s", p.VTEP, family)
			case taken:
				c.fault(at.field("vtep"), "%s is also the VTEP of peers[%d]", p.VTEP, j)
			}
			keys.vteps[p.VTEP] = i
		}
		c.peer(at, d, p, &keys)
	}
}

// peer checks one peer against itself and what the peers before it took.
func (c *checker) peer(at place, d *Device, p *Peer, keys *peerKeys) {
	if !p.MAC.IsZero() && !p.MAC.IsUnicast() {
		c.fault(at.field("mac"), "%s is a group address", p.MAC)
	}
	if !p.MAC.IsZero() && len(p.Tunnel) == 0 {
		c.fault(at.field("mac"), "no tunnel address uses it; hosts behind the peer belong into stations")
	}
	if mac := p.mac(); !mac.IsZero() && len(p.Tunnel) > 0 {
		c.mac(at.field("mac"), mac, keys)
	}
	for i, m := range p.Stations {
		path := at.item("stations", i)
		if !m.IsUnicast() {
			c.fault(path, "%s is not a unicast address", m)
			continue
		}
		c.mac(path, m, keys)
	}
	if d.Bridge != "" && len(p.Tunnel)+len(p.Subnets) > 0 {
		c.fault(at, "routes do not go through a bridge port; tunnel and subnets must be empty")
	}
	if len(p.Tunnel)+len(p.Subnets)+len(p.Stations) == 0 && !p.Flood {
		c.fault(at, "nothing leads to this peer: it has no tunnel, subnets, stations or flood")
	}
	c.hops(at, p, keys)
	for i, h := range p.Hosts {
		c.unicast(at.item("hosts", i), h)
	}
	for i, s := range p.Subnets {
		c.subnet(at.item("subnets", i), s, p)
	}
}

// hops checks the tunnel addresses and direct next hops.
func (c *checker) hops(at place, p *Peer, keys *peerKeys) {
	for i, t := range p.Tunnel {
		path := at.item("tunnel", i)
		if !c.unicast(path, t) {
			continue
		}
		if owner, ok := keys.tunnels[t]; ok {
			c.fault(path, "%s is also an address of %s", t, owner)
		}
		keys.tunnels[t] = holder(at.peer)
		if p.tunnel(t) != t {
			c.fault(path, "%s is a second address of its family", t)
		}
	}
	for i, h := range p.Via {
		path := at.item("via", i)
		c.linkName(path.of("link"), h.Link, true)
		if !c.unicast(path.of("addr"), h.Addr) {
			continue
		}
		if first, _ := p.via(h.Addr); first != h {
			c.fault(path, "%s is a second next hop of its family", h.Addr)
		}
	}
}

func (c *checker) mac(path place, m MAC, keys *peerKeys) {
	if owner, ok := keys.macs[m]; ok {
		c.fault(path, "%s is also an address of %s", m, owner)
		return
	}
	keys.macs[m] = holder(path.peer)
}

func (c *checker) subnet(path place, s netip.Prefix, p *Peer) {
	switch {
	case !s.IsValid():
		c.fault(path, "not a subnet")
		return
	case s.Addr().Is4In6():
		c.fault(path, "%s is an IPv4 subnet in IPv6 form", s)
		return
	case s.Masked() != s:
		c.fault(path, "%s has bits set beyond its length; %s is the subnet", s, s.Masked())
		return
	case s.Addr().IsMulticast() || s.Addr().Is6() && s.Addr().IsLinkLocalUnicast():
		c.fault(path, "%s is not a unicast subnet", s)
		return
	}
	if owner, ok := c.subnets[s]; ok {
		c.fault(path, "%s is also a subnet of %s", s, owner)
	}
	c.subnets[s] = place{device: path.device, peer: path.peer, index: -1}
	if _, direct := p.via(s.Addr()); !direct && !p.tunnel(s.Addr()).IsValid() {
		c.fault(path, "%s has no next hop: tunnel holds no address of its family", s)
	}
}
