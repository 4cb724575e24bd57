package vxlan

import (
	"fmt"
	"io/fs"
	"net/netip"
)

// underlay is what resolving needs to know of one link of the node.
type underlay struct {
	index int
	up    bool
	name  string
	mtu   int
	addrs []netip.Prefix
}

// resolve returns s in canonical order with everything filled in that the links decide: port, source, MTU, MACs and direct next hops.
func resolve(s State, links []underlay) (State, error) {
	out := canonical(s)
	for i := range out.Devices {
		d := &out.Devices[i]
		if d.Name == "" {
			continue
		}
		if err := d.resolve(links); err != nil {
			return State{}, err
		}
	}
	return out, nil
}

func (d *Device) resolve(links []underlay) error {
	lower, err := d.lower(links)
	if err != nil {
		return err
	}
	d.Port = d.port()
	most := lower.mtu - Overhead4
	if d.Source.Is6() {
		most = lower.mtu - Overhead6
	}
	if d.MTU == 0 {
		d.MTU = most
		if least := d.leastMTU(); d.MTU < least {
			return &OpError{Op: "resolve", Object: object(key{kind: kindDevice, dev: d.Name}), Err: fmt.Errorf("underlay %s has MTU %d, which leaves %d inside; %d is the least", lower.name, lower.mtu, d.MTU, least)}
		}
	}
	if d.Underlay != "" && d.MTU > most { // the kernel would cut it down without a word
		return &OpError{Op: "resolve", Object: object(key{kind: kindDevice, dev: d.Name}), Err: fmt.Errorf("mtu %d does not fit underlay %s, whose MTU is %d", d.MTU, lower.name, lower.mtu)}
	}
	d.MAC = d.mac()
	for i := range d.Peers {
		d.resolvePeer(&d.Peers[i], lower)
	}
	d.DirectRouting = false
	return nil
}

// resolvePeer fills in one peer's MAC and direct next hops.
func (d *Device) resolvePeer(p *Peer, lower *underlay) {
	p.MAC = p.mac()
	if d.DirectRouting {
		for _, a := range append([]netip.Addr{p.VTEP}, p.Hosts...) {
			if _, set := p.via(a); !set && p.needs(a) && lower.reaches(a) {
				p.Via = append(p.Via, Hop{Addr: a, Link: lower.name})
			}
		}
		canonicalHops(p.Via)
	}
	p.Hosts = nil
}

// needs reports whether the peer has subnets of the family of a.
func (p *Peer) needs(a netip.Addr) bool {
	for _, s := range p.Subnets {
		if s.Addr().Is4() == a.Is4() {
			return true
		}
	}
	return false
}

// lower finds the device's underlay link and fills in Source.
func (d *Device) lower(links []underlay) (*underlay, error) {
	missing := func(format string, args ...any) error {
		return &OpError{Op: "resolve", Object: object(key{kind: kindDevice, dev: d.Name}), Err: fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), fs.ErrNotExist)}
	}
	if d.Underlay == "" {
		for i := range links {
			if links[i].holds(d.Source) {
				return &links[i], nil
			}
		}
		return nil, missing("no link holds the source %s", d.Source)
	}
	for i := range links {
		if links[i].name != d.Underlay {
			continue
		}
		if d.Source.IsValid() {
			return &links[i], nil
		}
		if d.Source = links[i].source(d.Peers); !d.Source.IsValid() {
			return nil, missing("underlay %s has no global address of the peers' family", d.Underlay)
		}
		return &links[i], nil
	}
	return nil, missing("underlay %s", d.Underlay)
}

// source picks the first global address of the peers' family; without peers, IPv4 is preferred.
func (u *underlay) source(peers []Peer) netip.Addr {
	var second netip.Addr
	for _, a := range u.addrs {
		switch addr := a.Addr(); {
		case addr.IsLinkLocalUnicast():
		case len(peers) > 0 && addr.Is4() == peers[0].VTEP.Is4(), len(peers) == 0 && addr.Is4():
			return addr
		case len(peers) == 0 && !second.IsValid():
			second = addr
		}
	}
	return second
}

func (u *underlay) holds(a netip.Addr) bool {
	for _, p := range u.addrs {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

// reaches reports whether a is in one of the link's subnets.
func (u *underlay) reaches(a netip.Addr) bool {
	for _, p := range u.addrs {
		if !p.IsSingleIP() && p.Contains(a) && !a.IsLinkLocalUnicast() {
			return true
		}
	}
	return false
}
