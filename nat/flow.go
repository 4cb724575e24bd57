package nat

import "net/netip"

// A flow names connections that conntrack would go on sending where a forward
// no longer leads: those to the forward, with a target only those to it.
type flow struct {
	key    Key
	target netip.AddrPort // zero for all
}

// questions are what UDP clients of any name server ask.
var questions = flow{key: Key{Port: portDNS, Proto: UDP}}

// appendFlows adds the flows that a change of a forward leaves behind. A UDP
// client that keeps sending from one port never makes a new connection, so
// that its entry has to go: to follow a removed target to another one, and
// to be led at all where there was no target before. Other connections go
// only from a removed target, when the forward says so.
func appendFlows(list []flow, have Forward, want *Forward) []flow {
	none := Forward{Drain: have.Drain, Elsewhere: have.Elsewhere}
	if want == nil {
		want = &none
	}
	if have.Proto != UDP && (want.Drain != DrainReset || len(have.To)+len(have.Near) == 0) { // TCP stays with whom it began
		return list
	}
	all := len(want.To)+len(want.Near) == 0 || len(have.To)+len(have.Near) == 0 || want.Elsewhere != have.Elsewhere
	if have.Proto == UDP {
		all = all || len(have.To) == 0 != (len(want.To) == 0) || len(have.Near) == 0 != (len(want.Near) == 0)
	}
	if all {
		return append(list, flow{key: have.Key()})
	}
	return appendGone(list, have, want)
}

// appendGone adds the targets that a forward no longer has for some clients.
// A connection other than of UDP stays with a target that other clients still
// have.
func appendGone(list []flow, have Forward, want *Forward) []flow {
	gone := map[netip.AddrPort]bool{}
	for _, lists := range [][2][]Target{{have.To, want.To}, {have.Near, want.Near}} {
		if len(lists[0]) == 0 {
			continue
		}
		stay := targetSet(lists[1])
		for _, t := range lists[0] {
			if at := netip.AddrPortFrom(t.Addr, t.Port); !stay[at] && !gone[at] {
				gone[at] = true
				list = append(list, flow{key: have.Key(), target: at})
			}
		}
	}
	if have.Proto == UDP || len(have.Near)+len(want.Near) == 0 {
		return list
	}
	to, near := targetSet(want.To), targetSet(want.Near)
	kept := list[:0]
	for _, f := range list {
		if f.key == have.Key() && (to[f.target] || near[f.target]) {
			continue
		}
		kept = append(kept, f)
	}
	return kept
}

func targetSet(list []Target) map[netip.AddrPort]bool {
	m := make(map[netip.AddrPort]bool, len(list))
	for _, t := range list {
		m[netip.AddrPortFrom(t.Addr, t.Port)] = true
	}
	return m
}
