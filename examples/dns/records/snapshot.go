package records

import (
	"hash/maphash"
	"maps"
	"net/netip"
	"strings"
)

// Snapshot is what the cluster's names meant at one moment. It never changes.
type Snapshot struct {
	services   shards[key, *service]
	pointers   shards[netip.Addr, []pointer]
	namespaces map[string]int // two for each Service, one for the Namespace itself

	// Serial grows with every change (RFC 1035, 3.3.13).
	Serial uint32
}

type key struct{ namespace, name string }

// service is a Service with its endpoints, in the order of their names.
type service struct {
	external  string       // ExternalName's target without the last dot
	addresses []netip.Addr // cluster IPs
	headless  bool
	ports     []port
	endpoints []endpoint
}

type endpoint struct {
	label   string // its name below the Service's
	address netip.Addr
	ports   []port
}

type port struct {
	name, protocol string // lower case
	number         uint16 // 0 in an endpoint of a Service without ports
}

// pointer is a name of an address: a Service's own with an empty label, or an endpoint's.
type pointer struct {
	key   key
	label string
}

// Host is one address, or one alias, of a name.
type Host struct {
	Name    string     // relative to the zone: the target of an SRV record
	Address netip.Addr // zero for an alias
	Alias   string     // of an ExternalName Service, without the last dot
	Port    uint16     // 0: none
}

// Find returns what a name relative to the zone leads to, the labels in lower case. A name that exists
// without hosts (only names below it, or endpoints without the asked port) is found with none.
func (s *Snapshot) Find(labels []string) (hosts []Host, found bool) {
	n := len(labels)
	switch {
	case n == 0:
		return nil, true
	case n <= 2 && labels[n-1] == "dns": // dns itself; ns.dns is for who knows the server's addresses
		return nil, n == 1
	case labels[n-1] == "dns-version":
		return nil, n == 1
	case labels[n-1] != "svc":
		return nil, false
	case n == 1:
		return nil, true
	}
	namespace := labels[n-2]
	if n == 2 {
		return nil, s.HasNamespace(namespace)
	}
	svc, ok := s.services.get(key{namespace, labels[n-3]})
	if !ok {
		return nil, false
	}
	base := strings.Join(labels[n-3:], ".")
	switch rest := labels[:n-3]; len(rest) {
	case 0:
		return svc.own(base)
	case 1:
		if protocol, ok := strings.CutPrefix(rest[0], "_"); ok {
			hosts, _ := svc.port(base, protocol, "")
			return nil, len(hosts) > 0
		}
		return svc.endpoint(base, rest[0])
	case 2:
		name, one := strings.CutPrefix(rest[0], "_")
		protocol, two := strings.CutPrefix(rest[1], "_")
		if !one || !two || name == "" {
			return nil, false
		}
		return svc.port(base, protocol, name)
	}
	return nil, false
}

// Names returns the names of an address, relative to the zone: of the Services that have it as their cluster IP, else of endpoints.
func (s *Snapshot) Names(address netip.Addr) []string {
	pointers, _ := s.pointers.get(address)
	var own, endpoints []string
	for _, p := range pointers {
		name := p.key.name + "." + p.key.namespace + ".svc"
		if p.label == "" {
			own = append(own, name)
		} else {
			endpoints = append(endpoints, p.label+"."+name)
		}
	}
	if len(own) > 0 {
		return own
	}
	return endpoints
}

// HasNamespace says whether a namespace is known, by itself or by a Service in it.
func (s *Snapshot) HasNamespace(name string) bool { return s.namespaces[name] > 0 }

// own is what the Service's own name leads to.
func (s *service) own(base string) ([]Host, bool) {
	switch {
	case s.external != "":
		return []Host{{Name: base, Alias: s.external}}, true
	case s.headless:
		hosts := s.hosts(base, func(*endpoint) bool { return true }, func(*port) bool { return true })
		return hosts, len(hosts) > 0
	}
	return s.cluster(base, func(*port) bool { return true }), true
}

// endpoint is what the name of one endpoint leads to.
func (s *service) endpoint(base, label string) ([]Host, bool) {
	hosts := s.hosts(base, func(e *endpoint) bool { return e.label == label }, func(*port) bool { return true })
	return hosts, len(hosts) > 0
}

// port is what a port's name leads to; every named port of the protocol when name is empty.
func (s *service) port(base, protocol, name string) ([]Host, bool) {
	match := func(p *port) bool {
		return p.name != "" && p.protocol == protocol && (name == "" || p.name == name)
	}
	var hosts []Host
	if s.headless {
		hosts = s.hosts(base, func(*endpoint) bool { return true }, match)
	} else {
		hosts = s.cluster(base, match)
	}
	return hosts, len(hosts) > 0
}

func (s *service) cluster(base string, match func(*port) bool) []Host {
	var hosts []Host
	for i := range s.ports {
		if !match(&s.ports[i]) {
			continue
		}
		for _, address := range s.addresses {
			hosts = append(hosts, Host{Name: base, Address: address, Port: s.ports[i].number})
		}
	}
	return hosts
}

func (s *service) hosts(base string, who func(*endpoint) bool, which func(*port) bool) []Host {
	var hosts []Host
	for i := range s.endpoints {
		e := &s.endpoints[i]
		if !who(e) {
			continue
		}
		for j := range e.ports {
			if which(&e.ports[j]) {
				hosts = append(hosts, Host{Name: e.label + "." + base, Address: e.address, Port: e.ports[j].number})
			}
		}
	}
	return hosts
}

// shards is a map whose copies share all but what was changed since: 256 maps, each copied before its first change.
type shards[K comparable, V any] [256]map[K]V

var seed = maphash.MakeSeed()

func (s *shards[K, V]) get(k K) (V, bool) {
	v, ok := s[byte(maphash.Comparable(seed, k))][k]
	return v, ok
}

// draft changes a copy of shards.
type draft[K comparable, V any] struct {
	shards shards[K, V]
	copied [256]bool
}

func (d *draft[K, V]) own(k K) map[K]V {
	i := byte(maphash.Comparable(seed, k))
	if !d.copied[i] {
		d.copied[i] = true
		if d.shards[i] = maps.Clone(d.shards[i]); d.shards[i] == nil {
			d.shards[i] = map[K]V{}
		}
	}
	return d.shards[i]
}
