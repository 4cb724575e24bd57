package links

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/netns"
)

// pod is an open namespace of a container with the interface that is tuned.
type pod struct {
	ns   *netns.NS
	h    *netlink.Handle
	link netlink.Link
}

func openPod(ctx context.Context, path, ifName string) (*pod, error) {
	p, err := openNamespace(ctx, path)
	if err != nil {
		return nil, err
	}
	if p.link, err = p.h.LinkByName(ifName); err != nil {
		p.close()
		return nil, fmt.Errorf("interface %s of %s: %w", ifName, path, err)
	}
	return p, nil
}

func openNamespace(ctx context.Context, path string) (*pod, error) {
	ns, err := netns.Open(path)
	if err != nil {
		return nil, err
	}
	p := &pod{ns: ns}
	if err = ns.Do(func() (err error) { p.h, err = open(ctx); return err }); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pod) close() {
	if p.h != nil {
		p.h.Close()
	}
	_ = p.ns.Close()
}

// sysctlOf puts the interface's name into the name of a sysctl. With dots, a dot in the interface's name is written as a slash.
func sysctlOf(name, ifName string) string {
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '.' {
		ifName = strings.ReplaceAll(ifName, ".", "/")
	}
	return strings.ReplaceAll(name, "IFNAME", ifName)
}

// Look returns what an interface is like.
func Look(ctx context.Context, path, ifName string) (Device, error) {
	p, err := openPod(ctx, path, ifName)
	if err != nil {
		return Device{}, err
	}
	defer p.close()
	return p.device(), nil
}

func (p *pod) device() Device {
	a := p.link.Attrs()
	return Device{
		MAC: a.HardwareAddr.String(), MTU: a.MTU, TxQLen: a.TxQLen,
		Promisc: a.RawFlags&unix.IFF_PROMISC != 0, AllMulti: a.RawFlags&unix.IFF_ALLMULTI != 0,
	}
}

// Apply tunes an interface of the namespace at path, and notes in t which table it took.
func (t *Tuning) Apply(ctx context.Context, path, ifName string) error {
	if t.IsZero() {
		return nil
	}
	p, err := openPod(ctx, path, ifName)
	if err != nil {
		return fmt.Errorf("tune: %w", err)
	}
	defer p.close()
	for _, name := range slices.Sorted(maps.Keys(t.Sysctls)) {
		if err := p.ns.SetSysctl(sysctlOf(name, ifName), t.Sysctls[name]); err != nil {
			return err
		}
	}
	if err := p.tune(*t); err != nil {
		return fmt.Errorf("tune %s: %w", ifName, err)
	}
	if err := p.addRoutes(t.Routes, 0); err != nil {
		return err
	}
	return p.routeSources(t)
}

func (p *pod) tune(t Tuning) error {
	if t.MAC != "" {
		hw, err := net.ParseMAC(t.MAC)
		if err != nil {
			return err
		}
		if err := p.h.LinkSetHardwareAddr(p.link, hw); err != nil {
			return fmt.Errorf("mac: %w", err)
		}
	}
	if t.MTU != 0 {
		if err := p.h.LinkSetMTU(p.link, t.MTU); err != nil {
			return fmt.Errorf("mtu: %w", err)
		}
	}
	if t.Promisc {
		if err := p.h.SetPromiscOn(p.link); err != nil {
			return fmt.Errorf("promisc: %w", err)
		}
	}
	if t.AllMulti != nil {
		set := p.h.LinkSetAllmulticastOff
		if *t.AllMulti {
			set = p.h.LinkSetAllmulticastOn
		}
		if err := set(p.link); err != nil {
			return fmt.Errorf("allmulti: %w", err)
		}
	}
	if t.TxQLen != nil {
		if err := p.h.LinkSetTxQLen(p.link, *t.TxQLen); err != nil {
			return fmt.Errorf("txQLen: %w", err)
		}
	}
	return nil
}

// Check names what is not as it was tuned.
func (t Tuning) Check(ctx context.Context, path, ifName string) (out []error, err error) {
	if t.IsZero() {
		return nil, nil
	}
	p, err := openPod(ctx, path, ifName)
	if err != nil {
		return []error{err}, nil
	}
	defer p.close()
	for _, name := range slices.Sorted(maps.Keys(t.Sysctls)) {
		have, err := p.ns.Sysctl(sysctlOf(name, ifName))
		if err != nil {
			return out, err
		}
		if strings.Join(strings.Fields(have), " ") != strings.Join(strings.Fields(t.Sysctls[name]), " ") {
			out = append(out, fmt.Errorf("sysctl %s of the container is %s instead of %s", sysctlOf(name, ifName), have, t.Sysctls[name]))
		}
	}
	d := p.device()
	differs := func(is bool, name string, have, want any) {
		if is {
			out = append(out, fmt.Errorf("%s of %s is %v instead of %v", name, ifName, have, want))
		}
	}
	differs(t.MAC != "" && !strings.EqualFold(d.MAC, t.MAC), "mac", d.MAC, t.MAC)
	differs(t.MTU != 0 && d.MTU != t.MTU, "mtu", d.MTU, t.MTU)
	differs(t.Promisc && !d.Promisc, "promisc", d.Promisc, t.Promisc)
	if t.AllMulti != nil {
		differs(d.AllMulti != *t.AllMulti, "allmulti", d.AllMulti, *t.AllMulti)
	}
	if t.TxQLen != nil {
		differs(d.TxQLen != *t.TxQLen, "txQLen", d.TxQLen, *t.TxQLen)
	}
	lost, err := p.lostRoutes(t)
	return append(out, lost...), err
}

// Undo gives an interface that stays what it had before, and removes what t added. A namespace or an interface that is gone is fine.
func (t Tuning) Undo(ctx context.Context, path, ifName string, before *Device) error {
	if before == nil && len(t.Sources) == 0 {
		return nil // all of it goes with the interface, or with the namespace
	}
	p, err := openNamespace(ctx, path)
	if absent(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("undo the tuning: %w", err)
	}
	defer p.close()
	errs := []error{p.removeRules(t.Sources)}
	p.link, err = p.h.LinkByName(ifName)
	if absent(err) || before == nil {
		return errors.Join(errs...)
	}
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	errs = append(errs, p.removeRoutes(t))
	back := Tuning{}
	if t.MAC != "" {
		back.MAC = before.MAC
	}
	if t.MTU != 0 {
		back.MTU = before.MTU
	}
	if t.AllMulti != nil {
		back.AllMulti = &before.AllMulti
	}
	if t.TxQLen != nil {
		back.TxQLen = &before.TxQLen
	}
	if t.Promisc && !before.Promisc {
		errs = append(errs, p.h.SetPromiscOff(p.link))
	}
	return errors.Join(append(errs, p.tune(back))...)
}

// NodeEnd returns the name of the node's end of the pair that a container's interface is one end of, and of the bridge that it is a
// port of, if any.
func NodeEnd(ctx context.Context, path, ifName string) (end, bridge string, err error) {
	p, err := openPod(ctx, path, ifName)
	if err != nil {
		return "", "", err
	}
	defer p.close()
	h, err := open(ctx)
	if err != nil {
		return "", "", err
	}
	defer h.Close()
	l, err := h.LinkByIndex(p.link.Attrs().ParentIndex)
	if p.link.Type() != "veth" || err != nil {
		return "", "", fmt.Errorf("interface %s is a %s and not one end of a pair whose other end is here", ifName, p.link.Type())
	}
	if l.Attrs().MasterIndex != 0 {
		if m, err := h.LinkByIndex(l.Attrs().MasterIndex); err == nil && m.Type() == "bridge" {
			bridge = m.Attrs().Name
		}
	}
	return l.Attrs().Name, bridge, nil
}
