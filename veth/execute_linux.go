package veth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/podplumb/podplumb/internal/rtnl"
)

// execute carries a plan out: first what goes, for its names and addresses may be wanted elsewhere, then bridges, then pairs.
func (k *kernel) execute(ctx context.Context, o *observation, p Plan, j *journal) error {
	var gone []int
	for i := range p.pairs {
		if x := &p.pairs[i]; x.have != nil && (x.want == nil || x.replace) {
			gone = append(gone, o.links[x.have.Host.Name].Index)
		}
	}
	if err := k.remove(ctx, gone); err != nil {
		return opError("remove", "pairs", err)
	}
	for i := range p.bridges {
		if b := &p.bridges[i]; b.want != nil {
			if err := k.executeBridge(ctx, o, b, j); err != nil {
				return opError("apply", "bridge "+b.want.Name, err)
			}
		}
	}
	for i := range p.pairs {
		if x := &p.pairs[i]; x.want != nil {
			if err := k.executePair(ctx, o, x, j); err != nil {
				return opError("apply", "pair "+x.want.Host.Name, err)
			}
		}
	}
	gone = nil
	for i := range p.bridges {
		if b := &p.bridges[i]; b.want == nil {
			gone = append(gone, o.links[b.have.Name].Index)
		}
	}
	return opError("remove", "bridges", k.remove(ctx, gone))
}

func (k *kernel) executeBridge(ctx context.Context, o *observation, b *bridgeChange, j *journal) error {
	if b.have == nil {
		return k.makeBridge(ctx, b.want, &b.link, j)
	}
	l := o.links[b.want.Name]
	t := target{place: &k.node, index: l.Index, name: l.Name}
	j.made(func(ctx context.Context) error {
		back := b.link.inverse()
		return k.changeBridge(ctx, t, l.Alias, b.want, b.have, &back, nil)
	})
	return stale(k.changeBridge(ctx, t, b.want.tag(k.owner).String(), b.have, b.want, &b.link, j))
}

func (k *kernel) executePair(ctx context.Context, o *observation, x *pairChange, j *journal) error {
	if x.have == nil || x.replace {
		if err := k.attach(ctx, x.want, o, j); err != nil {
			return stale(err)
		}
		return nil
	}
	l := o.links[x.want.Host.Name]
	before := aliases{host: l.Alias, pod: o.podAliases[l.Name]}
	j.made(func(ctx context.Context) error {
		back := pairChange{have: x.want, want: x.have, host: x.host.inverse(), pod: x.pod.inverse()}
		return k.changePair(ctx, l, before, &back, nil)
	})
	after := aliases{host: x.want.hostTag(k.tag).String(), pod: x.want.podTag(k.tag).String()}
	return stale(k.changePair(ctx, l, after, x, j))
}

// stale turns the errors of a name that was just free, or a link that was just there, into ErrStale. The typed errors of this package
// are facts about what is wanted and stay.
func stale(err error) error {
	var addr *AddressError
	var route *RouteError
	var gone *PodGoneError
	if err == nil || errors.As(err, &addr) || errors.As(err, &route) || errors.As(err, &gone) {
		return err
	}
	var kernel *rtnl.Error
	if errors.As(err, &kernel) && (errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist)) {
		return fmt.Errorf("%w (%w)", ErrStale, err)
	}
	return err
}

// makeBridge makes the bridge under a random name and gives it name and owner in one request, so that no other client ever sees it
// without an owner, and so that of two that make the same bridge one wins and the other plans again.
func (k *kernel) makeBridge(ctx context.Context, b *Bridge, c *linkChange, j *journal) error {
	var random [6]byte
	_, _ = rand.Read(random[:])
	name := "br" + hex.EncodeToString(random[:])
	mac := rtnl.MAC(b.MAC)
	if mac.IsZero() {
		// Given at creation, it is the bridge's own; otherwise it would change with the ports.
		_, _ = rand.Read(mac[:])
		mac[0] = mac[0]&^1 | 2
	}
	// The kernel lowers a bridge's MTU to that of its ports until the MTU was once changed to something else.
	other := b.MTU - 1
	if other < minMTU {
		other = b.MTU + 1
	}
	if err := k.node.conn.AddLink(ctx, "bridge", rtnl.LinkAttrs{Name: name, MTU: other, MAC: mac, Bridge: bridgeAttrs(b, c)}); err != nil {
		return fmt.Errorf("make bridge: %w", err)
	}
	l, err := k.node.conn.LinkByName(ctx, name)
	if err != nil {
		return stale(err)
	}
	j.made(func(ctx context.Context) error { return k.unmakeBridge(ctx, l.Index) })
	t := target{place: &k.node, index: l.Index, name: name}
	if err := t.setSysctls(c); err != nil {
		return err
	}
	a := rtnl.LinkAttrs{Name: b.Name, Alias: ptr(b.tag(k.owner).String()), MTU: b.MTU, Promisc: &b.Promiscuous}
	if err := k.node.conn.SetLink(ctx, l.Index, a); err != nil {
		return stale(err)
	}
	t.name = b.Name
	if b.VLANFiltering {
		if err := k.setVLANs(ctx, t, true, b.VLANs); err != nil {
			return err
		}
	}
	if !b.Down {
		if err := k.node.conn.SetLink(ctx, l.Index, rtnl.LinkAttrs{Up: ptr(true)}); err != nil {
			return stale(err)
		}
	}
	if err := t.setIP(ctx, c, j); err != nil {
		return stale(err)
	}
	return t.usable(ctx, c, b.DAD)
}

// unmakeBridge removes a bridge that was just made, unless others use it already.
func (k *kernel) unmakeBridge(ctx context.Context, index int) error {
	links, err := k.node.conn.Links(ctx)
	if err != nil {
		return err
	}
	for i := range links {
		if links[i].Master == index {
			return nil
		}
	}
	return k.remove(ctx, []int{index})
}

func bridgeAttrs(b *Bridge, c *linkChange) *rtnl.BridgeAttrs {
	a := &rtnl.BridgeAttrs{}
	if c.has(setSnooping) {
		a.McastSnooping = &b.MulticastSnooping
	}
	if c.has(setGroupFwd) {
		a.GroupFwdMask = &b.GroupForwardMask
	}
	if c.has(setAgeing) {
		a.AgeingTime = ptr(uint32(max(b.Ageing, 0) / ageingUnit))
	}
	if c.has(setIPTables) {
		a.NFCallIPTables, a.NFCallIP6Tables = &b.CallIPTables, &b.CallIPTables
	}
	// A kernel without VLAN filtering refuses to be told about it, so "off" is said only where it is on.
	if c.has(setFiltering) && (b.VLANFiltering || c.from(setFiltering) == onOff(true)) {
		a.VLANFiltering = &b.VLANFiltering
	}
	return a
}

func (k *kernel) changeBridge(ctx context.Context, t target, alias string, have, want *Bridge, c *linkChange, j *journal) error {
	a := rtnl.LinkAttrs{Alias: &alias, Bridge: bridgeAttrs(want, c)}
	c.common(&a, want.MAC, want.MTU)
	if c.has(setPromisc) {
		a.Promisc = &want.Promiscuous
	}
	if err := t.conn.SetLink(ctx, t.index, a); err != nil {
		return err
	}
	if err := t.setSysctls(c); err != nil {
		return err
	}
	if c.has(setState) {
		if err := t.conn.SetLink(ctx, t.index, rtnl.LinkAttrs{Up: ptr(!want.Down)}); err != nil {
			return err
		}
	}
	if want.VLANFiltering && (c.has(setVLANs, setFiltering)) {
		if err := k.setVLANs(ctx, t, true, want.VLANs); err != nil {
			return err
		}
	}
	if err := t.setIP(ctx, c, j); err != nil {
		return err
	}
	return t.usable(ctx, c, want.DAD)
}

// common sets the attributes that every kind of link has.
func (c *linkChange) common(a *rtnl.LinkAttrs, mac MAC, mtu int) {
	if c.has(setMAC) {
		a.MAC = rtnl.MAC(mac)
	}
	if c.has(setMTU) {
		a.MTU = mtu
	}
}

// aliases are what marks the two ends of a pair.
type aliases struct{ host, pod string }

// changePair repairs both ends of a pair that exists.
func (k *kernel) changePair(ctx context.Context, l *rtnl.Link, mark aliases, x *pairChange, j *journal) error {
	t := target{place: &k.node, index: l.Index, name: l.Name}
	if err := k.changeHost(ctx, t, mark.host, x, j); err != nil {
		return err
	}
	if x.pod.empty() {
		return nil
	}
	pl, err := openPod(x.want.Pod.NetNS)
	if err != nil {
		return err
	}
	defer pl.close()
	t = target{place: pl, index: l.Peer, name: x.want.Pod.Name}
	a := rtnl.LinkAttrs{Alias: &mark.pod}
	x.pod.common(&a, x.want.Pod.MAC, x.want.Pod.MTU)
	if err := pl.conn.SetLink(ctx, t.index, a); err != nil {
		return err
	}
	if err := t.setSysctls(&x.pod); err != nil {
		return err
	}
	if x.pod.has(setState) {
		if err := pl.conn.SetLink(ctx, t.index, rtnl.LinkAttrs{Up: ptr(!x.want.Pod.Down)}); err != nil {
			return err
		}
	}
	if err := t.setIP(ctx, &x.pod, j); err != nil {
		return err
	}
	if err := t.usable(ctx, &x.pod, x.want.Pod.DAD); err != nil {
		return err
	}
	if (x.pod.has(setState) || x.host.has(setState, setBridge)) && !x.want.Pod.Down && !x.want.Host.Down {
		return k.waitUp(ctx, l.Name)
	}
	return nil
}

func (k *kernel) changeHost(ctx context.Context, t target, alias string, x *pairChange, j *journal) error {
	h, c := &x.want.Host, &x.host
	if c.empty() {
		return nil
	}
	a := rtnl.LinkAttrs{Alias: &alias}
	c.common(&a, h.MAC, h.MTU)
	if c.has(setGroup) {
		a.Group = &x.want.Group
	}
	filtering := false
	if h.Bridge != "" {
		b, err := k.bridge(ctx, h.Bridge)
		if err != nil {
			return err
		}
		filtering = filters(&b)
		if c.has(setBridge) {
			a.Master = &b.Index
		}
		a.AddrGenMode = ptr(addrGenNone)
	} else if c.has(setBridge) {
		a.Master = ptr(0)
	}
	if err := t.conn.SetLink(ctx, t.index, a); err != nil {
		return err
	}
	if h.Bridge == "" && c.has(setBridge) {
		// A port has no link-local address; written here, the setting makes one.
		c = c.with(sysctlAddrGen, "0")
	}
	if err := t.setSysctls(c); err != nil {
		return err
	}
	if h.Bridge != "" && c.has(setBridge, setHairpin, setIsolated) {
		p := &rtnl.PortAttrs{Hairpin: &h.Port.Hairpin, Isolated: &h.Port.Isolated}
		if err := t.conn.SetLink(ctx, t.index, rtnl.LinkAttrs{Port: p}); err != nil {
			return err
		}
	}
	if filtering && !h.Port.VLANs.isZero() && c.has(setBridge, setVLANs) {
		if err := k.setVLANs(ctx, t, false, h.Port.VLANs); err != nil {
			return err
		}
	}
	if c.has(setState) {
		if err := t.conn.SetLink(ctx, t.index, rtnl.LinkAttrs{Up: ptr(!h.Down)}); err != nil {
			return err
		}
	}
	if err := t.setIP(ctx, c, j); err != nil {
		return err
	}
	return t.usable(ctx, c, h.DAD)
}

// setVLANs makes the membership of a port, or of the bridge itself, exactly v.
func (k *kernel) setVLANs(ctx context.Context, t target, self bool, v VLANs) error {
	all, err := t.conn.VLANs(ctx)
	if err != nil {
		return err
	}
	right := map[uint16]bool{}
	for _, have := range all[t.index] {
		switch in := trunked(v, have.ID); {
		case have.ID == v.Access && have.PVID && have.Untagged, in && !have.PVID && !have.Untagged:
			right[have.ID] = true
		case have.ID != v.Access && !in:
			if err := t.conn.DelVLAN(ctx, t.index, have.ID, have.ID, self); err != nil {
				return err
			}
		}
	}
	if v.Access != 0 && !right[v.Access] {
		if err := t.conn.AddVLAN(ctx, t.index, rtnl.VLAN{ID: v.Access, PVID: true, Untagged: true}, self); err != nil {
			return err
		}
	}
	for _, r := range v.Trunks {
		if err := t.conn.AddVLANRange(ctx, t.index, rtnl.VLAN{ID: r.First}, r.Last, self); err != nil {
			return err
		}
	}
	return nil
}

func trunked(v VLANs, id uint16) bool {
	for _, r := range v.Trunks {
		if r.First <= id && id <= r.Last {
			return true
		}
	}
	return false
}
