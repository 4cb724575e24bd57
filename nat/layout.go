package nat

import (
	"fmt"
	"math/bits"
	"net/netip"
	"sync"

	"github.com/podplumb/podplumb/internal/nft"
)

// layout is the table's fixed part. Everything that State holds lives in the
// elements of its sets and maps; only lanes come and go.
type layout struct {
	table *nft.Table // without chains: see whole
	chain sync.Once
	mark  uint32
	// counters says that targets count.
	counters bool
	lanes    *nft.Set // lanes that draw, or lead to those of draws; reached from nat hooks
	draws    *nft.Set // lanes that draw for clients that are near, or for the others
	learn    *nft.Set // lanes that learn, reached from filter hooks
	v4       family
	v6       family
	*interception
}

// family is the part of the layout for one address family.
type family struct {
	saddr, daddr nft.Load
	origin       nft.Load // destination before translation
	originSource nft.Load // source before translation
	key          nft.Concat
	nodeKey      nft.Concat // the same with an unspecified address
	loopback     netip.Prefix
	multicast    netip.Prefix

	networks  *nft.Set // sources to masquerade
	excluded  *nft.Set // destinations that they reach untranslated
	virtual   *nft.Set // ranges that exist only as forwards -> verdict
	addresses *nft.Set // addresses that have a forward
	forwards  *nft.Set // address, protocol, port -> lane number
	near      *nft.Set // forwards with near targets -> lane number for clients that are near
	far       *nft.Set // the same for the others
	targets   *nft.Set // address, protocol, port, slot -> address, port
	rejected  *nft.Set // forwards without targets
	dropped   *nft.Set // the same, silent
	elsewhere *nft.Set // forwards that another load balancer leads to their targets
	hairpin   *nft.Set // target to itself
	// masquerade holds forwards and whose connections to masquerade (modes);
	// those of which only hairpins are, are not in it.
	masquerade *nft.Set
	sticky     *nft.Set // forwards with affinity -> number of the lane that learns
	affinity   *nft.Set // client, address, protocol, port -> target that it has
	choosy     *nft.Set // forwards that allow only some sources
	allowed    *nft.Set // forward . range of sources
	denied     *nft.Set // forward . range of sources
	draining   *nft.Set // forward and target that went -> when, for Client.Drain alone
	local      *nft.Set // ranges of the host's addresses that serve node ports

	pools pools // what networks leave under

	localhost localhost

	suffix string
}

func (l *layout) families() [2]*family { return [2]*family{&l.v4, &l.v6} }

func (l *layout) of(a netip.Addr) *family {
	if a.Is4() {
		return &l.v4
	}
	return &l.v6
}

// mapOf is the map that leads to a lane.
func (l *layout) mapOf(ln lane) *nft.Set {
	switch {
	case ln.learn != 0:
		return l.learn
	case ln.side != plain:
		return l.draws
	}
	return l.lanes
}

// shift is where the lane's number stands in the mark.
func (l *layout) shift() uint8 { return uint8(bits.TrailingZeros32(l.mark)) }

// capacity is the number of lanes that the mark can tell apart.
func (l *layout) capacity() int { return 1<<(32-l.shift()) - 1 }

// Hook priorities of netfilter (linux/netfilter_ipv4.h).
const (
	priorityDNAT   = -100
	priorityFilter = 0
	prioritySNAT   = 100
)

var (
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
)

func newLayout(c Config) *layout {
	l := &layout{mark: c.Mark, counters: c.Counters}
	l.v4 = newFamily("4", nft.IPSaddr, nft.IPDaddr, nft.CTOrigSaddr4, nft.CTOrigDaddr4, netip.MustParsePrefix("224.0.0.0/4"), loopback4)
	l.v6 = newFamily("6", nft.IP6Saddr, nft.IP6Daddr, nft.CTOrigSaddr6, nft.CTOrigDaddr6, netip.MustParsePrefix("ff00::/8"), loopback6)
	l.interception = newInterception(l.families())
	l.lanes = &nft.Set{
		Name: "lanes", Key: []nft.Expr{nft.MetaMark}, Verdict: true,
		Comment: "lane number in the mark -> chain that draws a slot",
	}
	l.learn = &nft.Set{
		Name: "learners", Key: []nft.Expr{nft.MetaMark}, Verdict: true,
		Comment: "lane number in the mark -> chain that keeps a client's target",
	}
	l.draws = &nft.Set{
		Name: "draws", Key: []nft.Expr{nft.MetaMark}, Verdict: true,
		Comment: "lane number in the mark -> chain that draws a slot, near and far",
	}
	l.table = &nft.Table{
		Family: nft.FamilyInet, Name: c.Table, Comment: "podplumb nat", Owned: !c.Shared,
		Sets: []*nft.Set{l.lanes, l.draws, l.learn},
	}
	if l.counters {
		l.table.Comment += ", counting"
	}
	for _, f := range l.families() {
		l.table.Sets = append(l.table.Sets, f.sets()...)
	}
	l.table.Sets = append(l.table.Sets, l.interception.sets()...)
	return l
}

// whole is the table with its chains, which are made when they are first
// needed, to be written or compared: the process of a single change mostly
// does neither.
func (l *layout) whole() *nft.Table {
	l.chain.Do(func() { l.table.Chains = l.chains() })
	return l.table
}

func newFamily(suffix string, saddr, daddr, originSource, origin nft.Load, multicast, loopback netip.Prefix) family {
	key := nft.Concat{daddr, nft.MetaL4Proto, nft.ThDport}
	f := family{
		pools: newPools(suffix, saddr),

		localhost: newLocalhost(suffix, saddr),
		suffix:    suffix, saddr: saddr, daddr: daddr, originSource: originSource, origin: origin, key: key,
		nodeKey:   nft.Concat{nft.Zeroed{Of: daddr}, nft.MetaL4Proto, nft.ThDport},
		multicast: multicast, loopback: loopback,
	}
	f.networks = &nft.Set{Name: "networks" + suffix, Key: []nft.Expr{saddr}, Interval: true, Comment: "sources to masquerade"}
	f.excluded = &nft.Set{Name: "excluded" + suffix, Key: []nft.Expr{daddr}, Interval: true, Comment: "destinations never translated"}
	f.virtual = &nft.Set{Name: "virtual" + suffix, Key: []nft.Expr{daddr}, Verdict: true, Interval: true, Comment: "ranges that exist only as forwards"}
	f.addresses = &nft.Set{Name: "addresses" + suffix, Key: []nft.Expr{daddr}, Comment: "addresses of forwards"}
	f.forwards = &nft.Set{Name: "forwards" + suffix, Key: key, Data: []nft.Expr{nft.MetaMark}, Comment: "forward -> lane number"}
	f.near = &nft.Set{Name: "near" + suffix, Key: key, Data: []nft.Expr{nft.MetaMark}, Comment: "forward -> lane number for near clients"}
	f.far = &nft.Set{Name: "far" + suffix, Key: key, Data: []nft.Expr{nft.MetaMark}, Comment: "forward -> lane number for the others"}
	f.targets = &nft.Set{
		Name: "targets" + suffix, Key: append(append([]nft.Expr{}, key...), nft.Random(maxSlots)),
		Data: []nft.Expr{daddr, nft.ThDport}, Comment: "forward and slot -> target",
	}
	f.rejected = &nft.Set{Name: "rejected" + suffix, Key: key, Comment: "forwards without targets"}
	f.dropped = &nft.Set{Name: "dropped" + suffix, Key: key, Comment: "forwards without targets, silent"}
	f.elsewhere = &nft.Set{Name: "elsewhere" + suffix, Key: key, Comment: "forwards of another load balancer"}
	f.hairpin = &nft.Set{Name: "hairpin" + suffix, Key: []nft.Expr{saddr, daddr}, Comment: "targets that reach themselves"}
	f.masquerade = &nft.Set{Name: "masquerade" + suffix, Key: key, Data: []nft.Expr{nft.MetaMark}, Comment: "forward -> 1 all, 2 from outside, 4 from the host"}
	f.sticky = &nft.Set{Name: "sticky" + suffix, Key: key, Data: []nft.Expr{nft.MetaMark}, Comment: "forward with affinity -> lane number"}
	f.affinity = &nft.Set{
		Name: "affinity" + suffix, Key: append([]nft.Expr{saddr}, key...), Data: []nft.Expr{daddr, nft.ThDport},
		Dynamic: true, Size: maxClients, Comment: "client and forward -> its target",
	}
	withSource := append(append([]nft.Expr{}, key...), saddr)
	f.choosy = &nft.Set{Name: "choosy" + suffix, Key: key, Comment: "forwards that allow only some sources"}
	f.allowed = &nft.Set{Name: "allowed" + suffix, Key: withSource, Interval: true, Comment: "forward and the sources that it allows"}
	f.denied = &nft.Set{Name: "denied" + suffix, Key: withSource, Interval: true, Comment: "forward and the sources that it denies"}
	f.draining = &nft.Set{Name: "draining" + suffix, Key: append(append([]nft.Expr{}, key...), daddr, nft.ThDport), Comment: "forwards and targets that went, to be cut later"}
	f.local = &nft.Set{Name: "local" + suffix, Key: []nft.Expr{daddr}, Interval: true, Comment: "own addresses that serve node ports"}
	return f
}

func (f *family) is4() bool { return f.suffix == "4" }

func (f *family) addrSize() int {
	if f.is4() {
		return 4
	}
	return 16
}

// keyFor is what finds a forward, or a node port, in the maps.
func (f *family) keyFor(node bool) nft.Concat {
	if node {
		return f.nodeKey
	}
	return f.key
}

// maxClients bounds the clients whose targets are known. More go to any
// target.
const maxClients = 1 << 18

func (f *family) sets() []*nft.Set {
	return []*nft.Set{
		f.networks, f.excluded, f.virtual, f.addresses, f.forwards, f.near, f.far, f.targets,
		f.rejected, f.dropped, f.elsewhere, f.hairpin, f.masquerade, f.sticky, f.affinity, f.choosy, f.allowed, f.denied, f.draining, f.local,
		f.pools.choice, f.pools.addrs, f.pools.ports, f.localhost.source, f.localhost.ends,
	}
}

// chain makes a chain; rule makes a rule.
func chain(name string, rules ...nft.Rule) *nft.Chain { return &nft.Chain{Name: name, Rules: rules} }

func rule(stmts ...nft.Stmt) nft.Rule { return nft.Rule{Stmts: stmts} }

func hooked(typ string, point nft.HookPoint, priority int32, rules ...nft.Rule) *nft.Chain {
	return &nft.Chain{Name: point.String(), Hook: &nft.Hook{Type: typ, Point: point, Priority: priority}, Rules: rules}
}

var ret = nft.Verdict{Code: nft.Return}

func jump(to string) nft.Verdict { return nft.Verdict{Code: nft.Jump, Chain: to} }
func goTo(to string) nft.Verdict { return nft.Verdict{Code: nft.Goto, Chain: to} }
func isTCP() nft.Stmt            { return nft.Is{Field: nft.MetaL4Proto, Value: []byte{byte(TCP)}, Text: "tcp"} }
func isLocal(no bool) nft.Stmt {
	return nft.Is{Field: nft.FibDaddrType, Value: nft.AppendUint32(nil, 2), Text: "local", Not: no}
}
func inSet(k nft.Expr, s *nft.Set) nft.Stmt { return nft.In{Key: k, Set: s} }

// Conntrack bits (linux/netfilter/nf_conntrack_common.h).
var (
	knownState = nft.Any{Field: nft.CTStateField, Bits: 1<<1 | 1<<2, Text: "established,related"}
	translated = nft.Any{Field: nft.CTStatusBits, Bits: 1 << 5, Text: "dnat"}
)

func (l *layout) chains() []*nft.Chain {
	dispatch, nodes := chain("dispatch"), chain("nodes")
	refuse := chain("refuse", rule(knownState, ret), rule(translated, jump("learn")), rule(translated, ret))
	learn := chain("learn", rule(l.toProxy(), isLocal(false), ret))
	post := hooked("nat", nft.Postrouting, prioritySNAT, rule(translated, jump("translated")))
	back := chain("translated")
	bit := func(m Masquerade) nft.Stmt {
		n := modes[m] << l.shift()
		return nft.Any{Field: nft.MetaMark, Bits: n, Text: fmt.Sprintf("& 0x%08x != 0", n)}
	}
	unmark := nft.ClearMark{Bits: l.mark}
	whom := chain("whom",
		rule(bit(MasqueradeAll), unmark, nft.Masquerade{}),
		rule(bit(MasqueradeRemote), unmark, goTo("remote")),
		rule(unmark, fromHost(), nft.Masquerade{}))
	remote := chain("remote")
	var onLoopback []nft.Rule
	var perFamily []*nft.Chain
	for _, f := range l.families() {
		dispatch.Rules = append(dispatch.Rules, f.dispatch()...)
		nodes.Rules = append(nodes.Rules, f.nodes()...)
		onLoopback = append(onLoopback, twice(f.onLoopback())...)
		back.Rules = append(back.Rules, l.interception.stays(f)...)
		refuse.Rules = append(refuse.Rules, f.refuse()...)
		back.Rules = append(back.Rules, f.back(l)...)
		remote.Rules = append(remote.Rules, rule(inSet(f.saddr, f.networks), ret), rule(inSet(f.saddr, f.excluded), ret))
		learn.Rules = append(learn.Rules, f.learn(l)...)
		post.Rules = append(post.Rules, rule(inSet(f.asked(), f.elsewhere), jump("translated")), rule(inSet(f.saddr, f.networks), jump("outbound"+f.suffix)))
		perFamily = append(append(perFamily, f.pools.chains(f.suffix)...),
			l.serve("serve"+f.suffix, f, false),
			l.serve("node"+f.suffix, f, true),
			l.nearLanes(f, false),
			l.nearLanes(f, true),
			chain("outbound"+f.suffix,
				rule(inSet(f.daddr, f.networks), ret), rule(inSet(f.daddr, f.excluded), ret),
				rule(nft.Within{Field: f.daddr, Prefix: f.multicast}, ret), rule(nft.Within{Field: f.daddr, Prefix: f.loopback}, ret),
				rule(nft.VMap{Key: f.saddr, Map: f.pools.choice}), rule(nft.Masquerade{})),
			// An address of a forward may be local by a route: its ports are refused here.
			chain("silence"+f.suffix, rule(inSet(f.daddr, f.addresses), goTo("rejection")), rule(nft.Verdict{Code: nft.Drop})),
		)
	}
	remote.Rules = append(remote.Rules, rule(nft.Masquerade{}))
	// "reject" is a word of nft: a chain of that name cannot be loaded from a listing.
	reject := chain("rejection", rule(isTCP(), nft.Reject{Reset: true}), rule(nft.Reject{}))
	prerouting := append(l.waysIn("capture-in"), rule(jump("dispatch")), l.redirectTo(l.redirected), rule(jump("nodes")))
	output := hooked("nat", nft.Output, priorityDNAT, append(l.waysOut("capture-out"),
		append([]nft.Rule{rule(jump("dispatch")), l.redirectTo(l.redirectOwn), rule(jump("nodes"))}, onLoopback...)...)...)
	outputCheck := hooked("filter", nft.Output, priorityFilter, append(l.onOutput(), rule(jump("refuse")))...)
	outputCheck.Name = "output-refuse"
	localhost := l.localhostChains()
	return append(append([]*nft.Chain{
		hooked("nat", nft.Prerouting, priorityDNAT, prerouting...),
		output, dispatch, nodes, l.redirectChain(),
	}, append(append(l.interception.capture(nil), proxyOnly()), perFamily...)...),
		hooked("filter", nft.Forward, priorityFilter, rule(jump("refuse"))),
		hooked("filter", nft.Input, priorityFilter, append(l.onInput(), rule(jump("refuse")))...),
		localhost[0], localhost[1], outputCheck, refuse, reject, learn, post, back, whom, remote,
	)
}

// serve is the chain that finds a forward's lane.
func (l *layout) serve(name string, f *family, node bool) *nft.Chain {
	put := rule(l.put(f.keyFor(node), f.forwards))
	put.Comment = "the other bits of the mark are kept"
	key := f.keyFor(node)
	source := append(append(nft.Concat{}, key...), f.saddr)
	drop, accept := nft.Verdict{Code: nft.Drop}, nft.Verdict{Code: nft.Accept}
	c := chain(name,
		rule(inSet(key, f.choosy), nft.In{Key: source, Set: f.allowed, Not: true}, drop),
		rule(inSet(source, f.denied), drop),
		rule(nft.ClearMark{Bits: l.mark}), put,
		rule(nft.VMap{Key: nft.Masked{Of: nft.MetaMark, Mask: l.mark}, Map: l.lanes}))
	if !node {
		// What has no targets is refused later, and no node port stands in for it, nor for what others lead.
		c.Rules = append(c.Rules, rule(inSet(key, f.rejected), accept), rule(inSet(key, f.dropped), accept), rule(inSet(key, f.elsewhere), accept))
	}
	return c
}

// dispatch sends packets to the forwards of their address.
func (f *family) dispatch() []nft.Rule {
	return twice(rule(inSet(f.daddr, f.addresses), jump("serve"+f.suffix)))
}

// nodes sends packets to the node ports.
func (f *family) nodes() []nft.Rule {
	return twice(rule(inSet(f.daddr, f.local), isLocal(false), jump("node"+f.suffix)))
}

func twice(r nft.Rule) []nft.Rule {
	again := r
	again.Comment = "again, should a change have come in between"
	return []nft.Rule{r, again}
}

// refuse turns away what should have been translated and was not.
func (f *family) refuse() []nft.Rule {
	drop := nft.Verdict{Code: nft.Drop}
	return append([]nft.Rule{
		rule(inSet(f.key, f.elsewhere), ret),
		rule(inSet(f.key, f.rejected), goTo("rejection")),
		rule(inSet(f.key, f.dropped), drop),
		rule(inSet(f.nodeKey, f.rejected), inSet(f.daddr, f.local), isLocal(false), goTo("rejection")),
		rule(inSet(f.nodeKey, f.dropped), inSet(f.daddr, f.local), isLocal(false), drop),
		rule(inSet(f.daddr, f.addresses), isLocal(true), goTo("rejection")),
		rule(nft.VMap{Key: f.daddr, Map: f.virtual}),
	}, f.refuseLoopback()...)
}

// learn leads new connections of forwards with affinity to the lane that
// keeps their target.
func (f *family) learn(l *layout) []nft.Rule {
	var rules []nft.Rule
	for _, addr := range []nft.Expr{nft.Zeroed{Of: f.origin}, f.origin} {
		key := nft.Concat{addr, nft.MetaL4Proto, nft.CTOrigProtoDst}
		rules = append(rules, rule(l.put(key, f.sticky)))
	}
	own := f.own()
	return append([]nft.Rule{rule(own, nft.ClearMark{Bits: l.mark})},
		append(rules, rule(own, nft.VMap{Key: nft.Masked{Of: nft.MetaMark, Mask: l.mark}, Map: l.learn}))...)
}

// back gives translated connections a source that answers come back to. A
// forward of the address itself says whom to masquerade before the node port
// of its port does.
func (f *family) back(l *layout) []nft.Rule {
	node := nft.Concat{nft.Zeroed{Of: f.origin}, nft.MetaL4Proto, nft.CTOrigProtoDst}
	return []nft.Rule{
		rule(inSet(nft.Concat{f.saddr, f.daddr}, f.hairpin), nft.Masquerade{}),
		rule(nft.Within{Field: f.origin, Prefix: f.loopback}, nft.Masquerade{}),
		rule(l.put(f.asked(), f.masquerade), goTo("whom")),
		rule(l.put(f.asked(), f.forwards), nft.ClearMark{Bits: l.mark}, ret),
		rule(inSet(f.asked(), f.elsewhere), ret),
		rule(l.put(node, f.masquerade), goTo("whom")),
	}
}

// asked is the forward that a connection was opened to.
func (f *family) asked() nft.Concat { return nft.Concat{f.origin, nft.MetaL4Proto, nft.CTOrigProtoDst} }
