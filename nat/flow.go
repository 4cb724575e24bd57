package nat

import "net/netip"

// A flow names connections that conntrack would go on sending where a forward
// no longer leads: those to the forward, with a target only those to it.
type flow struct {
	key    Key
	target netip.AddrPort // zero for all
}

// appendFlows adds the flows that a change of a forward leaves behind. A UDP
// client that keeps sending from one port never makes a new connection, so
// that its entry has to go: to follow a removed target to another one, and
// to be led at all where there was no target before. Other connections go
// only from a removed target, when the forward says so.
func appendFlows(list []flow, have Forward, want *Forward) []flow {
	drain := have.Drain
	if want != nil {
		drain = want.Drain
	}
	if have.Proto != UDP && (drain != DrainReset || len(have.To) == 0) { // TCP stays with whom it began
		return list
	}
	if want == nil || len(want.To) == 0 || len(have.To) == 0 || want.Elsewhere != have.Elsewhere {
		return append(list, flow{key: have.Key()})
	}
	stay := make(map[netip.AddrPort]bool, len(want.To))
	for _, t := range want.To {
		stay[netip.AddrPortFrom(t.Addr, t.Port)] = true
	}
	for _, t := range have.To {
		if at := netip.AddrPortFrom(t.Addr, t.Port); !stay[at] {
			list = append(list, flow{key: have.Key(), target: at})
		}
	}
	return list
}
