package vxlan

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// SetPeers adds peers to a device of the last Sync, or replaces those with the same VTEP. It reads nothing from the kernel, so its cost is that of
// the peers given, whatever else there is; the outcome is that of a Sync with the whole State. It fails with ErrNotSynced before the first Sync.
// When the last Sync or repair failed, or the kernel turns out to have moved on, SetPeers does a full Sync; the peers count as wanted even if that
// fails, so that a Watch makes them when it can.
func (c *Client) SetPeers(ctx context.Context, device string, peers ...Peer) (Plan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := canonical(State{Devices: []Device{{Peers: peers}}}).Devices[0].Peers
	d, err := c.device("set peers", device)
	if err != nil {
		return Plan{}, err
	}
	if d == nil {
		return c.changeAll(ctx, "set peers", device, nil, list)
	}
	if err := c.mirror.checkPeers(d, list); err != nil {
		return Plan{}, &OpError{Op: "set peers", Object: deviceObject(device), Err: err}
	}
	next := make(map[netip.Addr]*mirrorPeer, len(list))
	for i, p := range canonical(State{Devices: []Device{{Peers: list}}}).Devices[0].Peers {
		d.asked.resolvePeer(&p, &d.lower)
		next[p.VTEP] = &mirrorPeer{asked: list[i], resolved: p}
	}
	return c.change(ctx, device, d, next)
}

// DropPeers removes the peers with these VTEPs from a device of the last Sync; a VTEP that is no peer is no error. Like SetPeers, it reads nothing
// from the kernel unless a full Sync is due, and fails with ErrNotSynced before the first Sync.
func (c *Client) DropPeers(ctx context.Context, device string, vteps ...netip.Addr) (Plan, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, err := c.device("drop peers", device)
	if err != nil {
		return Plan{}, err
	}
	if d == nil {
		return c.changeAll(ctx, "drop peers", device, vteps, nil)
	}
	next := make(map[netip.Addr]*mirrorPeer, len(vteps))
	for _, a := range vteps {
		next[a] = nil
	}
	return c.change(ctx, device, d, next)
}

// device returns the device as the last Sync left it, nil when that is not known because it failed.
func (c *Client) device(op, name string) (*mirrorDevice, error) {
	known := slices.ContainsFunc(c.wanted.Devices, func(d Device) bool { return d.Name == name })
	switch {
	case !c.asked:
		return nil, &OpError{Op: op, Object: deviceObject(name), Err: ErrNotSynced}
	case !known:
		return nil, &OpError{Op: op, Object: deviceObject(name), Err: fmt.Errorf("the last Sync of this client did not end well, or had no such device: call Sync first: %w", ErrNotSynced)}
	case c.mirror == nil:
		return nil, nil
	}
	return c.mirror.devices[name], nil
}

// changeAll changes some peers of what is wanted and syncs it all.
func (c *Client) changeAll(ctx context.Context, op, device string, drop []netip.Addr, set []Peer) (Plan, error) {
	for _, p := range set {
		drop = append(drop, p.VTEP)
	}
	next := canonical(c.wanted)
	for i := range next.Devices {
		if d := &next.Devices[i]; d.Name == device {
			d.Peers = slices.DeleteFunc(d.Peers, func(p Peer) bool { return slices.Contains(drop, p.VTEP) })
			d.Peers = append(d.Peers, set...)
		}
	}
	if err := next.Validate(); err != nil {
		return Plan{}, &OpError{Op: op, Object: deviceObject(device), Err: err}
	}
	return c.sync(ctx, canonical(next))
}

// change carries out what differs between some peers of the mirror and next, where nil means none.
func (c *Client) change(ctx context.Context, device string, d *mirrorDevice, next map[netip.Addr]*mirrorPeer) (Plan, error) {
	var have, want []entry
	for vtep, p := range next {
		if old, ok := d.peers[vtep]; ok {
			have = expandPeer(have, device, &old.resolved)
		}
		if p != nil {
			want = expandPeer(want, device, &p.resolved)
		}
	}
	p := Plan{changes: compareEntries(have, want)}
	for vtep, peer := range next {
		if peer == nil {
			delete(d.peers, vtep)
		} else {
			d.peers[vtep] = *peer
		}
	}
	m := c.mirror
	w := writer{Client: c, changes: p.changes, unseen: true, index: m.index}
	if err := w.run(ctx); err != nil {
		// Objects that are gone or taken: somebody else was here.
		c.wanted, c.mirror = m.state(), nil
		if ctx.Err() != nil {
			return Plan{}, err
		}
		return c.sync(ctx, c.wanted)
	}
	for _, e := range have {
		delete(m.table, e.key)
	}
	for _, e := range want {
		m.table[e.key] = e
	}
	return p, nil
}

// checkPeers validates the peers by themselves and against those that stay.
func (m *mirror) checkPeers(d *mirrorDevice, peers []Peer) error {
	alone := d.asked
	alone.Peers = peers
	faults := []error{State{Devices: []Device{alone}}.Validate()}
	mine := map[key]bool{}
	for _, p := range peers {
		if old, ok := d.peers[p.VTEP]; ok {
			for _, e := range expandPeer(nil, alone.Name, &old.resolved) {
				mine[e.key] = true
			}
		}
	}
	for _, p := range peers {
		for _, e := range expandPeer(nil, alone.Name, &p) {
			if _, taken := m.table[e.key]; taken && !mine[e.key] {
				faults = append(faults, fmt.Errorf("peer %s: %s belongs to another peer", p.VTEP, object(e.key)))
			}
		}
	}
	return errors.Join(faults...)
}
