package veth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

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
			if err := k.executePair(ctx, o, &p, x, j); err != nil {
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
		return k.changeBridge(ctx, t, l.Alias, b.have, &back, nil)
	})
	return stale(k.changeBridge(ctx, t, b.want.tag(k.owner).String(), b.want, &b.link, j))
}

func (k *kernel) executePair(ctx context.Context, o *observation, p *Plan, x *pairChange, j *journal) error {
	if x.have == nil || x.replace {
		bridge := o.links[x.want.Host.Bridge]
		if bridge != nil && (bridge.Kind != "bridge" || slices.ContainsFunc(p.bridges, func(b bridgeChange) bool { return b.want != nil && b.want.Name == bridge.Name })) {
			bridge = nil
		}
		free := p.look != updating // then nobody has looked whether the name is free in the pod
		return stale(k.attach(ctx, x.want, bridge, free, j))
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
	t.moved(&x.pod, x.want.Pod.Addresses, j)
	if err := t.usable(ctx, &x.pod, x.want.Pod.DAD); err != nil {
		return err
	}
	if (x.pod.has(setState) || x.host.has(setState, setBridge)) && !x.want.Pod.Down && !x.want.Host.Down {
		b, err := k.upperOf(ctx, x.want)
		if err != nil {
			return err
		}
		return k.waitUp(ctx, l.Name, b.Up())
	}
	return nil
}

// upperOf returns the bridge of a pair, and an empty link for a routed one.
func (k *kernel) upperOf(ctx context.Context, p *Pair) (rtnl.Link, error) {
	if p.Host.Bridge == "" {
		return rtnl.Link{}, nil
	}
	return k.bridge(ctx, p.Host.Bridge)
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
	b, err := k.upperOf(ctx, x.want)
	if err != nil {
		return err
	}
	if h.Bridge != "" {
		a.AddrGenMode = ptr(addrGenNone)
	}
	if c.has(setBridge) {
		a.Master = &b.Index // 0 for a routed end
	}
	if err := k.setPort(ctx, t.index, a); err != nil {
		return err
	}
	if h.Bridge == "" && c.has(setBridge) {
		// A port has no link-local address; written here, the setting makes one.
		if err := t.connect(func() error { return optional(linkSysctls{t.name}.write(sysctlAddrGen, "0")) }); err != nil {
			return err
		}
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
	if filters(&b) && !h.Port.VLANs.isZero() && c.has(setBridge, setVLANs) {
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
	t.moved(c, h.Addresses, j)
	return t.usable(ctx, c, h.DAD)
}
