package service

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
)

// Config says what a Proxy works for.
type Config struct {
	Node    Node    // the node that it runs on; its name decides which endpoints are local. The zero Node has none
	Backend Backend // required
}

// Proxy keeps a node's promises while the objects change. It holds the objects in a compact form, so that a change of one of them costs only what that
// one touches: the Service's Frontends are resolved again, and those that came out different go to the Backend. Its methods may be called at the same
// time.
//
// When the Backend fails, the Proxy keeps the new objects and hands over what is still missing with the next call; Update with empty Changes is enough.
// Frontends that the Backend cannot serve (*UnservedError) are taken away from it and named in the error, and the others are served all the same: one
// Service cannot keep a node from following the rest.
type Proxy struct {
	mu       sync.Mutex
	node     Node
	backend  Backend
	world    *world
	state    State // the settings alone
	owned    *claims
	promised map[Name][]Frontend
	behind   bool         // the Backend has to be told everything
	failed   map[Key]Name // it has to be told these again
	resolver resolver
}

// New returns a Proxy that promises nothing yet. It does not touch the Backend.
func New(c Config) (*Proxy, error) {
	if c.Backend == nil {
		return nil, &OpError{Op: "new", Object: "proxy", Err: &FieldError{Path: "backend", Err: errors.New("required")}}
	}
	if err := validateSelf(c.Node); err != nil {
		return nil, &OpError{Op: "new", Object: "proxy", Err: err}
	}
	p := &Proxy{node: c.Node, backend: c.Backend}
	p.reset(State{})
	return p, nil
}

// reset forgets everything and starts from the settings of s.
func (p *Proxy) reset(s State) {
	p.state = State{PodRanges: s.PodRanges, ServiceRanges: s.ServiceRanges, NodePorts: s.NodePorts, MasqueradeAll: s.MasqueradeAll, ProxyName: s.ProxyName}
	p.world = newWorld(newSettings(s, p.node), s)
	p.owned = newClaims(len(s.Services))
	p.promised = make(map[Name][]Frontend, len(s.Services))
	p.failed = map[Key]Name{}
	p.behind = true
}

// Sync takes s in place of all that the Proxy knew, and has the Backend do it and nothing else. The Plan is the difference to what was promised before.
// A faulty State is refused whole and changes nothing. Sync(ctx, State{}) leaves nothing behind.
func (p *Proxy) Sync(ctx context.Context, s State) (Plan, error) {
	services, err := s.check()
	if err != nil {
		return Plan{}, &OpError{Op: "sync", Object: "state", Err: err}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.frontends()
	p.reset(s)
	for i := range s.Nodes {
		if s.Nodes[i].Name == p.node.Name && p.node.Name != "" {
			p.node = s.Nodes[i]
			p.world.settings = newSettings(p.state, p.node)
		}
	}
	p.world.add(s, services)
	for _, d := range p.world.pods {
		d.labels = maps.Clone(d.labels)
	}
	for _, d := range services {
		p.owned.take(d, func(claim, string, Name) {})
		p.resolve(d.name)
	}
	all := p.frontends()
	plan := Diff(before, all)
	return plan, p.applyOf(ctx, "sync", plan, all)
}

// Update takes in what changed, and has the Backend do what follows from it; when nothing does, the Backend is not called. Faulty Changes are refused
// whole and change nothing. The cost does not depend on how many objects there are, but for a change of the zone of a node or of the Proxy's own Node.
func (p *Proxy) Update(ctx context.Context, c Changes) (Plan, error) {
	if err := c.Validate(); err != nil {
		return Plan{}, &OpError{Op: "update", Object: "changes", Err: err}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t, err := p.world.take(c, p.owned)
	if err != nil {
		return Plan{}, &OpError{Op: "update", Object: "changes", Err: err}
	}
	if p.moved(c.Nodes) {
		for n := range p.world.services {
			t[n] = true
		}
	}
	var have, want []Frontend
	for n := range t {
		have = append(have, p.promised[n]...)
		want = append(want, p.resolve(n)...)
	}
	plan := Diff(have, want)
	return plan, p.apply(ctx, "update", plan)
}

// Frontends returns what the Proxy promises now, in the order of Resolve.
func (p *Proxy) Frontends() []Frontend {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.frontends()
}

func (p *Proxy) frontends() []Frontend {
	size := len(p.world.settings.serviceRanges)
	for _, l := range p.promised {
		size += len(l)
	}
	list := make([]Frontend, 0, size)
	for _, n := range slices.SortedFunc(maps.Keys(p.promised), Name.compare) {
		list = append(list, p.promised[n]...)
	}
	return append(list, p.world.ranges()...)
}

// moved takes in the Proxy's own node, if it is among these, and reports whether anything changed by that.
func (p *Proxy) moved(nodes []Node) bool {
	for i := range nodes {
		if nodes[i].Name != p.node.Name || p.node.Name == "" {
			continue
		}
		p.node = nodes[i]
		before := p.world.settings
		p.world.settings = newSettings(p.state, p.node)
		return before.zone != p.world.settings.zone || before.primary != p.world.settings.primary
	}
	return false
}

// resolve computes the Frontends of one Service again.
func (p *Proxy) resolve(n Name) []Frontend {
	s := p.world.services[n]
	if s == nil {
		delete(p.promised, n)
		return nil
	}
	list := p.resolver.service(nil, p.world, s)
	if len(list) == 0 {
		delete(p.promised, n)
		return nil
	}
	p.promised[n] = list
	return list
}

// apply hands the plan to the Backend, together with what it missed before.
func (p *Proxy) apply(ctx context.Context, op string, plan Plan) error {
	return p.applyOf(ctx, op, plan, nil)
}

// applyOf is apply where all Frontends are known, or nil.
func (p *Proxy) applyOf(ctx context.Context, op string, plan Plan, all []Frontend) error {
	out := plan
	switch {
	case p.behind:
		if all == nil {
			all = p.frontends()
		}
		out = Plan{Full: true, Set: all}
	case len(p.failed) > 0:
		out.merge(p.missed(plan))
	}
	if out.Empty() {
		return nil
	}
	refused, err := p.hand(ctx, out)
	if err != nil {
		for _, f := range out.Set {
			p.failed[f.Key] = f.Service
		}
		for _, k := range out.Drop {
			p.failed[k] = Name{}
		}
		return &OpError{Op: op, Object: "frontends", Err: err}
	}
	p.behind = false
	clear(p.failed)
	if refused != nil {
		return &OpError{Op: op, Object: "frontends", Err: refused}
	}
	return nil
}

// hand gives the plan to the Backend; when it refuses some Frontends, the plan without them.
func (p *Proxy) hand(ctx context.Context, plan Plan) (refused, err error) {
	err = p.backend.Apply(ctx, plan)
	keys, only := unserved(err)
	if err == nil || !only {
		return nil, err
	}
	rest := Plan{Full: plan.Full, Drop: slices.Clone(plan.Drop)}
	for _, f := range plan.Set {
		switch {
		case !keys[f.Key]:
			rest.Set = append(rest.Set, f)
		case !plan.Full:
			rest.Drop = append(rest.Drop, f.Key) // what it was before may have been served
		}
	}
	if rest.Empty() {
		return err, nil
	}
	return err, p.backend.Apply(ctx, rest)
}

// missed returns what the Backend did not take earlier, as it is wanted now, without what plan speaks of.
func (p *Proxy) missed(plan Plan) (set []Frontend, drop []Key) {
	current := map[Key]Frontend{}
	for _, list := range p.promised {
		for _, f := range list {
			if _, ok := p.failed[f.Key]; ok {
				current[f.Key] = f
			}
		}
	}
	for k := range p.failed {
		if plan.covers(k) {
			continue
		}
		if f, ok := current[k]; ok {
			set = append(set, f)
		} else {
			drop = append(drop, k)
		}
	}
	slices.SortFunc(set, func(a, b Frontend) int { return a.compare(b.Key) })
	slices.SortFunc(drop, Key.compare)
	return set, drop
}
