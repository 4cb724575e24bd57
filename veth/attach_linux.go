package veth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/rtnl"
)

// attach makes a pair. Both ends stay down until nothing is missing that must be there before: sysctls, so that no address is ever
// tentative, and VLANs, so that no frame gets where it should not. free says that the names were free when the pair was planned; otherwise
// the error says who has them. bridge is that of the pair, if it was looked at and not changed since.
func (k *kernel) attach(ctx context.Context, p *Pair, bridge *rtnl.Link, free bool, j *journal) error {
	pl, err := findPod(p.Pod.NetNS)
	if err != nil {
		return err
	}
	defer pl.close()
	a := rtnl.LinkAttrs{
		Name: p.Host.Name, MTU: p.Host.MTU, MAC: rtnl.MAC(p.Host.MAC),
		Veth: &rtnl.LinkAttrs{Name: p.Pod.Name, MTU: p.Pod.MTU, MAC: rtnl.MAC(p.Pod.MAC), NetNS: pl.ns.Fd()},
	}
	if p.Group != 0 {
		a.Group = &p.Group
	}
	if bridge == nil {
		bridge = &rtnl.Link{}
		if p.Host.Bridge != "" {
			if *bridge, err = k.bridge(ctx, p.Host.Bridge); err != nil {
				return err
			}
		}
	}
	if p.Host.Bridge != "" {
		a.Master = &bridge.Index
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// Once sent, this request is seen to its end: of a pair that was made after all nobody would know.
	if err := k.node.conn.AddLink(context.WithoutCancel(ctx), "veth", a); err != nil {
		if errors.Is(err, fs.ErrExist) && !free {
			return k.whoHas(ctx, pl, p, err)
		}
		return fmt.Errorf("make pair: %w", err)
	}
	j.made(func(ctx context.Context) error { return k.unmakePair(ctx, p.Host.Name) })
	l, err := k.node.conn.LinkByName(ctx, p.Host.Name)
	if err != nil {
		return err
	}
	hostChange, podChange := diffPair(nil, p)
	host, pod := target{&k.node, l.Index, p.Host.Name}, target{pl, l.Peer, p.Pod.Name}
	if err := k.bringUp(ctx, host, pod, p, bridge, &hostChange, &podChange); err != nil {
		return err
	}
	if err := pod.setIP(ctx, &podChange, j); err != nil {
		return err
	}
	if err := host.setIP(ctx, &hostChange, j); err != nil {
		return err
	}
	if !p.Host.Down && !p.Pod.Down {
		if err := k.waitUp(ctx, p.Host.Name, bridge.Up()); err != nil {
			return err
		}
		if bridge.Up() && !carries(bridge) {
			if err := k.waitUp(ctx, bridge.Name, false); err != nil { // its first port
				return err
			}
		}
	}
	if err := host.usable(ctx, &hostChange, p.Host.DAD); err != nil {
		return err
	}
	return pod.usable(ctx, &podChange, p.Pod.DAD)
}

// addrGenNone is IN6_ADDR_GEN_MODE_NONE (include/uapi/linux/if_link.h): no link-local address of the kernel's own, of which a bridge port
// has no use.
const addrGenNone = uint8(1)

// bringUp sets what must be right before a frame can pass, marks the ends as the client's, and brings them up.
func (k *kernel) bringUp(ctx context.Context, host, pod target, p *Pair, bridge *rtnl.Link, hostChange, podChange *linkChange) error {
	if err := host.setSysctls(hostChange); err != nil {
		return err
	}
	if err := pod.setSysctls(podChange); err != nil {
		return err
	}
	a := rtnl.LinkAttrs{Alias: ptr(p.hostTag(k.tag).String()), Up: ptr(!p.Host.Down)}
	if p.Host.Bridge != "" {
		a.AddrGenMode = ptr(addrGenNone)
	}
	if port := &p.Host.Port; port.Hairpin || port.Isolated {
		a.Port = &rtnl.PortAttrs{Hairpin: &port.Hairpin, Isolated: &port.Isolated}
	}
	if filters(bridge) && !p.Host.Port.VLANs.isZero() {
		if err := k.setVLANs(ctx, host, false, p.Host.Port.VLANs); err != nil {
			return err
		}
	}
	if err := k.setPort(ctx, host.index, a); err != nil {
		return err
	}
	return pod.conn.SetLink(ctx, pod.index, rtnl.LinkAttrs{Alias: ptr(p.podTag(k.tag).String()), Up: ptr(!p.Pod.Down)})
}

// setPort is SetLink for a bridge port, on which IPv6 may not exist: turned off in the kernel, or below an MTU of 1280.
func (k *kernel) setPort(ctx context.Context, index int, a rtnl.LinkAttrs) error {
	err := k.node.conn.SetLink(ctx, index, a)
	if a.AddrGenMode != nil && errors.Is(err, unix.EAFNOSUPPORT) {
		a.AddrGenMode = nil
		err = k.node.conn.SetLink(ctx, index, a)
	}
	return err
}

// whoHas tells which of a pair's two names is taken, and by whom.
func (k *kernel) whoHas(ctx context.Context, pl *place, p *Pair, err error) error {
	if l, lerr := k.node.conn.LinkByName(ctx, p.Host.Name); lerr == nil {
		return foreign(&l, "")
	}
	if cerr := pl.connect(func() error { return nil }); cerr != nil {
		return cerr
	}
	if l, lerr := pl.conn.LinkByName(ctx, p.Pod.Name); lerr == nil {
		return foreign(&l, pl.path)
	}
	return err
}

// unmakePair removes a pair that this call made.
func (k *kernel) unmakePair(ctx context.Context, name string) error {
	l, err := k.node.conn.LinkByName(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return k.remove(ctx, []int{l.Index})
}
