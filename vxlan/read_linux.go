package vxlan

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/plan"
	"github.com/podplumb/podplumb/internal/rtnl"
)

// metric6 is what the kernel makes of an IPv6 route without a metric (IP6_RT_PRIO_USER).
const metric6 = 1024

// observed is one reading of the kernel.
type observed struct {
	links   []rtnl.Link
	names   map[int]string // of every link
	owned   map[int]string // of the client's devices
	entries []entry
	foreign []Foreign
	taken   map[key]Foreign // foreign objects by the place they hold
	lowers  []underlay
}

// read lists all that the client owns, with one dump of each kind of object.
func (c *Client) read(ctx context.Context) (*observed, error) {
	o := &observed{names: map[int]string{}, owned: map[int]string{}, taken: map[key]Foreign{}}
	var err error
	if o.links, err = c.conn.Links(ctx); err != nil {
		return nil, &OpError{Op: "read", Object: "links", Err: err}
	}
	for i := range o.links {
		l := &o.links[i]
		o.names[l.Index] = l.Name
		if l.Kind == "vxlan" && l.Alias == c.cfg.Alias {
			o.owned[l.Index] = l.Name
		}
	}
	for i := range o.links {
		o.addLink(&o.links[i])
	}
	if err := o.readAddrs(ctx, c); err != nil {
		return nil, &OpError{Op: "read", Object: "addresses", Err: err}
	}
	for index := range o.owned {
		if err := o.readNeighs(ctx, c, index); err != nil {
			return nil, err
		}
	}
	routes, err := c.conn.Routes(ctx, rtnl.RouteFilter{Table: unix.RT_TABLE_MAIN})
	if err != nil {
		return nil, &OpError{Op: "read", Object: "routes", Err: err}
	}
	o.entries = slices.Grow(o.entries, len(routes))
	for i := range routes {
		o.put(c.routeEntry(&routes[i], o.names, o.owned))
	}
	return o, nil
}

// verdict says whose an object is.
type verdict uint8

const (
	nobodys verdict = iota // the kernel's own, or learned from traffic
	own
	foreign
)

// classified is an object of the kernel, whose it is, and what to say about it when it is foreign.
type classified struct {
	entry
	verdict
	foreign  Foreign
	reported bool // on an owned link, so Plan.Foreign tells it
}

func (o *observed) put(c *classified) {
	switch c.verdict {
	case own:
		o.entries = append(o.entries, c.entry)
	case foreign:
		o.taken[c.entry.key] = c.foreign
		if c.reported {
			o.foreign = append(o.foreign, c.foreign)
		}
	}
}

// addLink files a link if it is the client's.
func (o *observed) addLink(l *rtnl.Link) {
	if _, ok := o.owned[l.Index]; ok {
		o.entries = append(o.entries, deviceEntry(l, o.names))
	}
}

func foreignLink(l *rtnl.Link) Foreign {
	what := l.Kind
	if l.VXLAN != nil {
		what = fmt.Sprintf("vxlan vni %d port %d", l.VXLAN.ID, value16(l.VXLAN.Port))
	}
	return Foreign{Kind: ForeignLink, Link: l.Name, Object: show(what), Origin: fmt.Sprintf("alias %q", l.Alias)}
}

// deviceEntry tells a VXLAN link as an entry.
func deviceEntry(l *rtnl.Link, names map[int]string) entry {
	v := l.VXLAN
	d := &Device{
		Name:            l.Name,
		VNI:             v.ID,
		Port:            value16(v.Port),
		Source:          v.Local,
		MTU:             l.MTU,
		MAC:             MAC(l.MAC),
		Learning:        v.Learning != nil && *v.Learning,
		GBP:             v.GBP,
		ZeroChecksum:    v.UDPCsum != nil && !*v.UDPCsum,
		ZeroChecksum6Tx: v.Csum6TxNo != nil && *v.Csum6TxNo,
		ZeroChecksum6Rx: v.Csum6RxNo != nil && *v.Csum6RxNo,
		SourcePorts:     PortRange{Low: value16(v.PortLow), High: value16(v.PortHigh)},
		Bridge:          names[l.Master],
	}
	if v.Link != nil {
		d.Underlay = names[int(*v.Link)]
	}
	if v.TTL != nil {
		d.TTL = *v.TTL
	}
	if v.TOS != nil {
		d.TOS = *v.TOS
	}
	e := entry{key: key{kind: kindDevice, dev: l.Name}, device: d, down: !l.Up()}
	on := func(p *bool) bool { return p != nil && *p }
	switch {
	case v.Group.IsValid():
		e.odd = "remote " + v.Group.String()
	case v.DF != nil && *v.DF != 0:
		e.odd = fmt.Sprintf("df %d", *v.DF)
	case on(v.L2Miss):
		e.odd = "l2miss"
	case on(v.L3Miss):
		e.odd = "l3miss"
	}
	return e
}

func value16(p *uint16) uint16 {
	if p == nil {
		return 0
	}
	return *p
}

// readAddrs reads the addresses of all links: the client's own are entries, the others decide sources and direct routes.
func (o *observed) readAddrs(ctx context.Context, c *Client) error {
	addrs, err := c.conn.Addrs(ctx, 0)
	if err != nil {
		return err
	}
	at := map[int]int{}
	for i := range o.links {
		l := &o.links[i]
		if _, ok := o.owned[l.Index]; !ok {
			at[l.Index] = len(o.lowers)
			o.lowers = append(o.lowers, underlay{index: l.Index, name: l.Name, mtu: l.MTU, up: l.Up()})
		}
	}
	for i := range addrs {
		a := &addrs[i]
		if j, ok := at[a.Index]; ok {
			o.lowers[j].addrs = append(o.lowers[j].addrs, a.Prefix)
			continue
		}
		o.put(c.addrEntry(a, o.owned))
	}
	return nil
}

// addrEntry classifies an address of an owned link. Link-local ones are the kernel's.
func (c *Client) addrEntry(a *rtnl.Addr, owned map[int]string) *classified {
	addr := a.Prefix.Addr()
	out := &classified{entry: entry{key: key{kind: kindAddr, dev: owned[a.Index], prefix: host(addr)}, bits: a.Prefix.Bits()}}
	permanent := a.Flags&unix.IFA_F_PERMANENT != 0
	switch {
	case addr.IsLinkLocalUnicast():
	case permanent && (a.Proto == 0 || a.Proto == c.cfg.Protocol):
		out.verdict = own
		if a.Peer.IsValid() {
			out.odd = "peer " + a.Peer.String()
		}
	default:
		out.verdict, out.reported = foreign, true
		out.foreign = Foreign{Kind: ForeignAddress, Link: out.dev, Object: a.Prefix.String(), Origin: "dynamic"}
		if permanent {
			out.foreign.Origin = fmt.Sprintf("protocol %d", a.Proto)
		}
	}
	return out
}

// readNeighs reads the FDB and the neighbours of one owned device.
func (o *observed) readNeighs(ctx context.Context, c *Client, index int) error {
	fdb, err := c.conn.FDB(ctx, index)
	if err != nil {
		return &OpError{Op: "read", Object: "fdb dev " + o.owned[index], Err: err}
	}
	neighs, err := c.conn.Neighs(ctx, index)
	if err != nil {
		return &OpError{Op: "read", Object: "neighbours dev " + o.owned[index], Err: err}
	}
	o.entries = slices.Grow(o.entries, len(fdb)+len(neighs)+2*len(fdb))
	for i := range fdb {
		o.put(c.neighEntry(&fdb[i], o.owned))
	}
	for i := range neighs {
		o.put(c.neighEntry(&neighs[i], o.owned))
	}
	return nil
}

// neighEntry classifies an FDB entry or neighbour of an owned link.
func (c *Client) neighEntry(n *rtnl.Neigh, owned map[int]string) *classified {
	dev, learned := owned[n.Index], n.Flags&unix.NTF_EXT_LEARNED != 0
	if n.Family == unix.AF_BRIDGE {
		return fdbClass(n, dev, learned)
	}
	out := &classified{entry: entry{key: key{kind: kindNeigh, dev: dev, prefix: host(n.IP)}, mac: MAC(n.MAC)}}
	switch {
	case learned:
		out.disown(ForeignNeighbour, fmt.Sprintf("%s lladdr %s", n.IP, n.MAC), "externally learned")
	case n.State&unix.NUD_PERMANENT == 0:
	case n.Proto == 0 || n.Proto == c.cfg.Protocol:
		out.verdict = own
	default:
		out.disown(ForeignNeighbour, fmt.Sprintf("%s lladdr %s", n.IP, n.MAC), fmt.Sprintf("protocol %d", n.Proto))
	}
	return out
}

// disown makes an object on an owned link one that is told and left alone.
func (o *classified) disown(kind ForeignKind, what, origin string) {
	o.verdict, o.reported = foreign, true
	o.foreign = Foreign{Kind: kind, Link: o.dev, Object: what, Origin: origin}
}

func fdbClass(n *rtnl.Neigh, dev string, learned bool) *classified {
	out := &classified{entry: fdbEntry(n, dev)}
	switch {
	case n.Flags&unix.NTF_SELF == 0: // the bridge's own table, when the device is a port
	case learned:
		out.disown(ForeignFDB, fmt.Sprintf("%s dst %s", n.MAC, show(n.IP)), "externally learned")
	case n.State&unix.NUD_PERMANENT != 0:
		out.verdict = own
	case n.State&unix.NUD_NOARP != 0:
		out.disown(ForeignFDB, fmt.Sprintf("%s dst %s", n.MAC, show(n.IP)), "static")
	}
	return out
}

func fdbEntry(n *rtnl.Neigh, dev string) entry {
	e := entry{key: key{kind: kindFDB, dev: dev, mac: MAC(n.MAC)}, to: n.IP}
	if n.MAC.IsZero() {
		e.key = key{kind: kindFlood, dev: dev, dst: n.IP}
	}
	switch {
	case n.Port != 0:
		e.odd = fmt.Sprintf("port %d", n.Port)
	case n.VNI != 0:
		e.odd = fmt.Sprintf("vni %d", n.VNI)
	case n.Via != 0:
		e.odd = fmt.Sprintf("link %d", n.Via)
	}
	return e
}

// routeEntry classifies a route of the main table.
func (c *Client) routeEntry(r *rtnl.Route, names, owned map[int]string) *classified {
	out := &classified{entry: entry{key: key{kind: kindRoute, prefix: r.Dst, metric: r.Metric}, to: r.Gateway, link: names[r.Index], onlink: r.OnLink}}
	if r.Dst.Addr().Is6() && r.Metric == metric6 {
		out.metric = 0
	}
	if r.Proto == c.cfg.Protocol {
		out.verdict = own
		switch {
		case r.Multipath:
			out.odd = "multipath"
		case r.Type != unix.RTN_UNICAST:
			out.odd = fmt.Sprintf("type %d", r.Type)
		case r.Src.IsValid():
			out.odd = "src " + r.Src.String()
		case r.MTU != 0:
			out.odd = fmt.Sprintf("mtu %d", r.MTU)
		case !r.Gateway.IsValid():
			out.odd = "no next hop"
		}
		return out
	}
	_, ours := owned[r.Index]
	out.verdict, out.reported = foreign, ours && r.Proto != unix.RTPROT_KERNEL
	out.foreign = Foreign{Kind: ForeignRoute, Link: names[r.Index], Object: fmt.Sprintf("%s via %s", r.Dst, show(r.Gateway)), Origin: fmt.Sprintf("protocol %d", r.Proto)}
	return out
}

// conflicts lists the wanted objects whose place something foreign holds.
func (o *observed) conflicts(changes []plan.Change[key, entry]) []error {
	var out []error
	for _, ch := range changes {
		if ch.Want == nil {
			continue
		}
		if ch.Key.kind == kindDevice {
			out = append(out, o.inTheWay(ch.Want.device)...)
		} else if f, ok := o.taken[ch.Key]; ok {
			out = append(out, &ConflictError{Object: object(ch.Key), Foreign: f})
		}
	}
	return out
}

// inTheWay lists the foreign links that have the device's name, or that the kernel takes for the same device.
func (o *observed) inTheWay(d *Device) []error {
	var out []error
	for i := range o.links {
		l := &o.links[i]
		if _, ours := o.owned[l.Index]; ours || halfMade(l, d) {
			continue
		}
		if l.Name == d.Name || l.VXLAN != nil && clash(d, l.VXLAN) {
			out = append(out, &ConflictError{Object: object(key{kind: kindDevice, dev: d.Name}), Foreign: foreignLink(l)})
		}
	}
	return out
}

// halfMade recognises what a client leaves that dies between making a device and marking it, which the kernel does not let it do at once: a VXLAN
// link that never was up, without any alias, with the VNI, port and MAC address of the device.
func halfMade(l *rtnl.Link, d *Device) bool {
	return l.VXLAN != nil && l.Alias == "" && !l.Up() && l.VXLAN.ID == d.VNI && value16(l.VXLAN.Port) == d.port() && MAC(l.MAC) == d.MAC
}

// clash reports whether the kernel takes both devices for the same (vxlan_vni_in_use).
func clash(d *Device, v *rtnl.VXLANAttrs) bool {
	rx := v.Csum6RxNo != nil && *v.Csum6RxNo
	return d.VNI == v.ID && d.port() == value16(v.Port) && d.GBP == v.GBP && d.ZeroChecksum6Rx == rx && d.Source.Is6() == (v.Local.Is6() || v.Group.Is6())
}
