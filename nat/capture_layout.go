package nat

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/internal/nft"
)

// interception is the part of the layout for State.Capture and
// State.Redirects. Which way a packet takes lies in elements; only marks with
// their masks need rules of their own.
type interception struct {
	// Protocol -> the proxy's port.
	outbound, inbound, dns *nft.Set
	// The protocols that are captured, so that a rule can ask before it looks
	// any further, and refuse what should have been translated.
	takesOutbound, takesDNS, takesListed, takesAll *nft.Set

	listed *nft.Set // ports captured inbound
	strict *nft.Set // protocols
	closed *nft.Set // protocols
	own    *nft.Set // the proxy's ports

	users, groups, marks      *nft.Set
	passInbound, passOutbound *nft.Set
	from, to                  [2]*nft.Set // by family

	redirects               *nft.Set // protocol, port -> port
	redirected, redirectOwn *nft.Set // the same keys: for others, for the host itself
}

func newInterception(families [2]*family) *interception {
	proto := []nft.Expr{nft.MetaL4Proto}
	port := []nft.Expr{nft.ThDport}
	familyPort := []nft.Expr{nft.MetaNFProto, nft.ThDport}
	both := []nft.Expr{nft.MetaL4Proto, nft.ThDport}
	toPort := func(name string, key []nft.Expr, comment string) *nft.Set {
		return &nft.Set{Name: name, Key: key, Data: port, Comment: comment}
	}
	set := func(name string, key []nft.Expr, comment string) *nft.Set {
		return &nft.Set{Name: name, Key: key, Comment: comment}
	}
	ranges := func(name string, key []nft.Expr, comment string) *nft.Set {
		return &nft.Set{Name: name, Key: key, Interval: true, Comment: comment}
	}
	i := &interception{
		outbound:      toPort("capture-outbound", proto, "the proxy's port for connections from here"),
		inbound:       toPort("capture-inbound", proto, "the proxy's port for connections to here"),
		dns:           toPort("capture-dns", proto, "the proxy's port for questions to name servers"),
		takesOutbound: set("captured-outbound", proto, "captured from here"),
		takesDNS:      set("captured-dns", proto, "captured from here to port 53"),
		takesListed:   set("captured-listed", proto, "captured to here, to captured-ports"),
		takesAll:      set("captured-all", proto, "captured to here, to any port"),
		listed:        set("captured-ports", familyPort, "ports captured to here"),
		strict:        set("captured-strictly", proto, "refused unless known or captured"),
		closed:        set("captured-closed", proto, "refused to ports that are not captured"),
		own:           set("proxy-ports", both, "the proxy's ports, which nobody else reaches"),
		users:         set("spared-users", []nft.Expr{nft.MetaSkuid}, "not captured"),
		groups:        set("spared-groups", []nft.Expr{nft.MetaSkgid}, "not captured"),
		marks:         set("spared-marks", []nft.Expr{nft.MetaMark, nft.MetaMark}, "mark and mask, not captured; the rules have them too"),
		passInbound:   ranges("spared-inbound", port, "ports not captured to here"),
		passOutbound:  ranges("spared-outbound", port, "ports not captured from here"),
		redirects:     toPort("redirects", both, "port of this host -> another"),
		redirected:    set("redirected", both, "ports with a redirect"),
		redirectOwn:   set("redirected-own", both, "those whose redirect this host itself meets too"),
	}
	for n, f := range families {
		i.from[n] = ranges("spared-from"+f.suffix, []nft.Expr{f.saddr}, "sources not captured")
		i.to[n] = ranges("spared-to"+f.suffix, []nft.Expr{f.daddr}, "destinations not captured")
	}
	return i
}

func (i *interception) sets() []*nft.Set {
	return []*nft.Set{
		i.redirects, i.redirected, i.redirectOwn,
		i.outbound, i.inbound, i.dns, i.takesOutbound, i.takesDNS, i.takesListed, i.takesAll, i.listed, i.strict, i.closed, i.own,
		i.users, i.groups, i.marks, i.passInbound, i.passOutbound, i.from[0], i.to[0], i.from[1], i.to[1],
	}
}

func isProto(p Proto) nft.Stmt {
	return nft.Is{Field: nft.MetaL4Proto, Value: []byte{byte(p)}, Text: p.String()}
}

const portDNS = 53

var linkLocal6 = netip.MustParsePrefix("fe80::/10")

func isDNS() nft.Stmt {
	return nft.Is{Field: nft.ThDport, Value: []byte{0, portDNS}, Text: "53"}
}

// begins holds for TCP packets that open a connection, or with not for the
// others.
func begins(not bool) nft.Stmt {
	const syn, ack = 0x02, 0x10
	return nft.Bits{Field: nft.TCPFlags, Mask: syn | ack, Value: syn, Not: not}
}

// The ways into the capture, for translation and for refusal alike.

func (i *interception) waysIn(to string) []nft.Rule {
	return []nft.Rule{
		rule(inSet(nft.MetaL4Proto, i.takesListed), i.isListed(), jump(to)),
		rule(inSet(nft.MetaL4Proto, i.takesAll), jump(to)),
	}
}

func (i *interception) isListed() nft.Stmt {
	return inSet(nft.Concat{nft.MetaNFProto, nft.ThDport}, i.listed)
}

func (i *interception) waysOut(to string) []nft.Rule {
	return []nft.Rule{
		rule(isDNS(), inSet(nft.MetaL4Proto, i.takesDNS), jump(to)),
		rule(inSet(nft.MetaL4Proto, i.takesOutbound), jump(to)),
	}
}

// capture returns the chains of the capture, which begin with the marks that
// are spared.
func (i *interception) capture(marks []Mark) []*nft.Chain {
	redirect := func(m *nft.Set) nft.Stmt {
		return nft.Redirect{To: nft.Mapped{Key: nft.MetaL4Proto, Map: m}}
	}
	onlyNew := rule(isTCP(), begins(true), ret)
	in, out := i.sparedIn(marks), i.sparedOut(marks)
	// The guards refuse what should have been translated and was not: a
	// change came in between, or conntrack cannot place the packet, so that it
	// would leave as it is.
	beside := []nft.Stmt{isTCP(), begins(true), nft.In{Key: nft.MetaL4Proto, Set: i.strict, Not: true}}
	refuse := []nft.Rule{
		rule(invalidState, nft.Verdict{Code: nft.Drop}),
		rule(isTCP(), begins(true), goTo("rejection")),
		// Silence makes the client try again a moment later.
		rule(nft.Verdict{Code: nft.Drop}),
	}
	return []*nft.Chain{
		chain("capture-in", slices.Concat([]nft.Rule{onlyNew}, in, []nft.Rule{rule(isTCP(), redirect(i.inbound))})...),
		chain("capture-out", slices.Concat([]nft.Rule{onlyNew}, out, []nft.Rule{
			rule(onLink, ret),
			rule(isProto(UDP), isDNS(), redirect(i.dns)),
			rule(isTCP(), isDNS(), redirect(i.dns)),
			rule(isTCP(), redirect(i.outbound)),
		})...),
		chain("guard-in", slices.Concat([]nft.Rule{rule(translated, ret), rule(append(beside[:3:3], ret)...)}, in, refuse)...),
		chain("guard-closed", slices.Concat([]nft.Rule{rule(translated, ret), onlyNew, rule(i.isListed(), ret)}, in,
			[]nft.Rule{rule(goTo("rejection"))})...),
		chain("guard-out", slices.Concat([]nft.Rule{rule(translated, ret), rule(append(beside[:3:3], validState, ret)...)}, out,
			[]nft.Rule{rule(onLink, goTo("rejection"))}, refuse)...),
	}
}

var (
	invalidState = nft.Any{Field: nft.CTStateField, Bits: 1 << 0, Text: "invalid"}
	validState   = nft.MaskedIs{Of: nft.Masked{Of: nft.CTStateField, Mask: 1 << 0}, Text: "! invalid"}
	// A socket that sends to a link-local address is bound to its link, and
	// could not reach the proxy.
	onLink       = nft.Within{Field: nft.IP6Daddr, Prefix: linkLocal6}
	fromLoopback = nft.Is{Field: nft.MetaIiftype, Value: binary.NativeEndian.AppendUint16(nil, 772), Text: "loopback"} // ARPHRD_LOOPBACK
)

// sparedIn and sparedOut return what is left alone, what is quickest to see
// first.

func (i *interception) sparedIn(marks []Mark) []nft.Rule {
	return slices.Concat([]nft.Rule{rule(fromLoopback, ret)}, sparedMarks(marks), []nft.Rule{
		rule(i.toProxy(), ret), // another chain closes its ports
		rule(inSet(nft.ThDport, i.passInbound), ret),
	}, i.sparedNetworks(), []nft.Rule{rule(isLocal(true), ret)})
}

func (i *interception) sparedOut(marks []Mark) []nft.Rule {
	return slices.Concat(sparedMarks(marks), []nft.Rule{
		rule(inSet(nft.MetaSkuid, i.users), ret), rule(inSet(nft.MetaSkgid, i.groups), ret), rule(inSet(nft.ThDport, i.passOutbound), ret),
	}, i.sparedNetworks(), []nft.Rule{rule(isLocal(false), ret)})
}

func sparedMarks(marks []Mark) []nft.Rule {
	var rules []nft.Rule
	for _, m := range marks {
		rules = append(rules, rule(nft.MaskedIs{Of: nft.Masked{Of: nft.MetaMark, Mask: m.Mask}, Value: m.Value}, ret))
	}
	return rules
}

func (i *interception) sparedNetworks() []nft.Rule {
	var rules []nft.Rule
	for n := range i.from {
		rules = append(rules, rule(inSet(i.from[n].Key[0], i.from[n]), ret), rule(inSet(i.to[n].Key[0], i.to[n]), ret))
	}
	return rules
}

// proxyOnly closes the proxy's ports to all that was not led there.
func proxyOnly() *nft.Chain {
	return chain("proxy-only", rule(translated, ret), rule(isTCP(), begins(true), ret), rule(goTo("rejection")))
}

// toProxy holds for connections that were led to the proxy.
func (i *interception) toProxy() nft.Stmt {
	return inSet(nft.Concat{nft.MetaL4Proto, nft.ThDport}, i.own)
}

// stays leaves their source to connections of the host that were led to
// another of its ports.
func (i *interception) stays(f *family) []nft.Rule {
	here := nft.Within{Field: f.daddr, Prefix: f.loopback}
	return []nft.Rule{
		rule(here, i.toProxy(), ret),
		rule(here, inSet(nft.Concat{nft.MetaL4Proto, nft.CTOrigProtoDst}, i.redirectOwn), ret),
	}
}

// onInput turns away what may not come in.
func (i *interception) onInput() []nft.Rule {
	return slices.Concat([]nft.Rule{rule(knownState, ret), rule(i.toProxy(), jump("proxy-only"))}, i.waysIn("guard-in"),
		[]nft.Rule{rule(inSet(nft.MetaL4Proto, i.closed), jump("guard-closed"))})
}

// onOutput turns away what may not go out.
func (i *interception) onOutput() []nft.Rule {
	return append([]nft.Rule{rule(knownState, ret)}, i.waysOut("guard-out")...)
}

// redirectTo leads the ports of a set to the redirects.
func (i *interception) redirectTo(ports *nft.Set) nft.Rule {
	return rule(inSet(nft.Concat{nft.MetaL4Proto, nft.ThDport}, ports), isLocal(false), jump("redirection"))
}

func (i *interception) redirectChain() *nft.Chain {
	c := chain("redirection")
	for _, p := range []Proto{TCP, UDP, SCTP} {
		to := nft.Mapped{Key: nft.Concat{nft.MetaL4Proto, nft.ThDport}, Map: i.redirects}
		c.Rules = append(c.Rules, rule(isProto(p), nft.Redirect{To: to}))
	}
	return c
}
