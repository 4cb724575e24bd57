package policy

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/internal/nft"
)

// portRange is ports of one protocol, both ends included.
type portRange struct {
	proto  Protocol
	lo, hi uint16
}

// portList is what a rule says of transports and ports. Everything matches when all is set, else any of the others.
type portList struct {
	all    bool
	ranges []portRange
	names  []portByName
}

// portByName is a port by name: of one protocol, or of each when that is empty.
type portByName struct {
	port
	proto Protocol
}

// ports reads the ports of a NetworkPolicy's rule. What cannot be read matches nothing.
func readPorts(list []Port) portList {
	if len(list) == 0 {
		return portList{all: true}
	}
	var out portList
	for i := range list {
		p := &list[i]
		proto := TCP
		if p.Protocol != nil {
			proto = p.Protocol.orTCP()
		}
		if _, ok := proto.number(); !ok {
			continue
		}
		switch {
		case p.Port == nil:
			if p.EndPort == nil {
				out.ranges = append(out.ranges, portRange{proto, 0, 65535})
			}
		case p.Port.Name != "":
			if p.EndPort == nil {
				out.names = append(out.names, portByName{port{name: p.Port.Name}, proto})
			}
		case p.EndPort != nil:
			out.add(proto, p.Port.Number, *p.EndPort)
		default:
			out.add(proto, p.Port.Number, p.Port.Number)
		}
	}
	return out
}

// readProtocols does it for a ClusterNetworkPolicy's rule, which is readable.
func readProtocols(list []ClusterProtocol, action Action) portList {
	if len(list) == 0 {
		return portList{all: true}
	}
	var out portList
	for i := range list {
		p := &list[i]
		for _, of := range []struct {
			proto Protocol
			port  *ProtocolPort
		}{{TCP, p.TCP}, {UDP, p.UDP}, {SCTP, p.SCTP}} {
			if of.port == nil {
				continue
			}
			if r := of.port.DestinationPort.Range; r != nil {
				out.add(of.proto, r.Start, r.End)
			} else {
				out.add(of.proto, of.port.DestinationPort.Number, of.port.DestinationPort.Number)
			}
		}
		if p.DestinationNamedPort != "" {
			out.names = append(out.names, portByName{port{name: p.DestinationNamedPort, any: action == Deny}, ""})
		}
	}
	return out
}

func (l *portList) add(proto Protocol, lo, hi int32) {
	lo, hi = max(lo, 0), min(hi, 65535)
	if lo <= hi {
		l.ranges = append(l.ranges, portRange{proto, uint16(lo), uint16(hi)})
	}
}

// resolve puts numbers in the place of names, as one pod has them. A rule for a pod that shares its address needs that: the sets of
// named ports speak for all who share it.
func (l portList) resolve(ports map[namedPort]uint16) portList {
	l.ranges = slices.Clone(l.ranges)
	for _, n := range l.names {
		for _, proto := range transports {
			if number, ok := ports[namedPort{n.name, proto}]; ok && (n.proto == "" || n.proto == proto) {
				l.ranges = append(l.ranges, portRange{proto, number, number})
			}
		}
	}
	l.names = nil
	return l
}

// conditions returns what of packets is enough, each by itself: none if nothing matches.
func (l portList) conditions(d, f int) []condition {
	if l.all {
		return []condition{{}}
	}
	if len(l.ranges) == 1 && len(l.names) == 0 && l.ranges[0].lo == l.ranges[0].hi {
		c, _ := onPorts(l.ranges)
		return []condition{c}
	}
	var list []condition
	var single []portRange
	for _, proto := range transports {
		var wide []portRange
		for _, r := range joinRanges(l.ranges, proto) {
			switch {
			case r.lo == 0 && r.hi == 65535:
				list = append(list, condition{stmts: []nft.Stmt{isProto(proto)}})
			case r.lo == r.hi:
				single = append(single, r)
			default:
				wide = append(wide, r)
			}
		}
		if c, ok := inRanges(proto, wide); ok {
			list = append(list, c)
		}
	}
	if c, ok := onPorts(single); ok {
		list = append(list, c)
	}
	slices.SortFunc(l.names, func(a, b portByName) int {
		return strings.Compare(a.name+" "+string(a.proto), b.name+" "+string(b.proto))
	})
	for _, n := range slices.Compact(l.names) {
		n.local = d == ingress
		want := namedPortSet(f, n.port)
		c := condition{[]nft.Stmt{nft.In{Key: portKey(f), Set: want.def}}, []*wantSet{want}}
		if n.proto != "" {
			c.stmts = append([]nft.Stmt{isProto(n.proto)}, c.stmts...)
		}
		list = append(list, c)
	}
	return list
}

// joinRanges returns the ranges of a protocol, sorted, those that overlap or touch made one.
func joinRanges(list []portRange, proto Protocol) []portRange {
	list = slices.DeleteFunc(slices.Clone(list), func(r portRange) bool { return r.proto != proto })
	slices.SortFunc(list, func(a, b portRange) int { return int(a.lo) - int(b.lo) })
	var out []portRange
	for _, r := range list {
		if n := len(out) - 1; n >= 0 && int(r.lo) <= int(out[n].hi)+1 {
			out[n].hi = max(out[n].hi, r.hi)
			continue
		}
		out = append(out, r)
	}
	return out
}

func portBytes(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// inRanges is a port in one of several ranges of a protocol.
func inRanges(proto Protocol, list []portRange) (condition, bool) {
	switch len(list) {
	case 0:
		return condition{}, false
	case 1:
		r := list[0]
		between := nft.Between{Field: nft.ThDport, Lo: portBytes(r.lo), Hi: portBytes(r.hi), Text: fmt.Sprintf("%d-%d", r.lo, r.hi)}
		return condition{stmts: []nft.Stmt{isProto(proto), between}}, true
	}
	want := &wantSet{}
	var id []string
	for _, r := range list {
		id = append(id, fmt.Sprintf("%d-%d", r.lo, r.hi))
		want.fixed = append(want.fixed, fixedRange(portBytes(r.lo), portBytes(r.hi))...)
	}
	want.def = &nft.Set{Name: "port-ranges-" + digest(id...), Key: []nft.Expr{nft.ThDport}, Interval: true}
	return condition{[]nft.Stmt{isProto(proto), nft.In{Key: nft.ThDport, Set: want.def}}, []*wantSet{want}}, true
}

// onPorts is one of several single ports.
func onPorts(list []portRange) (condition, bool) {
	switch len(list) {
	case 0:
		return condition{}, false
	case 1:
		return condition{stmts: []nft.Stmt{isProto(list[0].proto), nft.OnPort(list[0].lo)}}, true
	}
	want := &wantSet{}
	var id []string
	for _, r := range list {
		number, _ := r.proto.number()
		id = append(id, fmt.Sprintf("%s/%d", r.proto, r.lo))
		want.fixed = append(want.fixed, []string{string(nft.AppendPort(nft.AppendProto(nil, number), r.lo))})
	}
	key := nft.Concat{nft.MetaL4Proto, nft.ThDport}
	want.def = &nft.Set{Name: "single-ports-" + digest(id...), Key: key}
	return condition{[]nft.Stmt{nft.In{Key: key, Set: want.def}}, []*wantSet{want}}, true
}
