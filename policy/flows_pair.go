package policy

import (
	"cmp"
	"net/netip"
	"slices"
)

// segments returns the ports at which a protocol's connections between two classes may begin to be treated otherwise, from 1 on.
func segments(proto Protocol, lists ...[]edge) []int {
	starts := []int{1}
	for _, list := range lists {
		for _, e := range list {
			if e.proto == proto && e.at > 1 && e.at <= 65535 {
				starts = append(starts, e.at)
			}
		}
	}
	slices.Sort(starts)
	return slices.Compact(starts)
}

// pair asks both States about each kind of connection between two classes and keeps what differs.
func (c *comparison) pair(family int, src, dst *class, from, to [2]netip.Addr) {
	lists := [][]edge{src.edges[0]}
	if dst != nil {
		lists = append(lists, dst.edges[1], dst.named)
	}
	var found []piece
	ask := func(p Packet, first, last int) {
		if c.budget--; c.budget <= 0 {
			return
		}
		n := piece{src: src, dst: dst, family: family}
		p.Src, p.Dst = from[0], to[0]
		n.before = c.evaluators[0].Evaluate(p)
		p.Src, p.Dst = from[1], to[1]
		n.after = c.evaluators[1].Evaluate(p)
		if n.before.Allowed == n.after.Allowed {
			return
		}
		i := slices.IndexFunc(found, func(o piece) bool { return o.reason() == n.reason() })
		if i < 0 {
			i, found = len(found), append(found, n)
		}
		found[i].add(Ports{Protocol: p.Protocol, First: uint16(first), Last: uint16(last)})
	}
	for _, proto := range portProtocols {
		starts := segments(proto, lists...)
		for i, first := range starts {
			last := 65535
			if i+1 < len(starts) {
				last = starts[i+1] - 1
			}
			ask(Packet{Protocol: proto, Port: uint16(first)}, first, last)
		}
	}
	ask(Packet{Protocol: portless}, 0, 0)
	for i := range found {
		found[i].simplify()
	}
	c.pieces = append(c.pieces, found...)
}

// add appends ports, which come in their order, to those that they follow on.
func (p *piece) add(more Ports) {
	if last := len(p.ports) - 1; last >= 0 && more.First > 1 && p.ports[last].Protocol == more.Protocol && p.ports[last].Last+1 == more.First {
		p.ports[last].Last = more.Last
		return
	}
	p.ports = append(p.ports, more)
}

// simplify says "every port" of a protocol that is there with all of them, and "every protocol" when all are.
func (p *piece) simplify() {
	full := 0
	for i := range p.ports {
		if at := &p.ports[i]; at.First == 1 && at.Last == 65535 {
			at.First, at.Last = 0, 0
		}
		if p.ports[i].Last == 0 {
			full++
		}
	}
	if full == len(portProtocols)+1 {
		p.ports = []Ports{{}}
	}
}

// reason is what pieces of one Flow have in common.
func (p *piece) reason() string { return p.before.By.brief() + "\x00" + p.after.By.brief() }

func comparePorts(a, b Ports) int {
	order := []Protocol{"", TCP, UDP, SCTP, portless}
	return cmp.Or(cmp.Compare(slices.Index(order, a.Protocol), slices.Index(order, b.Protocol)), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
}
