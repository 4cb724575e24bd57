package veth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/plan"
	"github.com/podplumb/podplumb/internal/rtnl"
)

// usableTimeout is far above the second or two that duplicate address detection takes where the namespace forces it on.
const usableTimeout = 10 * time.Second

// target is a link that is being changed.
type target struct {
	*place
	index int
	name  string
}

// setSysctls writes the sysctls that change, and those that settings stand for. It runs before the link goes up.
func (t target) setSysctls(c *linkChange) error {
	type write struct {
		name, value string
		optional    bool
	}
	var writes []write
	for _, s := range c.settings {
		on := s.want == onOff(true)
		switch {
		case s.name == setDAD:
			writes = append(writes, write{sysctlDAD, bit(on), !on}) // without IPv6 there is nothing to turn off
		case s.name == setProxyARP && on:
			writes = append(writes, write{sysctlProxyARP, "1", false}, write{sysctlProxyDelay, "0", false})
		case s.name == setProxyARP && s.have != "":
			writes = append(writes, write{sysctlProxyARP, "0", false})
		}
	}
	for _, a := range c.proxies {
		switch {
		case a.Want == nil:
		case a.Key.Is4():
			writes = append(writes, write{sysctlProxyDelay, "0", false})
		default:
			writes = append(writes, write{sysctlProxyNDP, "1", false}, write{sysctlNDPDelay, "0", false})
		}
	}
	var restore []string
	for _, s := range c.sysctls {
		if s.Want != nil {
			writes = append(writes, write{s.Key, s.Want.value, false})
		} else {
			restore = append(restore, s.Key)
		}
	}
	if len(writes)+len(restore) == 0 && t.conn != nil {
		return nil
	}
	return t.connect(func() error {
		link := linkSysctls{t.name}
		for _, w := range writes {
			err := link.write(w.name, w.value)
			if w.optional {
				err = optional(err)
			}
			if err != nil {
				return err
			}
		}
		for _, name := range restore {
			if err := optional(link.restore(name)); err != nil {
				return err
			}
		}
		return nil
	})
}

func bit(on bool) string {
	if on {
		return "1"
	}
	return "0"
}

// setIP makes the addresses, routes and proxies. What goes does so first: an IPv6 address has one prefix length, and the address that
// replaces another may be in its subnet. j, if not nil, is told of new addresses.
func (t target) setIP(ctx context.Context, c *linkChange, j *journal) error {
	for _, r := range c.routes {
		if r.Have == nil {
			continue
		}
		if err := t.conn.DelRoute(ctx, t.route(r.Have, 0)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove route %s: %w", r.Have, err)
		}
	}
	for _, a := range c.addrs {
		if a.Want != nil {
			continue
		}
		if err := t.conn.DelAddr(ctx, rtnl.Addr{Index: t.index, Prefix: a.Key}); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove address %s: %w", a.Key, err)
		}
	}
	// Those of IPv6 come first: they can be used a little later than the kernel says so, and what else is to do gives it the time.
	for i := range 2 * len(c.addrs) {
		a := c.addrs[i%len(c.addrs)]
		if a.Want == nil || a.Key.Addr().Is6() != (i < len(c.addrs)) {
			continue
		}
		if err := t.addAddr(ctx, *a.Want); err != nil {
			return fmt.Errorf("add address %s: %w", a.Key, err)
		}
	}
	for _, a := range c.addrs {
		if a.Want != nil && j != nil {
			j.announce = append(j.announce, announcement{netns: t.path, link: t.name, addr: a.Key.Addr()})
		}
	}
	for _, r := range c.routes {
		// The kernel takes an IPv6 source only once it is usable.
		if r.Want != nil && r.Want.Source.Is6() {
			if err := t.usable(ctx, c, false); err != nil {
				return err
			}
			break
		}
	}
	if err := t.addRoutes(ctx, c.routes); err != nil {
		return err
	}
	return t.setProxies(ctx, c)
}

// usable waits until the IPv6 addresses can be used, if detection is off. Also without duplicate address detection the kernel acknowledges an address
// before it has joined the group by which neighbours ask for it; a question in between would be repeated only a second later.
func (t target) usable(ctx context.Context, c *linkChange, dad bool) error {
	added := slices.ContainsFunc(c.addrs, func(a plan.Change[netip.Prefix, netip.Prefix]) bool { return a.Want != nil && a.Key.Addr().Is6() })
	if dad || !added && !c.has(setDAD) {
		return nil
	}
	tentative := func() (bool, error) {
		addrs, err := t.conn.Addrs(ctx, t.index)
		return slices.ContainsFunc(addrs, func(a rtnl.Addr) bool {
			return (a.Proto == RouteProtocol || a.Proto == 0) && a.Flags&unix.IFA_F_TENTATIVE != 0
		}), err
	}
	if wait, err := tentative(); !wait {
		return err
	}
	m, err := rtnl.Watch(t.ns, rtnl.AddrEvents)
	if err != nil {
		return err
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(ctx, usableTimeout)
	defer cancel()
	for {
		if wait, err := tentative(); !wait {
			return err
		}
		if _, err := m.Next(ctx); err != nil && !errors.Is(err, rtnl.ErrOverflow) {
			return fmt.Errorf("wait for the addresses to leave duplicate address detection: %w", err)
		}
	}
}

// moved tells j of all addresses of a link whose MAC address has changed: neighbours know the old one.
func (t target) moved(c *linkChange, addresses []netip.Prefix, j *journal) {
	if j == nil || !c.has(setMAC) {
		return
	}
	for _, a := range addresses {
		j.announce = append(j.announce, announcement{netns: t.path, link: t.name, addr: a.Addr()})
	}
}

func (t target) setProxies(ctx context.Context, c *linkChange) error {
	for _, p := range c.proxies {
		// A proxy entry that is not permanent goes when the pod's end goes down.
		n := rtnl.Neigh{Index: t.index, IP: p.Key, Flags: unix.NTF_PROXY, State: unix.NUD_PERMANENT}
		if p.Want == nil {
			if err := t.conn.DelNeigh(ctx, n); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove proxy %s: %w", p.Key, err)
			}
			continue
		}
		if err := t.conn.ReplaceNeigh(ctx, n); err != nil {
			return fmt.Errorf("add proxy %s: %w", p.Key, err)
		}
	}
	return nil
}

// subnetMetric is the metric of the IPv6 routes that the kernel makes for addresses (IP6_RT_PRIO_ADDRCONF, linux/ipv6_route.h).
const subnetMetric = 256

func (t target) addAddr(ctx context.Context, p netip.Prefix) error {
	a := rtnl.Addr{Index: t.index, Prefix: p, Proto: RouteProtocol}
	if p.Addr().Is4() && p.Addr().IsLinkLocalUnicast() {
		a.Scope = unix.RT_SCOPE_LINK // never the source of packets to elsewhere (RFC 3927, section 2.7)
	}
	err := t.conn.AddAddr(ctx, a)
	if errors.Is(err, unix.EACCES) && p.Addr().Is6() {
		// A container runtime turned IPv6 off in the pod; an address is asked for, so it goes on for this link.
		if err := t.connect(func() error { return linkSysctls{t.name}.write(sysctlIPv6Off, "0") }); err != nil {
			return err
		}
		err = t.conn.AddAddr(ctx, a)
	}
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	have, err := t.conn.Addrs(ctx, t.index)
	if err != nil {
		return err
	}
	for _, h := range have {
		if h.Prefix == p && h.Flags&unix.IFA_F_DADFAILED == 0 {
			// Its subnet's route is missing, or another client of a shared bridge was faster.
			if err := t.addSubnet(ctx, h); !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	}
	// It failed duplicate detection, has another prefix length, or another link has the subnet too, which only the kernel may do.
	for _, h := range have {
		if h.Prefix.Addr() == p.Addr() {
			if err := t.conn.DelAddr(ctx, h); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return t.conn.AddAddr(ctx, a)
}

// addSubnet makes the route of an address's subnet as the kernel makes it. To make the address again would take the link's other routes away.
func (t target) addSubnet(ctx context.Context, a rtnl.Addr) error {
	l, err := t.conn.LinkByIndex(ctx, t.index)
	if err != nil {
		return err
	}
	routes, err := t.conn.Routes(ctx, rtnl.RouteFilter{Index: t.index, Table: unix.RT_TABLE_MAIN})
	if err != nil {
		return err
	}
	have := ipTables{routes: map[int][]rtnl.Route{t.index: routes}}
	if have.hasSubnet(&l, a) {
		return nil
	}
	r := rtnl.Route{Dst: a.Prefix.Masked(), Index: t.index, Proto: unix.RTPROT_KERNEL, Metric: subnetMetric}
	if a.Prefix.Addr().Is4() {
		r.Src, r.Scope, r.Metric = a.Prefix.Addr(), unix.RT_SCOPE_LINK, 0
	}
	return t.conn.AddRoute(ctx, r)
}

// addRoutes adds routes without a gateway first: the gateways of others may be behind them.
func (t target) addRoutes(ctx context.Context, changes []plan.Change[routeKey, Route]) error {
	for _, gateway := range []bool{false, true} {
		for _, r := range changes {
			if r.Want == nil || r.Want.Via.IsValid() != gateway {
				continue
			}
			if err := t.addRoute(ctx, r.Want); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t target) addRoute(ctx context.Context, r *Route) error {
	err := t.conn.AddRoute(ctx, t.route(r, RouteProtocol))
	if errors.Is(err, fs.ErrExist) {
		there, rerr := t.conn.Routes(ctx, rtnl.RouteFilter{Table: unix.RT_TABLE_MAIN})
		if rerr != nil {
			return rerr
		}
		for _, h := range there {
			switch {
			case h.Dst != r.To || h.Metric != r.Metric:
			case h.Index == t.index && h.Proto == RouteProtocol && h.Gateway == r.Via:
				return nil // another client of a shared bridge was faster
			default:
				return &RouteError{Route: *r, NetNS: t.path}
			}
		}
	}
	if err != nil {
		return fmt.Errorf("add route %s: %w", r, err)
	}
	return nil
}

func (t target) route(r *Route, proto uint8) rtnl.Route {
	return rtnl.Route{
		Dst: r.To, Gateway: r.Via, Index: t.index, Src: r.Source, Proto: proto, Scope: r.Scope.kernel(), Metric: r.Metric, MTU: r.MTU, OnLink: r.OnLink,
	}
}
