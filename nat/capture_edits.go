package nat

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/internal/nft"
)

// captures does the plan's changes to the capture.
func (w *world) captures(p Plan, e *edits) {
	remark := false
	for _, c := range p.capture {
		if c.Have != nil {
			for _, el := range w.lay.itemElements(*c.Have) {
				e.del(el.set, nft.Element{Key: el.Key, End: el.End})
				if el.rest != nil {
					e.del(el.set, *el.rest)
				}
			}
			delete(w.capture, c.Key)
		}
		if c.Want != nil {
			for _, el := range w.lay.itemElements(*c.Want) {
				e.add(el.set, el.Element)
				if el.rest != nil {
					e.add(el.set, *el.rest)
				}
			}
			w.capture[c.Key] = *c.Want
		}
		remark = remark || c.Key.kind == itemMark
	}
	if remark {
		e.rules = w.lay.interception.capture(w.captureState().Except.Marks)
	}
}

func (w *world) captureState() Capture {
	list := make([]item, 0, len(w.capture))
	for _, a := range w.capture {
		list = append(list, a)
	}
	slices.SortFunc(list, item.compare)
	return captureOf(list)
}

// placed is an element of a set; rest is the end of a range.
type placed struct {
	set *nft.Set
	nft.Element
	rest *nft.Element
}

// itemElements is what an item is in the kernel. No two items of a State have
// an element in common.
func (l *layout) itemElements(a item) []placed {
	one := func(s *nft.Set, key ...byte) placed { return placed{set: s, Element: nft.Element{Key: key}} }
	tcp, udp := byte(TCP), byte(UDP)
	port := portKeyOf(uint16(a.n))
	to := func(s *nft.Set, proto byte) placed {
		return placed{set: s, Element: nft.Element{Key: []byte{proto}, Data: port}}
	}
	own := func(proto Proto) placed { return one(l.own, protoPort(proto, uint16(a.n))...) }
	number := binary.NativeEndian.AppendUint32(nil, a.n)
	switch a.kind {
	case itemOutbound:
		return []placed{to(l.outbound, tcp), one(l.takesOutbound, tcp), own(TCP)}
	case itemInbound:
		takes := l.takesListed
		if a.m == 1 {
			takes = l.takesAll
		}
		return []placed{to(l.inbound, tcp), one(takes, tcp), own(TCP)}
	case itemDNS:
		return []placed{
			to(l.dns, tcp), one(l.takesDNS, tcp), own(TCP),
			to(l.dns, udp), one(l.takesDNS, udp), own(UDP),
		}
	case itemStrict:
		return []placed{one(l.strict, tcp)}
	case itemClosed:
		return []placed{one(l.closed, tcp)}
	case itemPort:
		var list []placed
		for _, family := range []nft.Family{nft.FamilyIPv4, nft.FamilyIPv6} {
			if a.m == 0 || (a.m == 4) == (family == nft.FamilyIPv4) {
				list = append(list, one(l.listed, nft.AppendPort(nft.AppendProto(nil, uint8(family)), uint16(a.n))...))
			}
		}
		return list
	case itemUser:
		return []placed{one(l.users, number...)}
	case itemGroup:
		return []placed{one(l.groups, number...)}
	case itemMark:
		return []placed{one(l.marks, nft.AppendUint32(number, a.m)...)}
	case itemFrom:
		return []placed{spared(l.from[familyIndex(a.prefix)], a.prefix)}
	case itemTo:
		return []placed{spared(l.to[familyIndex(a.prefix)], a.prefix)}
	case itemPassInbound:
		return []placed{portElements(l.passInbound, a.ports())}
	case itemPassOutbound:
		return []placed{portElements(l.passOutbound, a.ports())}
	}
	return nil
}

func familyIndex(p netip.Prefix) int {
	if p.Addr().Is4() {
		return 0
	}
	return 1
}

func spared(s *nft.Set, p netip.Prefix) placed { return ranged(s, nft.Range(p)) }

func portElements(s *nft.Set, p Ports) placed {
	return ranged(s, nft.RangeElements(portKeyOf(p.First), portKeyOf(p.Last)))
}

// ranged is a range in an interval set. One to the last key of all has no end.
func ranged(s *nft.Set, list []nft.Element) placed {
	at := placed{set: s, Element: list[0]}
	if len(list) > 1 {
		at.rest = &list[1]
	}
	return at
}

func portKeyOf(port uint16) []byte { return []byte{byte(port >> 8), byte(port)} }

func protoPort(proto Proto, port uint16) []byte {
	return nft.AppendPort(nft.AppendProto(nil, uint8(proto)), port)
}

// asksAnew says that questions to name servers may take another way once p is
// done, so that UDP clients have to begin anew.
func (w *world) asksAnew(p Plan) bool {
	was := w.captureState().DNS != 0
	for _, c := range p.capture {
		switch c.Key.kind {
		case itemDNS:
			return true
		case itemUser, itemGroup, itemMark, itemFrom, itemTo, itemPassOutbound:
			if was {
				return true
			}
		}
	}
	return false
}
