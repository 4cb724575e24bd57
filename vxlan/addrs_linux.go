package vxlan

import (
	"context"
	"maps"
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
	missing map[newAddr]bool
}

type newAddr struct {
	index  int
	prefix netip.Prefix
}

// expectAddrs begins to listen before the addresses among the tasks are added. Without any there is nothing to wait for.
func (w *writer) expectAddrs(tasks []task) (*addrWait, error) {
	a := &addrWait{missing: map[newAddr]bool{}}
	for _, t := range tasks {
		if t.want.kind == kindAddr && t.want.prefix.Addr().Is6() {
			a.missing[newAddr{w.index[t.want.dev], prefixOf(t.want)}] = true
		}
	}
	if len(a.missing) == 0 {
		return a, nil
	}
	var err error
	a.monitor, err = rtnl.Watch(w.cfg.NetNS, rtnl.AddrEvents|rtnl.LinkEvents)
	return a, err
}

// wait returns when all addresses are there or their device is gone again, and in any case soon.
func (a *addrWait) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, addrPatience)
	defer cancel()
	for len(a.missing) > 0 {
		e, err := a.monitor.Next(ctx)
		if err != nil {
			return
		}
		switch {
		case e.Addr != nil:
			delete(a.missing, newAddr{e.Addr.Index, e.Addr.Prefix})
		case e.Link != nil && e.Removed:
			maps.DeleteFunc(a.missing, func(n newAddr, _ bool) bool { return n.index == e.Link.Index })
		}
	}
}

func (a *addrWait) close() {
	if a.monitor != nil {
		_ = a.monitor.Close()
	}
}
