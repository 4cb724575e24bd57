package veth

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/podplumb/podplumb/internal/rtnl"
)

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
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// Once sent, this request is seen to its end, as with a pair.
	if err := k.node.conn.AddLink(context.WithoutCancel(ctx), "bridge", rtnl.LinkAttrs{Name: name, MTU: other, MAC: mac, Bridge: bridgeAttrs(b, c)}); err != nil {
		return fmt.Errorf("make bridge: %w", err)
	}
	l, err := k.node.conn.LinkByName(context.WithoutCancel(ctx), name)
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

func (k *kernel) changeBridge(ctx context.Context, t target, alias string, want *Bridge, c *linkChange, j *journal) error {
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
	t.moved(c, want.Addresses, j)
	return t.usable(ctx, c, want.DAD)
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
