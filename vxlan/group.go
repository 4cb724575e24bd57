package vxlan

import (
	"net/netip"
	"slices"
	"strings"
)

// group is the inverse of expand: it tells a set of the kernel's objects as a State, in canonical order. Objects that do not belong together, as
// a crash or a foreign hand leaves them, become peers of their own.
func group(entries []entry) State {
	g := grouping{devices: map[string]*deviceGroup{}}
	for i := range entries {
		if e := &entries[i]; e.kind == kindDevice {
			d := &deviceGroup{Device: *e.device, vteps: map[netip.Addr]int{}, tunnels: map[netip.Addr]int{}}
			g.devices[e.dev] = d
			g.order = append(g.order, d)
		}
	}
	slices.SortFunc(g.order, func(a, b *deviceGroup) int { return strings.Compare(a.Name, b.Name) })
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, func(a, b entry) int { return compareKeys(a.key, b.key) })
	neighbours := map[fdbKey][]netip.Addr{}
	for i := range sorted {
		if e := &sorted[i]; e.kind == kindNeigh {
			k := fdbKey{e.dev, e.mac}
			neighbours[k] = append(neighbours[k], e.prefix.Addr())
		}
	}
	for i := range sorted {
		g.add(&sorted[i], neighbours)
	}
	g.addRest(sorted, neighbours)
	g.addRoutes(sorted)
	var s State
	for _, d := range g.order {
		canonicalPeers(d.Peers)
		s.Devices = append(s.Devices, d.Device)
	}
	return s
}

type fdbKey struct {
	dev string
	mac MAC
}

// deviceGroup is a Device under construction with indexes into its peers.
type deviceGroup struct {
	Device
	vteps   map[netip.Addr]int // the peer of that VTEP
	tunnels map[netip.Addr]int // the peer with that tunnel address
}

type grouping struct {
	devices map[string]*deviceGroup
	order   []*deviceGroup
}

// peer returns the peer of that VTEP, made when there is none.
func (d *deviceGroup) peer(vtep netip.Addr) *Peer {
	i, ok := d.vteps[vtep]
	if !ok {
		i = len(d.Peers)
		d.Peers = append(d.Peers, Peer{VTEP: vtep})
		d.vteps[vtep] = i
	}
	return &d.Peers[i]
}

// add places addresses, FDB and flood entries, and the neighbours that belong to an FDB entry.
func (g *grouping) add(e *entry, neighbours map[fdbKey][]netip.Addr) {
	d := g.devices[e.dev]
	if d == nil {
		return
	}
	switch e.kind {
	case kindAddr:
		d.Addrs = append(d.Addrs, netip.PrefixFrom(e.prefix.Addr(), e.bits))
	case kindFlood:
		d.peer(e.to).Flood = true
	case kindFDB:
		k := fdbKey{e.dev, e.key.mac}
		tunnel := neighbours[k]
		p := d.peer(e.to)
		if len(tunnel) == 0 {
			p.Stations = append(p.Stations, e.key.mac)
			return
		}
		i := d.vteps[e.to]
		if !p.MAC.IsZero() {
			// A second device behind the same VTEP is never wanted, but the kernel can hold it.
			i = len(d.Peers)
			d.Peers = append(d.Peers, Peer{VTEP: e.to})
		}
		d.Peers[i].MAC = e.key.mac
		d.setTunnel(i, tunnel)
		delete(neighbours, k)
	}
}

// setTunnel gives the peer its tunnel addresses; those beyond one of each family go to peers of their own.
func (d *deviceGroup) setTunnel(i int, addrs []netip.Addr) {
	for _, a := range addrs {
		at := i
		if d.Peers[i].tunnel(a).IsValid() {
			at = len(d.Peers)
			d.Peers = append(d.Peers, Peer{MAC: d.Peers[i].MAC})
		}
		d.Peers[at].Tunnel = append(d.Peers[at].Tunnel, a)
		d.tunnels[a] = at
	}
}

// addRest places the neighbours whose MAC is in no FDB entry.
func (g *grouping) addRest(sorted []entry, neighbours map[fdbKey][]netip.Addr) {
	for i := range sorted {
		e := &sorted[i]
		if e.kind != kindNeigh || g.devices[e.dev] == nil {
			continue
		}
		k := fdbKey{e.dev, e.mac}
		if tunnel := neighbours[k]; len(tunnel) > 0 {
			d := g.devices[e.dev]
			d.Peers = append(d.Peers, Peer{MAC: e.mac})
			d.setTunnel(len(d.Peers)-1, tunnel)
			delete(neighbours, k)
		}
	}
}

// addRoutes places the routes: first those through tunnels, then the direct ones at the peers that they leave untunnelled.
func (g *grouping) addRoutes(sorted []entry) {
	for i := range sorted {
		e := &sorted[i]
		d := g.devices[e.link]
		if e.kind != kindRoute || d == nil {
			continue
		}
		at, ok := d.tunnels[e.to]
		if !ok {
			at = len(d.Peers)
			d.Peers = append(d.Peers, Peer{})
			if e.to.IsValid() {
				d.Peers[at].Tunnel = []netip.Addr{e.to}
				d.tunnels[e.to] = at
			}
		}
		d.Peers[at].Subnets = append(d.Peers[at].Subnets, e.prefix)
	}
	var direct []*entry
	for i := range sorted {
		if e := &sorted[i]; e.kind == kindRoute && g.devices[e.link] == nil {
			direct = append(direct, e)
		}
	}
	for _, owner := range []func(*entry) *Peer{g.byVTEP, g.byFirstAddress, g.byHop, g.byTunnel, g.alone} {
		direct = slices.DeleteFunc(direct, func(e *entry) bool {
			p := owner(e)
			return p != nil && p.takeDirect(e)
		})
	}
}

// The owner of a route outside the tunnel is sought in this order: the peer that is its next hop; the peer whose tunnel address is the subnet's
// first; the peer that has the same next hop already; the peer whose tunnel address lies inside the subnet; a peer of its own.

func (g *grouping) byVTEP(e *entry) *Peer {
	for _, d := range g.order {
		if i, ok := d.vteps[e.to]; ok {
			return &d.Peers[i]
		}
	}
	return nil
}

func (g *grouping) byFirstAddress(e *entry) *Peer {
	for _, d := range g.order {
		if i, ok := d.tunnels[e.prefix.Addr()]; ok {
			return &d.Peers[i]
		}
	}
	return nil
}

func (g *grouping) byHop(e *entry) *Peer {
	return g.find(func(p *Peer) bool {
		hop, ok := p.via(e.to)
		return ok && hop == e.hop()
	})
}

func (g *grouping) byTunnel(e *entry) *Peer {
	return g.find(func(p *Peer) bool {
		t := p.tunnel(e.prefix.Addr())
		return t.IsValid() && e.prefix.Contains(t)
	})
}

func (g *grouping) alone(e *entry) *Peer {
	if p := g.byHop(e); p != nil && p.fits(e) {
		return p
	}
	if len(g.order) == 0 {
		g.order = append(g.order, &deviceGroup{})
	}
	d := g.order[0]
	d.Peers = append(d.Peers, Peer{})
	return &d.Peers[len(d.Peers)-1]
}

func (g *grouping) find(match func(*Peer) bool) *Peer {
	for _, d := range g.order {
		for i := range d.Peers {
			if match(&d.Peers[i]) {
				return &d.Peers[i]
			}
		}
	}
	return nil
}

func (e *entry) hop() Hop { return Hop{Addr: e.to, Link: e.link} }

// fits reports whether the peer can tell the direct route: its other subnets of that family must go the same way.
func (p *Peer) fits(e *entry) bool {
	if e.to.IsValid() && e.to.Is4() != e.prefix.Addr().Is4() {
		return p.VTEP == netip.Addr{} && len(p.Via) == 0 && len(p.Subnets) == 0
	}
	for _, s := range p.Subnets {
		if s.Addr().Is4() != e.prefix.Addr().Is4() {
			continue
		}
		if hop, ok := p.via(s.Addr()); !ok || hop != e.hop() {
			return false
		}
	}
	hop, ok := p.via(e.prefix.Addr())
	return !ok || hop == e.hop()
}

// takeDirect adds the route to the peer when it fits.
func (p *Peer) takeDirect(e *entry) bool {
	if !p.fits(e) {
		return false
	}
	if _, ok := p.via(e.to); !ok && e.to.IsValid() {
		p.Via = append(p.Via, e.hop())
	}
	p.Subnets = append(p.Subnets, e.prefix)
	return true
}
