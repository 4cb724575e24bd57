package vxlan

import (
	"context"
	"net/netip"
	"time"

	"github.com/podplumb/podplumb/internal/rtnl"
)

// addrPatience bounds the wait for new addresses, which takes the kernel some milliseconds.
const addrPatience = time.Second

// addrWait waits until the kernel has finished with new IPv6 addresses: it does so, and adds the local route, in a work queue of its own, after it
// acknowledged the request (addrconf_dad_work). Until then packets to the address are not taken.
type addrWait struct {
	monitor *rtnl.Monitor
	missing map[netip.Prefix]bool
	indexes map[int]bool
}

// expectAddrs begins to listen before the addresses among the tasks are added. Without any there is nothing to wait for.
func (w *writer) expectAddrs(tasks []task) (*addrWait, error) {
	a := &addrWait{missing: map[netip.Prefix]bool{}, indexes: map[int]bool{}}
	for _, t := range tasks {
		if t.want.kind == kindAddr && t.want.prefix.Addr().Is6() {
			a.missing[prefixOf(t.want)] = true
			a.indexes[w.index[t.want.dev]] = true
		}
	}
	if len(a.missing) == 0 {
		return a, nil
	}
	var err error
	a.monitor, err = rtnl.Watch(w.cfg.NetNS, rtnl.AddrEvents)
	return a, err
}

// wait returns when all addresses are there, and in any case soon.
func (a *addrWait) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, addrPatience)
	defer cancel()
	for len(a.missing) > 0 {
		e, err := a.monitor.Next(ctx)
		if err != nil {
			return
		}
		if e.Addr != nil && !e.Removed && a.indexes[e.Addr.Index] {
			delete(a.missing, e.Addr.Prefix)
		}
	}
}

func (a *addrWait) close() {
	if a.monitor != nil {
		_ = a.monitor.Close()
	}
}
