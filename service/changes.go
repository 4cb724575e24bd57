package service

import (
	"maps"
	"slices"
)

// Changes is what happened to the objects since the last time: those that are new or different now, and the names of those that are gone. Dropping what
// is not there is no error. An object may not be in both.
type Changes struct {
	Services       []Service
	EndpointSlices []EndpointSlice
	Pods           []Pod
	Nodes          []Node

	DropServices       []Name
	DropEndpointSlices []Name
	DropPods           []Name
	DropNodes          []string
}

// Validate checks the objects as State.Validate does, each on its own.
func (c Changes) Validate() error {
	var f faults
	f.objects(c.Services, c.EndpointSlices, c.Pods, c.Nodes)
	gone(&f, "dropServices", c.DropServices, c.Services, func(s *Service) Name { return s.Key() })
	gone(&f, "dropEndpointSlices", c.DropEndpointSlices, c.EndpointSlices, func(s *EndpointSlice) Name { return s.Key() })
	gone(&f, "dropPods", c.DropPods, c.Pods, func(p *Pod) Name { return p.Key() })
	nodes := make([]Name, len(c.DropNodes))
	for i, n := range c.DropNodes {
		nodes[i] = Name{Name: n}
	}
	gone(&f, "dropNodes", nodes, c.Nodes, func(n *Node) Name { return n.Key() })
	return f.err()
}

func gone[T any](f *faults, field string, drop []Name, list []T, name func(*T) Name) {
	if len(drop) == 0 || len(list) == 0 {
		return
	}
	there := make(map[Name]bool, len(list))
	for i := range list {
		there[name(&list[i])] = true
	}
	for i, n := range drop {
		if there[n] {
			f.at(field, i)
			f.here("%s is set as well: %w", n, ErrConflict)
			f.out()
		}
	}
}

// touched is the Services whose Frontends a change may alter.
type touched map[Name]bool

// take puts the changes into the world and returns the Services that they touch. Only a conflict between Services can stop it, and then nothing changed.
func (w *world) take(c Changes, owned *claims) (touched, error) {
	t := touched{}
	services := make([]*svc, len(c.Services))
	for i := range c.Services {
		services[i] = newSvc(&c.Services[i])
	}
	if err := w.reclaim(owned, services, c.DropServices); err != nil {
		return nil, err
	}
	for _, n := range c.DropServices {
		w.dropService(n)
		t[n] = true
	}
	for _, s := range services {
		w.setService(s)
		t[s.name] = true
	}
	for _, n := range c.DropEndpointSlices {
		t[w.sliceOf[n]] = true
		w.dropSlice(n)
	}
	for i := range c.EndpointSlices {
		s := newSlice(&c.EndpointSlices[i])
		t[w.sliceOf[s.name]] = true
		t[s.service] = true
		w.setSlice(s)
	}
	for _, n := range c.DropPods {
		if old := w.pods[n]; old != nil {
			w.selecting(old, t.add)
			w.dropPod(n)
		}
	}
	for i := range c.Pods {
		p := newPod(&c.Pods[i])
		old := w.pods[p.name]
		if old != nil && old.equal(p) {
			continue
		}
		if old != nil {
			w.selecting(old, t.add)
		}
		p.labels = maps.Clone(p.labels)
		w.setPod(p)
		w.selecting(p, t.add)
	}
	for i := range c.Nodes {
		if n := &c.Nodes[i]; w.zones[n.Name] != n.Labels[LabelZone] {
			w.setNode(n)
			w.spreading(t.add)
		}
	}
	for _, n := range c.DropNodes {
		if w.zones[n] != "" {
			w.spreading(t.add)
		}
		delete(w.zones, n)
	}
	return t, nil
}

func (t touched) add(s *svc) { t[s.name] = true }

// spreading calls f for every Service whose endpoints depend on the zones of nodes.
func (w *world) spreading(f func(*svc)) {
	for _, s := range w.services {
		if s.spread != "" && len(s.selector) > 0 {
			f(s)
		}
	}
}

// reclaim moves the claims from the Services as they were to those as they will be.
func (w *world) reclaim(owned *claims, services []*svc, drop []Name) error {
	var old []*svc
	release := func(n Name) {
		if s := w.services[n]; s != nil {
			owned.release(s)
			old = append(old, s)
		}
	}
	for _, n := range drop {
		release(n)
	}
	for _, s := range services {
		release(s.name)
	}
	var f faults
	for i, s := range services {
		f.object("services", i, s.name)
		owned.take(s, f.conflict)
		f.out()
	}
	if len(f.errs) == 0 {
		return nil
	}
	for _, s := range services {
		owned.release(s)
	}
	for _, s := range old {
		owned.take(s, func(claim, string, Name) {})
	}
	return f.err()
}

func (p *pod) equal(o *pod) bool {
	return p.node == o.node && p.addrs == o.addrs && p.ready == o.ready && p.terminating == o.terminating && p.ended == o.ended &&
		slices.Equal(p.ports, o.ports) && maps.Equal(p.labels, o.labels)
}
