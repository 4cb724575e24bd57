package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/podplumb/podplumb/service"
)

// checks listens on the health check node ports. Listeners come and go with the Services.
type checks struct {
	log    *slog.Logger
	health *health
	// on returns the addresses to listen on; an empty list is all of them.
	on func() ([]netip.Addr, error)

	mu   sync.Mutex
	open map[service.Name]*check
}

// check is the listeners of one Service.
type check struct {
	now    service.HealthCheck
	where  map[netip.AddrPort]*http.Server
	failed map[netip.AddrPort]bool // has been told
}

func newChecks(log *slog.Logger, h *health, on func() ([]netip.Addr, error)) *checks {
	return &checks{log: log, health: h, on: on, open: map[service.Name]*check{}}
}

// follow makes the listeners those of list. A port that cannot be had is tried again with the next change.
func (c *checks) follow(list []service.HealthCheck) {
	var addrs []netip.Addr
	if len(list) > 0 {
		var err error
		if addrs, err = c.on(); err != nil {
			c.log.Error("health checks listen on every address", "err", err)
		}
		if len(addrs) == 0 {
			addrs = []netip.Addr{netip.IPv6Unspecified()} // which is both families
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	want := make(map[service.Name]map[netip.AddrPort]bool, len(list))
	for _, h := range list {
		want[h.Service] = map[netip.AddrPort]bool{}
		for _, a := range addrs {
			want[h.Service][netip.AddrPortFrom(a, h.Port)] = true
		}
	}
	for name, has := range c.open { // first what goes: its port may be wanted by another
		for at, server := range has.where {
			if !want[name][at] {
				_ = server.Close() // it only had answers that are no longer true
				delete(has.where, at)
			}
		}
		if want[name] == nil {
			delete(c.open, name)
		}
	}
	for _, h := range list {
		has := c.open[h.Service]
		if has == nil {
			has = &check{where: map[netip.AddrPort]*http.Server{}, failed: map[netip.AddrPort]bool{}}
			c.open[h.Service] = has
		}
		has.now = h
		for at := range want[h.Service] {
			if has.where[at] == nil {
				c.listen(has, at)
			}
		}
	}
}

func (c *checks) listen(has *check, at netip.AddrPort) {
	name := has.now.Service
	address := at.String()
	if at.Addr().IsUnspecified() {
		address = ":" + strconv.Itoa(int(at.Port()))
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		if !has.failed[at] {
			has.failed[at] = true
			c.log.Error("health check node port", "service", name.String(), "err", err)
		}
		return
	}
	delete(has.failed, at)
	server := &http.Server{Handler: service.HealthHandler(func() (service.HealthCheck, bool, bool) { return c.answer(name) }), ReadHeaderTimeout: 5 * time.Second}
	has.where[at] = server
	go func() { _ = server.Serve(listener) }() // it ends when it is closed
}

func (c *checks) answer(name service.Name) (now service.HealthCheck, healthy, ok bool) {
	healthy, _, _ = c.health.healthy()
	c.mu.Lock()
	defer c.mu.Unlock()
	has := c.open[name]
	if has == nil {
		return now, healthy, false
	}
	return has.now, healthy, true
}

// nodeAddresses returns the addresses of this host that serve node ports; none stands for all.
func nodeAddresses(ports service.NodePortAddresses, own func() service.Node) ([]netip.Addr, error) {
	if ports.Primary {
		return primary(own()), nil
	}
	if len(ports.In) == 0 {
		return nil, nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		for _, in := range ports.In {
			if in.Contains(p.Addr()) {
				addrs = append(addrs, p.Addr())
				break
			}
		}
	}
	return addrs, nil
}

// primary returns the first InternalIP of each family.
func primary(n service.Node) []netip.Addr {
	var addrs []netip.Addr
	var have [2]bool
	for _, address := range n.Status.Addresses {
		a, err := netip.ParseAddr(address.Address)
		family := 0
		if a.Is6() {
			family = 1
		}
		if err == nil && address.Type == "InternalIP" && !have[family] {
			have[family] = true
			addrs = append(addrs, a)
		}
	}
	return addrs
}
