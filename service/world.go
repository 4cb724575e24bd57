package service

import (
	"net/netip"
	"slices"
)

// world is the objects in the form that resolving needs: parsed once, indexed by what asks for them. It is what a Proxy keeps, and much smaller than
// the objects.
type world struct {
	settings settings
	services map[Name]*svc
	checked  map[Name]*svc              // those with a health check node port
	slices   map[Name]map[string]*slice // by Service, then by the slice's own name
	sliceOf  map[Name]Name              // slice -> Service
	pods     map[Name]*pod
	zones    map[string]string // node -> zone

	byLabel map[label]map[Name]*pod // every pod under each of its labels
	byPick  map[label]map[Name]*svc // every Service with a selector, under one label of it (the first in order)
}

// label is one label in a namespace.
type label struct{ namespace, key, value string }

// settings is the part of a State and of a Node that is the same for every Service.
type settings struct {
	node, zone    string
	primary       [2]netip.Addr     // by family
	inside        []netip.Prefix    // State.PodRanges
	pods          [2]bool           // inside has networks of the family
	on            [2][]netip.Prefix // addresses for node ports; nil: all
	localhost     [2]netip.Addr     // what stands in for loopback addresses; invalid: node ports are not on them
	noNodePorts   [2]bool           // no address of the family serves node ports
	serviceRanges []netip.Prefix
	masqueradeAll bool
	proxyName     string
}

const (
	v4 = 0
	v6 = 1
)

func family(a netip.Addr) int {
	if a.Is4() {
		return v4
	}
	return v6
}

func newSettings(s State, n Node) settings {
	set := settings{node: n.Name, zone: n.Labels[LabelZone], masqueradeAll: s.MasqueradeAll, proxyName: s.ProxyName}
	for _, a := range n.Status.Addresses {
		ip, err := netip.ParseAddr(a.Address)
		if a.Type != "InternalIP" || err != nil {
			continue
		}
		if f := family(ip.Unmap()); !set.primary[f].IsValid() {
			set.primary[f] = ip.Unmap()
		}
	}
	for _, p := range s.PodRanges {
		set.inside = append(set.inside, p.Masked())
		set.pods[family(p.Addr())] = true
	}
	for _, p := range s.NodePorts.In {
		set.on[family(p.Addr())] = append(set.on[family(p.Addr())], p.Masked())
	}
	if s.NodePorts.Primary {
		for f, a := range set.primary {
			if a.IsValid() {
				set.on[f] = append(set.on[f], netip.PrefixFrom(a, a.BitLen()))
			}
			set.noNodePorts[f] = len(set.on[f]) == 0
		}
	}
	if s.NodePorts.Localhost {
		set.localhost = set.primary
	}
	set.serviceRanges = slices.Clone(s.ServiceRanges)
	return set
}

// newWorld returns an empty world with room for what s has.
func newWorld(set settings, s State) *world {
	return &world{
		settings: set,
		services: make(map[Name]*svc, len(s.Services)),
		checked:  map[Name]*svc{},
		slices:   make(map[Name]map[string]*slice, min(len(s.Services), len(s.EndpointSlices))),
		sliceOf:  make(map[Name]Name, len(s.EndpointSlices)),
		pods:     make(map[Name]*pod, len(s.Pods)),
		zones:    make(map[string]string, len(s.Nodes)),
		byLabel:  map[label]map[Name]*pod{},
		byPick:   map[label]map[Name]*svc{},
	}
}

// add takes in every object of a State that has been checked.
func (w *world) add(s State, services []*svc) {
	for i := range s.Nodes {
		w.setNode(&s.Nodes[i])
	}
	for i := range s.Pods {
		w.setPod(newPod(&s.Pods[i]))
	}
	for i := range s.EndpointSlices {
		w.setSlice(newSlice(&s.EndpointSlices[i]))
	}
	for _, d := range services {
		w.setService(d)
	}
}

func (w *world) setNode(n *Node) { w.zones[n.Name] = n.Labels[LabelZone] }

func (w *world) setService(s *svc) {
	w.dropService(s.name)
	w.services[s.name] = s
	if s.health != 0 {
		w.checked[s.name] = s
	}
	if len(s.selector) > 0 {
		put(w.byPick, s.pick(), s.name, s)
	}
}

func (w *world) dropService(n Name) {
	if old := w.services[n]; old != nil {
		delete(w.services, n)
		delete(w.checked, n)
		if len(old.selector) > 0 {
			remove(w.byPick, old.pick(), n)
		}
	}
}

func (w *world) setSlice(s *slice) {
	w.dropSlice(s.name)
	if s.service.Name == "" {
		return
	}
	w.sliceOf[s.name] = s.service
	put(w.slices, s.service, s.name.Name, s)
}

func (w *world) dropSlice(n Name) {
	if of, ok := w.sliceOf[n]; ok {
		delete(w.sliceOf, n)
		remove(w.slices, of, n.Name)
	}
}

func (w *world) setPod(p *pod) {
	w.dropPod(p.name)
	w.pods[p.name] = p
	for k, v := range p.labels {
		put(w.byLabel, label{p.name.Namespace, k, v}, p.name, p)
	}
}

func (w *world) dropPod(n Name) {
	if old := w.pods[n]; old != nil {
		delete(w.pods, n)
		for k, v := range old.labels {
			remove(w.byLabel, label{n.Namespace, k, v}, n)
		}
	}
}

// serves reports whether a Service has Frontends here: it has addresses, and is meant for this proxy.
func (w *world) serves(s *svc) bool { return s.served && s.proxyName == w.settings.proxyName }

// selected calls f for every pod that the Service's selector picks, in no order. It looks only at the pods under the rarest of the selector's labels.
func (w *world) selected(s *svc, f func(*pod)) {
	var least map[Name]*pod
	for i, kv := range s.selector {
		if have := w.byLabel[label{s.name.Namespace, kv.key, kv.value}]; i == 0 || len(have) < len(least) {
			least = have
		}
	}
	for _, p := range least {
		if s.selects(p) {
			f(p)
		}
	}
}

// selecting calls f for every Service whose selector picks the pod, in no order.
func (w *world) selecting(p *pod, f func(*svc)) {
	for k, v := range p.labels {
		for _, s := range w.byPick[label{p.name.Namespace, k, v}] {
			if s.selects(p) {
				f(s)
			}
		}
	}
}

// names returns every Service in order.
func (w *world) names() []Name {
	names := make([]Name, 0, len(w.services))
	for n := range w.services {
		names = append(names, n)
	}
	slices.SortFunc(names, Name.compare)
	return names
}

func put[A, B comparable, V any](m map[A]map[B]V, a A, b B, v V) {
	inner := m[a]
	if inner == nil {
		inner = map[B]V{}
		m[a] = inner
	}
	inner[b] = v
}

func remove[A, B comparable, V any](m map[A]map[B]V, a A, b B) {
	delete(m[a], b)
	if len(m[a]) == 0 {
		delete(m, a)
	}
}
