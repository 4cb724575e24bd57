package service

import (
	"net/netip"
	"slices"
)

// candidates appends to buf the endpoints of one port of a Service in one family: sorted by address, each once. It is what an EndpointSlice cache
// would hold for the port, whichever source it is from.
func (w *world) candidates(s *svc, p *svcPort, fam int, buf []candidate) []candidate {
	if of := w.slices[s.name]; len(of) > 0 {
		for _, sl := range of {
			buf = sl.append(buf, p, fam)
		}
	} else if len(s.selector) > 0 {
		w.selected(s, func(pod *pod) {
			if c, ok := w.fromPod(s, p, pod, fam); ok {
				buf = append(buf, c)
			}
		})
	}
	node := w.settings.node
	slices.SortFunc(buf, func(a, b candidate) int {
		if c := a.addr.Compare(b.addr); c != 0 {
			return c
		}
		// An address may be in two slices while it moves from one to the other: the one that says more good of it counts.
		return b.rank(node) - a.rank(node)
	})
	return slices.CompactFunc(buf, func(a, b candidate) bool { return a.addr == b.addr })
}

func (c *candidate) rank(node string) int {
	r := 0
	if c.local(node) {
		r += 8
	}
	if c.ready {
		r += 4
	}
	if c.serving {
		r += 2
	}
	if !c.terminating {
		r++
	}
	return r
}

func (c *candidate) local(node string) bool { return node != "" && c.node == node }

func (sl *slice) append(buf []candidate, p *svcPort, fam int) []candidate {
	if sl.family != fam {
		return buf
	}
	for _, port := range sl.ports {
		if port.name != p.name || port.protocol != p.protocol {
			continue
		}
		for _, c := range sl.endpoints {
			c.addr = netip.AddrPortFrom(c.addr.Addr(), port.port)
			buf = append(buf, c)
		}
	}
	return buf
}

// fromPod makes of a pod what Kubernetes' EndpointSlice controller would write into a slice.
func (w *world) fromPod(s *svc, p *svcPort, pod *pod, fam int) (candidate, bool) {
	port := pod.port(p)
	if pod.ended || port == 0 || !pod.addrs[fam].IsValid() {
		return candidate{}, false
	}
	c := candidate{
		addr: netip.AddrPortFrom(pod.addrs[fam], port), node: pod.node,
		ready: s.publish || pod.ready && !pod.terminating, serving: pod.ready, terminating: pod.terminating,
	}
	if c.ready && s.spread != "" {
		if zone := w.zones[pod.node]; zone != "" {
			c.forZones = []string{zone}
		}
		if s.spread == PreferSameNode && pod.node != "" {
			c.forNodes = []string{pod.node}
		}
	}
	return c, true
}
