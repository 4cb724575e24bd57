package vxlan

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/internal/rtnl"
)

// mirror is what the client's last successful operation left in the kernel: what SetPeers and DropPeers build on, and what Watch measures events
// against.
type mirror struct {
	devices map[string]*mirrorDevice
	table   map[key]entry
	index   map[string]int // of every link
	names   map[int]string // the same the other way round
	owned   map[int]string
	links   map[int]underlay // the links that the devices depend on: underlays, bridges
	needs   map[string]bool  // the same, by name
}

// mirrorDevice is one device with its peers as asked for and as resolved.
type mirrorDevice struct {
	asked    Device // without Peers
	resolved Device // without Peers
	lower    underlay
	peers    map[netip.Addr]mirrorPeer
}

type mirrorPeer struct{ asked, resolved Peer }

// newMirror remembers the outcome of a sync. asked and resolved are in the same order.
func newMirror(asked, resolved State, entries []entry, index map[string]int, o *observed) *mirror {
	m := &mirror{devices: map[string]*mirrorDevice{}, table: make(map[key]entry, len(entries)), index: index, names: map[int]string{}, owned: map[int]string{}, links: map[int]underlay{}, needs: map[string]bool{}}
	for _, e := range entries {
		m.table[e.key] = e
	}
	for name, i := range index {
		m.names[i] = name
	}
	need := func(name string) {
		if name == "" {
			return
		}
		m.needs[name] = true
		for _, l := range o.lowers {
			if l.name == name {
				m.links[l.index] = l
			}
		}
	}
	for i := range resolved.Devices {
		d, a := resolved.Devices[i], asked.Devices[i]
		if d.Name == "" {
			continue
		}
		md := &mirrorDevice{asked: a, resolved: d, peers: make(map[netip.Addr]mirrorPeer, len(d.Peers))}
		for j := range d.Peers {
			md.peers[d.Peers[j].VTEP] = mirrorPeer{asked: a.Peers[j], resolved: d.Peers[j]}
		}
		if lower, err := d.lower(o.lowers); err == nil {
			md.lower = *lower
			need(lower.name)
		}
		need(d.Bridge)
		md.asked.Peers, md.resolved.Peers = nil, nil
		m.devices[d.Name] = md
		m.owned[index[d.Name]] = d.Name
	}
	return m
}

// state puts together what was asked for, with the peers that were set and dropped since.
func (m *mirror) state() State {
	var s State
	for _, name := range slices.Sorted(maps.Keys(m.devices)) {
		md := m.devices[name]
		d := md.asked
		d.Peers = make([]Peer, 0, len(md.peers))
		for _, p := range md.peers {
			d.Peers = append(d.Peers, p.asked)
		}
		s.Devices = append(s.Devices, d)
	}
	return canonical(s)
}

// drifted reports whether the event tells of something other than what the client left, so that a Sync may have to repair it. Events about the
// client's own work agree with the mirror and pass.
func (c *Client) drifted(e *rtnl.Event) bool {
	m := c.mirror
	switch {
	case m == nil:
		// The last try failed: whatever was in the way may have gone with this.
		return e.Neigh == nil
	case e.Link != nil:
		return m.linkDrifted(e, c.cfg.Alias)
	case e.Addr != nil:
		return c.addrDrifted(e)
	case e.Neigh != nil:
		if _, ours := m.owned[e.Neigh.Index]; !ours {
			return false
		}
		return m.entryDrifted(c.neighEntry(e.Neigh, m.owned), e.Removed)
	case e.Route != nil:
		if e.Route.Table != mainTable {
			return false
		}
		return m.entryDrifted(c.routeEntry(e.Route, m.names, m.owned), e.Removed)
	}
	return false
}

// entryDrifted compares an object that appeared, changed or went with what should be in its place.
func (m *mirror) entryDrifted(o *classified, removed bool) bool {
	want, wanted := m.table[o.key]
	switch {
	case removed:
		return wanted && o.verdict == own && same(&o.entry, &want)
	case o.verdict == own:
		return !wanted || !same(&o.entry, &want)
	}
	// Something else took the place, or made a permanent entry temporary. A bridge's own table holds the same addresses and means nothing.
	return wanted && !(o.kind == kindFDB && o.verdict == nobodys)
}

func (c *Client) addrDrifted(e *rtnl.Event) bool {
	m, a := c.mirror, e.Addr
	if _, ours := m.owned[a.Index]; ours {
		return m.entryDrifted(c.addrEntry(a, m.owned), e.Removed)
	}
	if l, ok := m.links[a.Index]; ok {
		return slices.Contains(l.addrs, a.Prefix) == e.Removed
	}
	// A source may move to a link that was of no interest.
	for _, d := range m.devices {
		if d.resolved.Source == a.Prefix.Addr() {
			return true
		}
	}
	return false
}

func (m *mirror) linkDrifted(e *rtnl.Event, alias string) bool {
	l := e.Link
	if name, ours := m.owned[l.Index]; ours {
		if e.Removed || l.VXLAN == nil || l.Alias != alias || l.Name != name {
			return true
		}
		have, want := deviceEntry(l, m.names), m.table[key{kind: kindDevice, dev: name}]
		return !same(&have, &want)
	}
	if e.Removed {
		delete(m.names, l.Index)
	} else {
		m.names[l.Index] = l.Name
	}
	if have, ok := m.links[l.Index]; ok {
		return e.Removed || l.Name != have.name || l.MTU != have.mtu || l.Up() != have.up
	}
	_, wanted := m.devices[l.Name]
	return !e.Removed && (m.needs[l.Name] || wanted || l.Kind == "vxlan" && l.Alias == alias)
}
