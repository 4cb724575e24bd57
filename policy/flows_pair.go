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
		n := piece{src: src, dst: dst, family: family, proto: p.Protocol, first: uint16(first), last: uint16(last)}
		p.Src, p.Dst = from[0], to[0]
		n.before = c.evaluators[0].Evaluate(p)
		p.Src, p.Dst = from[1], to[1]
		n.after = c.evaluators[1].Evaluate(p)
		if n.before.Allowed == n.after.Allowed {
			return
		}
		if last := len(found) - 1; last >= 0 && first > 1 && found[last].last+1 == uint16(first) && found[last].proto == n.proto && found[last].reason() == n.reason() {
			found[last].last = n.last
			return
		}
		found = append(found, n)
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
	c.pieces = append(c.pieces, whole(found)...)
}

// whole says "every port" of a protocol that is there with all of them, and "every protocol" when all are, for one reason.
func whole(found []piece) []piece {
	full := 0
	for i := range found {
		if found[i].first == 1 && found[i].last == 65535 {
			found[i].first, found[i].last = 0, 0
		}
		if found[i].last == 0 && found[i].reason() == found[0].reason() {
			full++
		}
	}
	if full == len(portProtocols)+1 && len(found) == full {
		found[0].proto = ""
		return found[:1]
	}
	return found
}

// reason is what pieces of one Flow have in common.
func (p *piece) reason() string { return p.before.By.brief() + "\x00" + p.after.By.brief() }

func (p *piece) compareKind(o *piece) int {
	order := []Protocol{"", TCP, UDP, SCTP, portless}
	return cmp.Or(cmp.Compare(slices.Index(order, p.proto), slices.Index(order, o.proto)), cmp.Compare(p.first, o.first), cmp.Compare(p.last, o.last),
		cmp.Compare(p.reason(), o.reason()))
}
