package policy

import (
	"fmt"
	"net/netip"
	"slices"
)

// place is where the packets of an address are led in each direction; an empty name leads nowhere.
type place struct {
	chains [directions]string
	self   []string // elements of the set of those that reach themselves
	own    []string // elements of the set of own nodes
	known  bool     // not cut off by Local
}

func (p *place) empty() bool { return p.chains == [directions]string{} && !p.known }

// chainUse is a chain that addresses or other chains lead to.
type chainUse struct {
	draft *draft
	refs  int
}

type counterUse struct {
	*wantCounter
	refs int
}

// idle lists what has lost its last user, and may have found another since.
type idle struct {
	heads    []head
	chains   []string
	groups   []*setUse
	sets     []string
	counters []string
	matchers []*matcher
}

// head is a chain that addresses are led to.
type head struct {
	d, f int
	name string
}

// find says where an address belongs now.
func (w *world) find(a netip.Addr) (now place, drafts [directions]*draft) {
	owners, f := w.owners[a], addrFamily(a)
	if !slices.ContainsFunc(owners, func(p *pod) bool { return p.local }) {
		return now, drafts
	}
	now.known = w.fenced()
	some := false
	for d := range directions {
		drafts[d] = w.profile(owners, d, f)
		some = some || drafts[d] != nil
	}
	if !some {
		return now, drafts
	}
	for d := range directions {
		if drafts[d] == nil && !w.cfg.KeepLive {
			drafts[d] = w.made(&recipe{d: d, f: f})
		}
		if drafts[d] != nil {
			now.chains[d] = drafts[d].name()
		}
	}
	if len(owners) == 1 {
		for _, b := range owners[0].addrs {
			if addrFamily(b) == f && len(w.owners[b]) == 1 {
				now.self = append(now.self, string(a.AsSlice())+string(b.AsSlice()))
			}
		}
	}
	for _, b := range w.ownAddrs(owners[0], f) {
		if !slices.ContainsFunc(owners[1:], func(p *pod) bool { return !slices.Contains(w.ownAddrs(p, f), b) }) {
			now.own = append(now.own, string(a.AsSlice())+string(b.AsSlice()))
		}
	}
	return now, drafts
}

// profile is the chain of an address; nil when no policy is for any of its pods.
func (w *world) profile(owners []*pod, d, f int) *draft {
	var list []*draft
	for _, p := range owners {
		r := w.recipe(p, d, f)
		if r.open() {
			continue
		}
		if len(owners) > 1 {
			r.shared, r.own, r.ports = true, w.ownAddrs(p, f), p.ports
		}
		list = append(list, w.made(&r))
	}
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	return inTurn(w.cfg, d, f, list)
}

// made returns the draft of a recipe; for one that is in use, the same again.
func (w *world) made(r *recipe) *draft {
	key := r.key()
	if m := w.recipes[key]; m != nil {
		return m
	}
	m := r.draft(w.making)
	if use := w.chains[m.name()]; use != nil {
		m = use.draft
	}
	w.recipes[key] = m
	keys := append(w.keys[m.name()], key)
	if len(keys) > maxKeys {
		for _, k := range keys[:len(keys)-1] {
			delete(w.recipes, k)
		}
		keys = keys[len(keys)-1:]
	}
	w.keys[m.name()] = keys
	return m
}

// maxKeys bounds the recipes that are remembered for one chain.
const maxKeys = 64

// place leads an address to the profiles that it has now.
func (w *world) place(a netip.Addr) {
	was := w.placed[a]
	now, drafts := w.find(a)
	f := addrFamily(a)
	for d := range directions {
		if was.chains[d] == now.chains[d] {
			continue
		}
		if name := was.chains[d]; name != "" {
			left := w.heads[d][f][name]
			if left.drop(a); left.len() == 0 {
				w.idle.heads = append(w.idle.heads, head{d, f, name})
			}
			w.heads[d][f][name] = left
		}
		if name := now.chains[d]; name != "" {
			users, ok := w.heads[d][f][name]
			if !ok {
				w.useChain(drafts[d])
				if !w.slots[d][f].add(name) {
					w.err = fmt.Errorf("%w: the mark 0x%08x tells %d profiles of a direction apart", ErrTooMany, w.cfg.Mark, w.slots[d][f].size)
				}
			}
			users.add(a)
			w.heads[d][f][name] = users
		}
		w.unled[a] = struct{}{}
		w.touch(a)
	}
	w.pairs(w.lay.self[f], was.self, now.self)
	if !slices.Equal(was.own, now.own) {
		w.pairs(w.lay.own[f], was.own, now.own)
		w.touch(a)
	}
	if was.known != now.known {
		w.touch(a)
		w.keep(w.lay.known[f].set, string(a.AsSlice()), "", now.known)
	}
	if w.placed[a] = now; now.empty() {
		delete(w.placed, a)
	}
}

// pairs puts elements in the place of others.
func (w *world) pairs(s *setUse, was, now []string) {
	for _, key := range was {
		if !slices.Contains(now, key) {
			w.keep(s.set, key, "", false)
		}
	}
	for _, key := range now {
		w.keep(s.set, key, "", true)
	}
}

// lead writes the numbers of an address's profiles.
func (w *world) lead(a netip.Addr) {
	p, f := w.placed[a], addrFamily(a)
	for d := range directions {
		name := p.chains[d]
		number := markElement(w.slots[d][f].of[name])
		w.keep(w.lay.leads[d][f].set, string(a.AsSlice()), number, name != "")
	}
}

// renumber writes which chain a number leads to, and the addresses whose number is another.
func (w *world) renumber() {
	for d := range directions {
		for f := range families {
			s := w.slots[d][f]
			for n := range s.changed {
				name := s.at[n]
				w.keep(w.lay.chains[d][f].set, markElement(n<<w.cfg.shift()), name, name != "")
			}
			for name := range s.moved {
				w.heads[d][f][name].each(func(a netip.Addr) { w.unled[a] = struct{}{} })
			}
			s.settled()
		}
	}
	for a := range w.unled {
		w.lead(a)
	}
	clear(w.unled)
}

// useChain counts one more user of a chain and adds it for the first.
func (w *world) useChain(m *draft) {
	name := m.name()
	use := w.chains[name]
	if use == nil {
		use = &chainUse{draft: m}
		w.chains[name] = use
		for _, sub := range m.subs {
			w.useChain(sub)
		}
		for _, s := range m.sets {
			w.useSet(s)
		}
		for _, c := range m.counters {
			w.useCounter(c)
		}
		for _, b := range m.blocks {
			w.useBlocks(b)
		}
		w.rules.addChain(name, nil, m.rules)
	}
	use.refs++
}

func (w *world) useCounter(c *wantCounter) {
	use := w.counters[c.name]
	if use == nil {
		use = &counterUse{wantCounter: c}
		w.counters[c.name] = use
		w.rules.addCounter(c.name, c.label)
	}
	use.refs++
}

// sweep lets go what nobody uses any more.
func (w *world) sweep() {
	for _, h := range w.idle.heads {
		if users, ok := w.heads[h.d][h.f][h.name]; ok && users.len() == 0 {
			delete(w.heads[h.d][h.f], h.name)
			w.slots[h.d][h.f].drop(h.name)
			w.unuseChain(h.name)
		}
	}
	for i := 0; i < len(w.idle.chains); i++ {
		name := w.idle.chains[i]
		use := w.chains[name]
		if use == nil || use.refs > 0 {
			continue
		}
		for _, sub := range use.draft.subs {
			w.unuseChain(sub.name())
		}
		for _, b := range use.draft.blocks {
			w.unuseBlocks(b)
		}
		for _, s := range use.draft.sets {
			w.unuseSet(s.def.Name)
		}
		for _, c := range use.draft.counters {
			if w.counters[c.name].refs--; w.counters[c.name].refs == 0 {
				w.idle.counters = append(w.idle.counters, c.name)
			}
		}
		delete(w.chains, name)
		w.rules.dropChain(name)
	}
	for _, g := range w.idle.groups {
		w.dropPeers(g)
	}
	for _, name := range w.idle.sets {
		if s := w.sets[name]; s != nil && s.refs == 0 {
			w.dropSet(s)
		}
	}
	for _, name := range w.idle.counters {
		if c := w.counters[name]; c != nil && c.refs == 0 {
			delete(w.counters, name)
			w.rules.dropCounter(name)
		}
	}
	for _, m := range w.idle.matchers {
		w.release(m)
	}
	// Recipes name policies by revision: those of policies that are gone are never asked for again.
	for _, name := range w.idle.chains {
		if w.chains[name] == nil {
			for _, key := range w.keys[name] {
				delete(w.recipes, key)
			}
			delete(w.keys, name)
		}
	}
	w.idle = idle{}
}

func (w *world) unuseChain(name string) {
	use := w.chains[name]
	if use.refs--; use.refs == 0 {
		w.idle.chains = append(w.idle.chains, name)
	}
}
