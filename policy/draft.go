package policy

import (
	"slices"
	"strings"

	"github.com/podplumb/podplumb/internal/nft"
)

// draft is a chain being written, with what it refers to.
type draft struct {
	cfg      *Config
	d, f     int
	rules    []nft.Rule
	sets     []*wantSet
	counters []wantCounter
	subs     []*draft // chains that it leads to
	called   string   // its name, once it has one
}

// wantCounter is a counter and what it counts.
type wantCounter struct {
	name string
	by   Decision
}

// Verdicts within a profile: what is allowed returns to where both ends are asked.
var (
	allow = nft.Verdict{Code: nft.Return}
	pass  = nft.Verdict{Code: nft.Accept}
)

// TCP's flags, and the one that begins a connection.
const (
	tcpFlags = 0x17 // FIN, SYN, RST, ACK
	tcpSyn   = 0x02
)

// draft writes the chain of a profile.
func (r *recipe) draft(cfg *Config) *draft {
	m := &draft{cfg: cfg, d: r.d, f: r.f}
	m.add("", nft.ClearMark{Bits: cfg.Mark})
	self := selfSet(r.f)
	m.match(condition{[]nft.Stmt{nft.In{Key: nft.Concat{saddr[r.f], daddr[r.f]}, Set: self.def}}, []*wantSet{self}}, allow)
	own, hasOwn := isOneOf(peerField(r.d, r.f), r.f, r.own)
	if hasOwn && r.d == ingress {
		m.match(own, allow)
	}
	if !cfg.KeepLive {
		stray := condition{stmts: []nft.Stmt{isProto(TCP), nft.Bits{Field: nft.TCPFlags, Mask: tcpFlags, Value: tcpSyn, Not: true}}}
		m.deny(stray, Decision{Direction: directionOf(r.d), Reason: Midstream})
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
	m.deny(condition{}, by)
}

// clauses writes policies of one tier; next is where Pass leads.
func (m *draft) clauses(r *recipe, list []*rules, next nft.Verdict) {
	for _, p := range list {
		for _, c := range p.clauses(r.d, r.f, r.ports) {
			switch c.action {
			case Deny:
				m.deny(c.condition, c.by)
			case Pass:
				m.count(c, next)
			default:
				m.count(c, allow)
			}
		}
	}
}

func (m *draft) add(text string, stmts ...nft.Stmt) {
	m.rules = append(m.rules, nft.Rule{Stmts: stmts, Comment: text})
}

func (m *draft) match(c condition, v nft.Verdict) {
	m.add("", append(slices.Clip(c.stmts), v)...)
	m.sets = append(m.sets, c.sets...)
}

func (m *draft) count(c clause, v nft.Verdict) {
	m.add(c.by.label(), append(slices.Clip(c.stmts), nft.Count{Counter: c.counter}, v)...)
	m.sets = append(m.sets, c.sets...)
	m.counters = append(m.counters, wantCounter{c.counter, c.by})
}

// deny refuses, counts and tells.
func (m *draft) deny(c condition, by Decision) {
	name := by.counter()
	if g := m.cfg.Log.Group; g != 0 {
		m.add("", append(slices.Clip(c.stmts), nft.Limit{Rate: m.cfg.Log.Rate, Burst: m.cfg.Log.Rate},
			nft.Log{Group: g, Prefix: name, Bytes: logBytes})...)
	}
	m.add(by.label(), append(slices.Clip(c.stmts), nft.Count{Counter: name}, m.cfg.refusal())...)
	m.sets = append(m.sets, c.sets...)
	m.counters = append(m.counters, wantCounter{name, by})
}

// logBytes is how much of a denied packet is handed on: the longest IP header and the beginning of the next.
const logBytes = 128

// refusal ends the way of what is denied.
func (c *Config) refusal() nft.Verdict {
	if c.Reject {
		return nft.Verdict{Code: nft.Goto, Chain: refuseChain}
	}
	return nft.Verdict{Code: nft.Drop}
}

// leadTo makes a chain one that m leads to.
func (m *draft) leadTo(sub *draft) nft.Verdict {
	m.subs = append(m.subs, sub)
	return nft.Verdict{Code: nft.Goto, Chain: sub.name()}
}

// name is made of the rules, so that equal chains are one.
func (m *draft) name() string {
	if m.called == "" {
		var b strings.Builder
		for i, r := range m.rules {
			text := r.String()
			m.rules[i] = r.Sealed(text)
			b.WriteString(text)
			b.WriteByte('\n')
		}
		m.called = strings.ToLower(string(directionOf(m.d))) + suffix(m.f) + "-" + digest(b.String())
	}
	return m.called
}

// inTurn is a chain that asks several others, all of which must allow.
func inTurn(cfg *Config, d, f int, list []*draft) *draft {
	m := &draft{cfg: cfg, d: d, f: f}
	for _, sub := range list {
		m.subs = append(m.subs, sub)
		m.add("", nft.Verdict{Code: nft.Jump, Chain: sub.name()})
	}
	return m
}
