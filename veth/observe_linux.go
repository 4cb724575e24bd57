package veth

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/rtnl"
)

// observation is what the kernel holds of a client's links, and of what a wanted state touches.
type observation struct {
	state        State // canonical
	obstacles    []error
	foreignPorts map[string][]string // by bridge: ports that are not this client's pairs
	links        map[string]*rtnl.Link
	names        map[int]string
	vlans        map[int][]rtnl.VLAN
	podAliases   map[string]string // by the name of the node's end
}

// observe reads the client's links. Objects that want names are told too when they are not marked as the client's, as is a route that
// took the place of a wanted one. For a plan, what it would not touch is left out, and what is in want's way collected.
func (k *kernel) observe(ctx context.Context, want State, look extent) (*observation, error) {
	planning := look != reading
	links, err := k.candidates(ctx, want, look)
	if err != nil {
		return nil, err
	}
	o := &observation{foreignPorts: map[string][]string{}, links: map[string]*rtnl.Link{}, names: map[int]string{}}
	for i := range links {
		o.links[links[i].Name], o.names[links[i].Index] = &links[i], links[i].Name
	}
	var bridges, pairs []*rtnl.Link
	used := map[int]bool{}
	for i := range links {
		if l := &links[i]; k.ownsPair(l) {
			pairs = append(pairs, l)
			used[l.Master] = true
		}
	}
	for i := range links {
		l := &links[i]
		if !k.ownsBridge(l) {
			continue
		}
		wanted := slices.ContainsFunc(want.Bridges, func(b Bridge) bool { return b.Name == l.Name })
		if k.config.Attachment == "" || wanted || !planning && used[l.Index] {
			bridges = append(bridges, l)
		}
	}
	o.findForeignPorts(k, links)
	if err := o.readVLANs(ctx, k, links); err != nil {
		return nil, err
	}
	if err := o.readNode(ctx, k, want, bridges, pairs); err != nil {
		return nil, err
	}
	if err := o.readPods(ctx, k, want, pairs); err != nil {
		return nil, err
	}
	for i := range o.state.Pairs {
		o.state.Pairs[i].sortPodRoutes()
	}
	o.state = o.state.Canonical()
	if planning {
		if err := o.findObstacles(ctx, k, want, look); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// candidates are the links to look at: all, or those that want names, with what they are ports of.
func (k *kernel) candidates(ctx context.Context, want State, look extent) ([]rtnl.Link, error) {
	if look != wantedOnly && look != updating {
		return k.node.conn.Links(ctx)
	}
	var links []rtnl.Link
	find := func(known func(*rtnl.Link) bool, ask func() (rtnl.Link, error)) error {
		if slices.ContainsFunc(links, func(l rtnl.Link) bool { return known(&l) }) {
			return nil
		}
		l, err := ask()
		if err == nil {
			links = append(links, l)
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	var names []string
	for i := range want.Bridges {
		names = append(names, want.Bridges[i].Name)
	}
	for i := range want.Pairs {
		names = append(names, want.Pairs[i].Host.Name, want.Pairs[i].Host.Bridge)
	}
	for _, name := range names {
		if name == "" {
			continue
		}
		if err := find(func(l *rtnl.Link) bool { return l.Name == name }, func() (rtnl.Link, error) { return k.node.conn.LinkByName(ctx, name) }); err != nil {
			return nil, err
		}
	}
	for _, port := range links {
		if port.Master == 0 {
			continue
		}
		if err := find(func(l *rtnl.Link) bool { return l.Index == port.Master }, func() (rtnl.Link, error) { return k.node.conn.LinkByIndex(ctx, port.Master) }); err != nil {
			return nil, err
		}
	}
	return links, nil
}

func (o *observation) findForeignPorts(k *kernel, links []rtnl.Link) {
	for i := range links {
		if l := &links[i]; l.Port != nil && !k.ownsPair(l) {
			if name := o.names[l.Master]; name != "" {
				o.foreignPorts[name] = append(o.foreignPorts[name], l.Name)
			}
		}
	}
}

// readVLANs reads all VLANs, if there is a bridge that has any.
func (o *observation) readVLANs(ctx context.Context, k *kernel, links []rtnl.Link) (err error) {
	if slices.ContainsFunc(links, func(l rtnl.Link) bool { return filters(&l) }) {
		o.vlans, err = k.node.conn.VLANs(ctx)
	}
	return err
}

func filters(l *rtnl.Link) bool {
	return l.Bridge != nil && l.Bridge.VLANFiltering != nil && *l.Bridge.VLANFiltering
}

// readNode fills in bridges and the node's ends.
func (o *observation) readNode(ctx context.Context, k *kernel, want State, bridges, pairs []*rtnl.Link) error {
	var indexes []int
	routed := false
	for _, l := range bridges {
		indexes = append(indexes, l.Index)
	}
	for _, l := range pairs {
		if l.Master == 0 {
			indexes, routed = append(indexes, l.Index), true
		}
	}
	ip, err := k.node.readIP(ctx, indexes, routed)
	if err != nil {
		return err
	}
	return k.node.ns.Do(func() error {
		for _, l := range bridges {
			i := slices.IndexFunc(want.Bridges, func(b Bridge) bool { return b.Name == l.Name })
			var w Bridge
			if i >= 0 {
				w = want.Bridges[i]
			}
			b, err := o.bridge(l, ip, &w)
			if err != nil {
				return opError("read", "bridge "+l.Name, err)
			}
			o.state.Bridges = append(o.state.Bridges, b)
		}
		for _, l := range pairs {
			p, err := o.host(l, ip, wantedPair(want, l.Name))
			if err != nil {
				return opError("read", "pair "+l.Name, err)
			}
			o.state.Pairs = append(o.state.Pairs, p)
		}
		return nil
	})
}

func wantedPair(want State, name string) *Pair {
	for i := range want.Pairs {
		if want.Pairs[i].Host.Name == name {
			return &want.Pairs[i]
		}
	}
	return &Pair{}
}

func (o *observation) bridge(l *rtnl.Link, ip *ipTables, want *Bridge) (Bridge, error) {
	a := l.Bridge
	b := Bridge{
		Name: l.Name, MAC: MAC(l.MAC), MTU: l.MTU, Down: !l.Up(),
		Promiscuous:       l.Flags&unix.IFF_PROMISC != 0,
		MulticastSnooping: value(a.McastSnooping),
		GroupForwardMask:  value(a.GroupFwdMask),
		Ageing:            cmp.Or(time.Duration(value(a.AgeingTime))*ageingUnit, -1),
		CallIPTables:      value(a.NFCallIPTables) && value(a.NFCallIP6Tables),
		VLANFiltering:     value(a.VLANFiltering),
		Addresses:         ip.addresses(l, want.Addresses, true),
		Routes:            ip.routesOf(l.Index, want.Routes),
	}
	if b.VLANFiltering {
		b.VLANs = membership(o.vlans[l.Index], want.VLANs)
	}
	var err error
	b.Sysctls, b.DAD, err = readSysctls(l.Name, parseTag(l.Alias).sysctls, want.Sysctls)
	return b, err
}

// host reads the node's end. Its pod has only the path of the namespace yet.
func (o *observation) host(l *rtnl.Link, ip *ipTables, want *Pair) (Pair, error) {
	t := parseTag(l.Alias)
	p := Pair{Group: l.Group, Pod: Pod{NetNS: t.netns}}
	h := &p.Host
	*h = Host{Name: l.Name, MAC: MAC(l.MAC), MTU: l.MTU, Down: !l.Up()}
	var err error
	if h.Sysctls, h.DAD, err = readSysctls(l.Name, t.sysctls, want.Host.Sysctls); err != nil {
		return p, err
	}
	if l.Master != 0 {
		h.Bridge, h.DAD = o.names[l.Master], false // a port has no addresses to detect
		if l.Port != nil {
			h.Port.Hairpin, h.Port.Isolated = value(l.Port.Hairpin), value(l.Port.Isolated)
		}
		if b := o.links[h.Bridge]; b != nil && filters(b) {
			h.Port.VLANs = membership(o.vlans[l.Index], want.Host.Port.VLANs)
		}
		return p, nil
	}
	h.Addresses = ip.addresses(l, want.Host.Addresses, false)
	h.Routes = ip.routesOf(l.Index, slices.Concat(want.Host.Routes, want.podRoutes()))
	return p, h.readProxies(ip.proxies[l.Index])
}

// readProxies tells only what works: an entry that the end's sysctls keep from being answered, or answered at once, counts as missing.
func (h *Host) readProxies(entries []netip.Addr) error {
	s := linkSysctls{h.Name}
	arp, err := s.isOn(sysctlProxyARP)
	if err != nil {
		return err
	}
	slow4, err := s.isOn(sysctlProxyDelay)
	if err != nil {
		return err
	}
	h.ProxyARP = arp && !slow4
	ndp, err := s.isOn(sysctlProxyNDP)
	if optional(err) != nil {
		return err
	}
	slow6, err := s.isOn(sysctlNDPDelay)
	if optional(err) != nil {
		return err
	}
	for _, a := range entries {
		if a.Is4() && !slow4 || a.Is6() && ndp && !slow6 {
			h.Proxy = append(h.Proxy, a)
		}
	}
	return nil
}

// readSysctls reads the sysctls that the alias names and those that are wanted, and DAD.
func readSysctls(link string, named []string, want map[string]string) (out map[string]string, dad bool, err error) {
	s := linkSysctls{link}
	dad, err = s.isOn(sysctlDAD)
	if optional(err) != nil {
		return nil, false, err
	}
	for _, name := range slices.Concat(named, sysctlNames(want)) {
		v, err := s.read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, false, err
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = v
	}
	return out, dad, nil
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// sortPodRoutes takes the routes that a routed Host implies out of those that were read, and notes which of them are missing.
func (p *Pair) sortPodRoutes() {
	h := &p.Host
	read := h.Routes
	h.Routes = nil
	for _, r := range p.podRoutes() {
		i := slices.IndexFunc(read, func(x Route) bool { return x.key() == r.key() })
		switch {
		case i < 0:
			h.Unrouted = append(h.Unrouted, r.To.Addr())
		case read[i] == r:
			read = slices.Delete(read, i, i+1)
		}
	}
	h.Routes = read
}
