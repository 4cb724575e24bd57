package policy

import (
	"slices"

	"github.com/podplumb/podplumb/internal/nft"
)

// draft is a chain being written, with what it refers to.
type draft struct {
	cfg      *Config
	d, f     int
	rules    []nft.Rule
	sets     []*wantSet
	counters []*wantCounter
	blocks   []*blocks
	subs     []*draft // chains that it leads to
	called   string   // its name, once it has one
	cleared  bool     // the last rule has cleared the mark if the packet is allowed
	scratch  []byte
}

// wantCounter is a counter and what it counts.
type wantCounter struct {
	name, label string
	by          Decision
}

func counterOf(by Decision) *wantCounter { return &wantCounter{by.counter(), by.label(), by} }

// Verdicts within a profile: what is allowed returns to where both ends are asked.
var (
	allow nft.Stmt = nft.Verdict{Code: nft.Return}
	pass  nft.Stmt = nft.Verdict{Code: nft.Accept}
	drop  nft.Stmt = nft.Verdict{Code: nft.Drop}

	toRefuse nft.Stmt = nft.Verdict{Code: nft.Goto, Chain: refuseChain}
)

// TCP's flags, and the one that begins a connection.
const (
	tcpFlags = 0x17 // FIN, SYN, RST, ACK
	tcpSyn   = 0x02
)

// draft writes the chain of a profile.
func (r *recipe) draft(with *making) *draft {
	cfg := with.cfg
	m := &draft{cfg: cfg, d: r.d, f: r.f}
	own, hasOwn := isOneOf(peerField(r.d, r.f), r.f, r.own)
	if !r.shared && r.d == egress {
		set := with.set("own", r.f, 0, func() *wantSet { return ownSet(r.f) })
		own, hasOwn = condition{[]nft.Stmt{nft.In{Key: nft.Concat{subjectField(r.d, r.f), peerField(r.d, r.f)}, Set: set.def}}, []*wantSet{set}}, true
	} else if hasOwn && r.d == ingress { // of others it is asked before
		m.match(own, allow)
	}
	if r.open() {
		return m
	}
	if !r.passes() {
		m.clauses(r, r.admin, allow)
		m.rest(r, own, hasOwn)
		return m
	}
	// Where an administrator's rule passes, what comes after the tier is a chain of its own.
	rest := &draft{cfg: cfg, d: r.d, f: r.f}
	rest.rest(r, own, hasOwn)
	onward := allow
	if len(rest.rules) > 0 {
		onward = m.leadTo(rest)
	}
	m.clauses(r, r.admin, onward)
	if len(rest.rules) > 0 {
		m.add("", onward)
	}
	return m
}

// passes says that a rule of the Admin tier may skip the rest of it.
func (r *recipe) passes() bool {
	return slices.ContainsFunc(r.admin, func(p *rules) bool {
		return slices.ContainsFunc(clusterRules(p.cluster, directionOf(r.d)), func(rule clusterRule) bool { return rule.action == Pass })
	})
}

// rest writes what is asked after the Admin tier: the NetworkPolicies if there are any, else the Baseline.
func (m *draft) rest(r *recipe, own condition, hasOwn bool) {
	if len(r.network) == 0 {
		m.clauses(r, r.baseline, allow)
		return
	}
	// Egress to the own node escapes the isolation.
	home := allow
	if r.d == egress && len(r.baseline) > 0 {
		base := &draft{cfg: m.cfg, d: r.d, f: r.f}
		if base.clauses(r, r.baseline, allow); len(base.rules) > 0 {
			home = m.leadTo(base)
		}
	}
	if r.d == egress && hasOwn {
		m.match(own, home)
	}
	m.clauses(r, r.network, allow)
	if r.d == egress {
		m.match(condition{stmts: []nft.Stmt{isLocal(nft.FibDaddrType)}}, home)
	}
	by := Decision{Direction: directionOf(r.d), Reason: ByIsolation, Tier: NetworkPolicyTier}
	for _, p := range r.network {
		by.Isolating = append(by.Isolating, p.key.name)
	}
	// What entries allow has cleared the mark.
	var still condition
	if m.cleared {
		still.stmts, m.cleared = []nft.Stmt{m.cfg.marked()}, false
	}
	m.deny(still, by)
}

// clauses writes policies of one tier; next is where Pass leads.
func (m *draft) clauses(r *recipe, list []*rules, next nft.Stmt) {
	for _, p := range list {
		made := p.clauses(m.cfg, r)
		m.rules, m.counters = slices.Grow(m.rules, len(made)+1), slices.Grow(m.counters, len(made)+1)
		for i := range made {
			c := &made[i]
			if c.action == Pass {
				m.count(c, next)
				continue
			}
			m.onward()
			m.rules = append(m.rules, c.rules...)
			m.sets = append(m.sets, c.sets...)
			if c.blocks == nil {
				m.counters = append(m.counters, c.counter)
				continue
			}
			m.blocks = append(m.blocks, c.blocks)
			m.cleared = true
		}
	}
}

// onward lets what the last rule has allowed go before there is another.
func (m *draft) onward() {
	if m.cleared {
		m.cleared = false
		m.add("", nft.MaskedIs{Of: nft.Masked{Of: nft.MetaMark, Mask: m.cfg.Mark}}, allow)
	}
}

func (m *draft) add(text string, stmts ...nft.Stmt) {
	m.onward()
	r := nft.Rule{Stmts: stmts, Comment: text}
	r, m.scratch = r.Sealed(m.scratch)
	m.rules = append(m.rules, r)
}

func (m *draft) match(c condition, v nft.Stmt) {
	m.add("", append(slices.Clip(c.stmts), v)...)
	m.sets = append(m.sets, c.sets...)
}

func (m *draft) count(c *clause, v nft.Stmt) {
	m.add(c.counter.label, append(slices.Clip(c.stmts), nft.Count{Counter: c.counter.name}, v)...)
	m.sets = append(m.sets, c.sets...)
	m.counters = append(m.counters, c.counter)
}

// deny refuses, counts and tells.
func (m *draft) deny(c condition, by Decision) {
	n := counterOf(by)
	for _, r := range m.cfg.refuse(c.stmts, n) {
		m.add(r.Comment, r.Stmts...)
	}
	m.sets = append(m.sets, c.sets...)
	m.counters = append(m.counters, n)
}

// refuse is the rules for what is denied.
func (c *Config) refuse(stmts []nft.Stmt, n *wantCounter) []nft.Rule {
	stmts = slices.Clip(stmts)
	refusal := nft.Rule{Stmts: append(stmts, nft.Count{Counter: n.name}, c.refusal()), Comment: n.label}
	if c.Log.Group == 0 {
		return []nft.Rule{refusal}
	}
	limit := nft.Limit{Rate: c.Log.Rate, Burst: c.Log.Rate}
	return []nft.Rule{{Stmts: append(stmts, limit, nft.Log{Group: c.Log.Group, Prefix: n.name, Bytes: logBytes})}, refusal}
}

// logBytes is how much of a denied packet is handed on: the longest IP header and the beginning of the next.
const logBytes = 128

// refusal ends the way of what is denied.
func (c *Config) refusal() nft.Stmt {
	if c.Reject {
		return toRefuse
	}
	return drop
}

// leadTo makes a chain one that m leads to.
func (m *draft) leadTo(sub *draft) nft.Stmt {
	m.subs = append(m.subs, sub)
	return nft.Verdict{Code: nft.Goto, Chain: sub.name()}
}

// name is made of the rules, so that equal chains are one.
func (m *draft) name() string {
	if m.called == "" {
		b := m.scratch[:0]
		for i := range m.rules {
			seal := m.rules[i].Seal()
			b = append(b, seal[:]...)
		}
		m.called, m.scratch = dirName(m.d)+suffix(m.f)+"-"+digestOf(b), nil
	}
	return m.called
}

// inTurn is a chain that asks several others, all of which must allow.
func inTurn(cfg *Config, d, f int, list []*draft) *draft {
	m := &draft{cfg: cfg, d: d, f: f}
	for _, sub := range list {
		m.subs = append(m.subs, sub)
		m.add("", jump(sub.name()))
	}
	return m
}
