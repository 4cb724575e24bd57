package records

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Store takes objects and publishes Snapshots. The zero Store is empty and ready; it may be used by many at once.
type Store struct {
	mu       sync.Mutex
	services map[key]*corev1.Service
	slices   map[key]map[string]*discoveryv1.EndpointSlice // by the Service that they belong to
	owners   map[key]key                                   // of a slice, its Service when it was last seen
	pods     map[key]*corev1.Pod

	current atomic.Pointer[Snapshot]
}

// Snapshot returns the newest state, nil before the first Update has ended.
func (s *Store) Snapshot() *Snapshot { return s.current.Load() }

// Update makes the changes that change tells the Edit, and publishes them together.
func (s *Store) Update(change func(*Edit)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.services == nil {
		s.services, s.slices, s.owners = map[key]*corev1.Service{}, map[key]map[string]*discoveryv1.EndpointSlice{}, map[key]key{}
		s.pods = map[key]*corev1.Pod{}
	}
	old := s.current.Load()
	if old == nil {
		old = &Snapshot{namespaces: map[string]int{}}
	}
	e := &Edit{store: s, touched: map[key]bool{}, namespaces: maps.Clone(old.namespaces)}
	e.services.shards, e.pointers.shards = old.services, old.pointers
	change(e)
	for k := range e.touched {
		e.rebuild(k)
	}
	maps.DeleteFunc(e.namespaces, func(_ string, n int) bool { return n == 0 })
	s.current.Store(&Snapshot{services: e.services.shards, pointers: e.pointers.shards, namespaces: e.namespaces, Serial: old.Serial + 1})
}

// Edit is one Update. The objects handed over are kept and must not be changed afterwards.
type Edit struct {
	store      *Store
	touched    map[key]bool
	namespaces map[string]int
	services   draft[key, *service]
	pointers   draft[netip.Addr, []pointer]
}

// SetNamespace makes a namespace known that may have no Services.
func (e *Edit) SetNamespace(name string) { e.namespaces[name] |= 1 }

// DropNamespace forgets a namespace; it stays known while Services are in it.
func (e *Edit) DropNamespace(name string) { e.namespaces[name] &^= 1 }

// SetService adds or replaces a Service.
func (e *Edit) SetService(svc *corev1.Service) {
	k := key{svc.Namespace, svc.Name}
	e.store.services[k] = svc
	e.touched[k] = true
}

// DropService removes a Service; it need not be there.
func (e *Edit) DropService(namespace, name string) {
	k := key{namespace, name}
	delete(e.store.services, k)
	e.touched[k] = true
}

// SetSlice adds or replaces an EndpointSlice. One without the label of a Service counts for none.
func (e *Edit) SetSlice(slice *discoveryv1.EndpointSlice) {
	owner := slice.Labels[discoveryv1.LabelServiceName]
	e.DropSlice(slice.Namespace, slice.Name)
	if owner == "" {
		return
	}
	k := key{slice.Namespace, owner}
	if e.store.slices[k] == nil {
		e.store.slices[k] = map[string]*discoveryv1.EndpointSlice{}
	}
	e.store.slices[k][slice.Name] = slice
	e.store.owners[key{slice.Namespace, slice.Name}] = k
	e.touched[k] = true
}

// DropSlice removes an EndpointSlice; it need not be there.
func (e *Edit) DropSlice(namespace, name string) {
	id := key{namespace, name}
	k, ok := e.store.owners[id]
	if !ok {
		return
	}
	delete(e.store.owners, id)
	if delete(e.store.slices[k], name); len(e.store.slices[k]) == 0 {
		delete(e.store.slices, k)
	}
	e.touched[k] = true
}

// rebuild replaces what the snapshot knows of one Service.
func (e *Edit) rebuild(k key) {
	had, ok := e.services.shards.get(k)
	if ok {
		for p, addresses := range had.pointers(k) {
			for _, a := range addresses {
				e.dropPointer(a, p)
			}
		}
		delete(e.services.own(k), k)
		e.namespaces[k.namespace] -= 2
	}
	object := e.store.services[k]
	if object == nil {
		return
	}
	svc := describe(object, e.store.slices[k])
	if len(e.store.slices[k]) == 0 && svc.external == "" {
		svc.endpoints = e.store.selected(object)
		svc.sort()
	}
	e.services.own(k)[k] = svc
	e.namespaces[k.namespace] += 2
	for p, addresses := range svc.pointers(k) {
		for _, a := range addresses {
			m := e.pointers.own(a)
			m[a] = append(slices.Clip(m[a]), p)
			slices.SortFunc(m[a], comparePointers)
		}
	}
}

func (e *Edit) dropPointer(a netip.Addr, p pointer) {
	m := e.pointers.own(a)
	if m[a] = slices.DeleteFunc(slices.Clone(m[a]), func(q pointer) bool { return q == p }); len(m[a]) == 0 {
		delete(m, a)
	}
}

func comparePointers(a, b pointer) int {
	return cmp.Or(cmp.Compare(a.key.namespace, b.key.namespace), cmp.Compare(a.key.name, b.key.name), cmp.Compare(a.label, b.label))
}

// pointers lists the reverse names of a Service: each with the addresses that it stands for.
func (s *service) pointers(k key) map[pointer][]netip.Addr {
	all := map[pointer][]netip.Addr{}
	if len(s.addresses) > 0 {
		all[pointer{k, ""}] = s.addresses
	}
	for i := range s.endpoints {
		p := pointer{k, s.endpoints[i].label}
		if !slices.Contains(all[p], s.endpoints[i].address) {
			all[p] = append(all[p], s.endpoints[i].address)
		}
	}
	return all
}

// describe boils a Service and its slices down to what names need.
func describe(object *corev1.Service, all map[string]*discoveryv1.EndpointSlice) *service {
	if object.Spec.Type == corev1.ServiceTypeExternalName {
		target := strings.TrimSuffix(object.Spec.ExternalName, ".")
		if _, err := netip.ParseAddr(target); err == nil || target == "" {
			return &service{headless: true} // an address is no name to point to: there is nothing
		}
		return &service{external: target}
	}
	svc := &service{headless: object.Spec.ClusterIP == corev1.ClusterIPNone}
	if !svc.headless {
		for _, text := range clusterIPs(object) {
			if a, err := netip.ParseAddr(text); err == nil {
				svc.addresses = append(svc.addresses, a.Unmap())
			}
		}
	}
	for i := range object.Spec.Ports {
		p := &object.Spec.Ports[i]
		svc.ports = append(svc.ports, port{p.Name, protocol(p.Protocol), uint16(p.Port)})
	}
	if len(svc.ports) == 0 {
		svc.ports = []port{{}} // its addresses have a name all the same
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		svc.endpoints = append(svc.endpoints, endpoints(all[name], object.Spec.PublishNotReadyAddresses)...)
	}
	svc.sort()
	return svc
}

func (s *service) sort() {
	slices.SortStableFunc(s.endpoints, func(a, b endpoint) int { return cmp.Or(cmp.Compare(a.label, b.label), a.address.Compare(b.address)) })
}

// dashes makes a label of an address.
var dashes = strings.NewReplacer(".", "-", ":", "-")

func clusterIPs(object *corev1.Service) []string {
	if len(object.Spec.ClusterIPs) > 0 {
		return object.Spec.ClusterIPs
	}
	return []string{object.Spec.ClusterIP}
}

func endpoints(slice *discoveryv1.EndpointSlice, unready bool) []endpoint {
	ports := make([]port, 0, max(1, len(slice.Ports)))
	for _, p := range slice.Ports {
		if p.Port != nil {
			ports = append(ports, port{deref(p.Name), protocol(deref(p.Protocol)), uint16(*p.Port)})
		}
	}
	if len(ports) == 0 {
		ports = append(ports, port{})
	}
	var all []endpoint
	for i := range slice.Endpoints {
		e := &slice.Endpoints[i]
		if !unready && e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		for _, text := range e.Addresses {
			a, err := netip.ParseAddr(text)
			if err != nil {
				continue // of addressType FQDN, which no name is made from
			}
			label := deref(e.Hostname)
			if label == "" {
				label = dashes.Replace(text)
			}
			all = append(all, endpoint{strings.ToLower(label), a.Unmap(), ports})
		}
	}
	return all
}

func protocol(p corev1.Protocol) string {
	return strings.ToLower(string(cmp.Or(p, corev1.ProtocolTCP)))
}

func deref[S ~string](s *S) S {
	if s == nil {
		return ""
	}
	return *s
}
