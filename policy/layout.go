package policy

import (
	"net/netip"
	"strings"

	"github.com/podplumb/podplumb/internal/nft"
)

// layout is the part of a table that does not depend on the State. A packet's way:
//
//	forward, output, input   known connections pass; what the host sends itself passes
//	judge                    unknown addresses of the node are cut off; then both ends are asked
//	egress, ingress          a pod reaches itself, its node reaches it; address -> number (in the mark) -> chain of the profile
type layout struct {
	cfg    *Config
	sets   []*wantSet
	leads  [directions][families]*setUse // address -> number of its profile
	chains [directions][families]*setUse // number -> chain
	self   [families]*setUse             // pods to themselves
	own    [families]*setUse             // pods and the nodes they run on
	known  [families]*setUse             // addresses that pods have
}

// Hook priorities. Destinations are translated before (-100), sources after (100). On the way in, IPVS takes its packets at 98 and 99:
// what is left is for the host.
const (
	priorityFilter = 0
	priorityInput  = 105
)

const refuseChain = "refuse"

// Conntrack's states (linux/netfilter/nf_conntrack_common.h).
var knownState = nft.Any{Field: nft.CTStateField, Bits: 1<<1 | 1<<2, Text: "established,related"}

func leadSet(d, f int) *wantSet {
	return &wantSet{family: f, def: &nft.Set{
		Name: dirName(d) + suffix(f), Key: []nft.Expr{subjectField(d, f)}, Data: []nft.Expr{nft.MetaMark}, Comment: "address -> number of its profile",
	}}
}

func chainSet(d, f int) *wantSet {
	return &wantSet{family: f, def: &nft.Set{
		Name: dirName(d) + "-chains" + suffix(f), Key: []nft.Expr{nft.MetaMark}, Verdict: true, Comment: "number of a profile -> its chain",
	}}
}

func selfSet(f int) *wantSet {
	return &wantSet{family: f, def: &nft.Set{Name: "self" + suffix(f), Key: nft.Concat{saddr[f], daddr[f]}, Comment: "pods to themselves"}}
}

func knownSet(f int) *wantSet {
	return &wantSet{family: f, def: &nft.Set{Name: "known" + suffix(f), Key: []nft.Expr{saddr[f]}, Comment: "addresses of pods of this node"}}
}

func ownSet(f int) *wantSet {
	return &wantSet{family: f, def: &nft.Set{Name: "own" + suffix(f), Key: nft.Concat{saddr[f], daddr[f]}, Comment: "pods and their own nodes"}}
}

func dirName(d int) string { return strings.ToLower(string(directionOf(d))) }

func isLocal(field nft.Load) nft.Stmt {
	return nft.Is{Field: field, Value: nft.AppendUint32(nil, 2), Text: "local"}
}

func jump(to string) nft.Stmt { return nft.Verdict{Code: nft.Jump, Chain: to} }

// addLayout adds the fixed part.
func (w *world) addLayout() {
	l := &layout{cfg: w.cfg}
	use := func(s *wantSet) *setUse {
		l.sets = append(l.sets, s)
		w.useSet(s)
		return w.sets[s.def.Name]
	}
	for f := range families {
		for d := range directions {
			l.leads[d][f], l.chains[d][f] = use(leadSet(d, f)), use(chainSet(d, f))
		}
		l.self[f], l.own[f] = use(selfSet(f)), use(ownSet(f))
		if w.fenced() {
			l.known[f] = use(knownSet(f))
		}
	}
	w.lay = l
	known, clearMark := rule(knownState, pass), rule(nft.ClearMark{Bits: w.cfg.Mark})
	judge := []nft.Rule{rule(isICMP6(), jump("neighbours"))}
	arrive := []nft.Rule{known, rule(isLoopback(), pass), rule(isICMP6(), jump("neighbours"))}
	for d := range directions {
		for f := range families {
			for _, r := range w.fence(d, f, use) {
				judge = append(judge, r)
				if d == egress {
					arrive = append(arrive, r)
				}
			}
		}
	}
	judge = append(judge, rule(jump("egress")), rule(jump("ingress")), clearMark)
	arrive = append(arrive, rule(jump("egress")), clearMark)
	w.base("forward", nft.Forward, priorityFilter, known, rule(jump("judge")))
	w.base("output", nft.Output, priorityFilter, known, rule(isLocal(nft.FibSaddrType), pass), rule(jump("judge")))
	w.base("input", nft.Input, priorityInput, arrive...)
	w.rules.addChain("judge", nil, judge)
	for d := range directions {
		w.rules.addChain(dirName(d), nil, w.asks(d, clearMark))
	}
	w.rules.addChain("neighbours", nil, neighbours())
	if w.cfg.Reject {
		w.rules.addChain(refuseChain, nil, []nft.Rule{clearMark, rule(isProto(TCP), nft.Reject{Reset: true}), rule(nft.Prohibit{})})
	}
}

// asks leads a direction's packets to the profiles of pods. The mark is the number of the profile for as long as nothing has allowed the
// packet.
func (w *world) asks(d int, clearMark nft.Rule) []nft.Rule {
	l := w.lay
	list := []nft.Rule{clearMark}
	for f := range families {
		list = append(list, rule(nft.In{Key: nft.Concat{saddr[f], daddr[f]}, Set: l.self[f].def}, allow))
		if d == ingress {
			list = append(list, rule(nft.In{Key: nft.Concat{daddr[f], saddr[f]}, Set: l.own[f].def}, allow))
		}
	}
	for f := range families {
		number := nft.PutMark{Value: nft.Mapped{Key: subjectField(d, f), Map: l.leads[d][f].def}, Shift: w.cfg.shift()}
		list = append(list, nft.Rule{Stmts: []nft.Stmt{number}, Comment: "the other bits of the mark are kept"})
	}
	masked := nft.Masked{Of: nft.MetaMark, Mask: w.cfg.Mark}
	list = append(list, rule(nft.MaskedIs{Of: masked}, allow))
	if !w.cfg.KeepLive {
		m := &draft{cfg: w.cfg, d: d}
		stray := condition{stmts: []nft.Stmt{isProto(TCP), nft.Bits{Field: nft.TCPFlags, Mask: tcpFlags, Value: tcpSyn, Not: true}}}
		m.deny(stray, Decision{Direction: directionOf(d), Reason: Midstream})
		list = append(list, m.rules...)
		w.useFixed(m.counters)
	}
	for f := range families {
		list = append(list, rule(isFamily(f), nft.VMap{Key: masked, Map: l.chains[d][f].def}))
	}
	return list
}

func (w *world) dropLayout() {
	for _, s := range w.lay.sets {
		w.unuseSet(s.def.Name)
	}
	for name := range w.rules.chains {
		w.rules.dropChain(name)
	}
	w.unuseFixed()
	w.lay = nil
}

func rule(stmts ...nft.Stmt) nft.Rule { return nft.Rule{Stmts: stmts} }

func (w *world) base(name string, point nft.HookPoint, priority int32, rules ...nft.Rule) {
	w.rules.addChain(name, &nft.Hook{Type: "filter", Point: point, Priority: priority}, rules)
}

// fence cuts off the addresses of Local that no pod has.
func (w *world) fence(d, f int, use func(*wantSet) *setUse) []nft.Rule {
	if !w.fenced() {
		return nil
	}
	field := subjectField(d, f)
	var list []span
	for _, p := range w.cfg.Local {
		list = append(list, spanOf(p))
	}
	local, ok := within(field, f, list)
	if !ok {
		return nil
	}
	for _, s := range local.sets {
		use(s)
	}
	m := &draft{cfg: w.cfg, d: d, f: f}
	local.stmts = append(local.stmts, nft.In{Key: field, Set: knownSet(f).def, Not: true})
	m.deny(local, Decision{Direction: directionOf(d), Reason: Unknown})
	w.useFixed(m.counters)
	return m.rules
}

// useFixed adds counters of the layout.
func (w *world) useFixed(list []*wantCounter) {
	for _, c := range list {
		w.useCounter(c)
		w.fixed = append(w.fixed, c.name)
	}
}

func (w *world) unuseFixed() {
	for _, name := range w.fixed {
		if w.counters[name].refs--; w.counters[name].refs == 0 {
			w.idle.counters = append(w.idle.counters, name)
		}
	}
	w.fixed = nil
}

// isLoopback is what the host sends to itself.
func isLoopback() nft.Stmt {
	return nft.Is{Field: nft.MetaIifname, Value: append([]byte("lo"), make([]byte, 14)...), Text: `"lo"`}
}

func isICMP6() nft.Stmt {
	return nft.Is{Field: nft.MetaL4Proto, Value: []byte{58}, Text: "ipv6-icmp"}
}

// neighbours lets IPv6 find addresses, as ARP does for IPv4 unseen. Its packets do not leave the link: those with a hop limit of 255 are
// not from elsewhere (RFC 4861), and those to link-local groups go nowhere else (RFC 2710, 3810).
func neighbours() []nft.Rule {
	types := func(lo, hi byte, text string) nft.Stmt {
		return nft.Between{Field: nft.ICMP6Type, Lo: []byte{lo}, Hi: []byte{hi}, Text: text}
	}
	groups := nft.Within{Field: nft.IP6Daddr, Prefix: netip.MustParsePrefix("ff02::/16")}
	return []nft.Rule{
		rule(types(133, 137, "133-137"), nft.Is{Field: nft.IP6HopLimit, Value: []byte{255}, Text: "255"}, pass),
		rule(groups, types(130, 132, "130-132"), pass),
		rule(groups, types(143, 143, "143"), pass),
	}
}
