package policy

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/internal/nft"
)

// wantSet is a set as a rule refers to it: its definition and what decides who is in it.
type wantSet struct {
	def    *nft.Set
	family int
	peers  *peers     // members are addresses that are peers
	port   *port      // members are ports that pods give a name
	fixed  [][]string // members that never change: key, or key and value
}

// peers are the addresses of any of several kinds.
type peers struct {
	any     bool // of several pods with one address it is enough to find one
	pods    []matching
	nodes   []*Selector
	domains []string
}

// port is a name of ports.
type port struct {
	name  string
	any   bool // of several pods with one address it is enough that one has it
	local bool // only the ports of pods that are enforced here: what rules for ingress need
}

// setUse is a set that chains refer to.
type setUse struct {
	wantSet
	set      *set
	refs     int
	matchers []*matcher
	held     map[netip.Addr][]string // ports in the set, by address

	*numbered // for peers that are elements of the set of all members; nil else, as set is for them
}

// useSet counts one more user of a set and fills it for the first.
func (w *world) useSet(want *wantSet) {
	s := w.sets[want.def.Name]
	if s == nil {
		s = &setUse{wantSet: *want, set: w.rules.addSet(want.def), held: map[netip.Addr][]string{}}
		w.sets[want.def.Name] = s
		w.fill(s)
	}
	s.refs++
}

func (w *world) unuseSet(name string) {
	s := w.sets[name]
	if s.refs--; s.refs == 0 {
		w.idle.sets = append(w.idle.sets, name)
	}
}

func (w *world) fill(s *setUse) {
	for _, e := range s.fixed {
		w.rules.put(s.set, e[0], strings.Join(e[1:], ""))
	}
	if s.port != nil {
		w.portSets[portSet{s.family, *s.port}] = s
		from := w.byPort
		if s.port.local {
			from = w.portHere
		}
		from[s.port.name].each(func(p *pod) {
			for _, a := range p.addrs {
				w.refreshPortSet(s, a)
			}
		})
	}
	if s.peers == nil {
		return
	}
	for _, m := range s.peers.pods {
		got := w.acquire(m)
		if got.members == nil {
			got.members = map[*setUse]struct{}{}
		}
		got.members[s] = struct{}{}
		s.matchers = append(s.matchers, got)
		for p := range got.pods {
			for _, a := range p.addrs {
				w.refresh(s, a)
			}
		}
	}
	if len(s.peers.nodes) > 0 {
		w.nodeSets[s] = struct{}{}
		for a := range w.nodesAt {
			w.refresh(s, a)
		}
	}
	if len(s.peers.domains) > 0 {
		w.nameSets[s] = struct{}{}
		for _, addrs := range w.domains {
			for _, a := range addrs {
				w.refresh(s, a.Unmap())
			}
		}
	}
}

// unfill has nobody tell a set of its members any more.
func (w *world) unfill(s *setUse) {
	for _, m := range s.matchers {
		delete(m.members, s)
		w.release(m)
	}
	delete(w.nodeSets, s)
	delete(w.nameSets, s)
}

// dropSet removes a set without users.
func (w *world) dropSet(s *setUse) {
	w.unfill(s)
	delete(w.sets, s.def.Name)
	if s.port != nil {
		delete(w.portSets, portSet{s.family, *s.port})
	}
	w.rules.dropSet(s.def.Name)
}

// refresh puts an address into a set of peers or takes it out.
func (w *world) refresh(s *setUse, a netip.Addr) {
	if addrFamily(a) != s.family {
		return
	}
	there := w.isPeer(s, a)
	if s.numbered == nil {
		w.hold(s, a, string(a.AsSlice()), there)
		return
	}
	if _, ok := s.inside[a]; ok == there {
		return
	}
	if there {
		s.inside[a] = struct{}{}
	} else {
		delete(s.inside, a)
	}
	w.member(s, a, there)
	w.touch(a)
}

// hold makes an address, or a port of it, be in a set or not.
func (w *world) hold(s *setUse, a netip.Addr, key string, there bool) {
	if _, ok := s.set.elements[key]; ok != there {
		w.keep(s.set, key, "", there)
		w.touch(a)
	}
}

// keep makes an element be there or not.
func (w *world) keep(s *set, key, value string, there bool) {
	have, ok := s.elements[key]
	switch {
	case there && (!ok || have != value):
		w.rules.put(s, key, value)
	case !there && ok:
		w.rules.drop(s, key)
	}
}

func (w *world) isPeer(s *setUse, a netip.Addr) bool {
	owners := w.owners[a]
	for _, m := range s.matchers {
		found := 0
		for _, p := range owners {
			if _, ok := m.pods[p]; ok {
				found++
			}
		}
		if found > 0 && (s.peers.any || found == len(owners)) {
			return true
		}
	}
	for _, sel := range s.peers.nodes {
		for n := range w.nodesAt[a] {
			if sel.Matches(n.labels) {
				return true
			}
		}
	}
	return slices.ContainsFunc(s.peers.domains, func(name string) bool { return w.resolves(name, a) })
}

// resolves reports whether a is an address of the name, or with a leading "*." of any name below.
func (w *world) resolves(name string, a netip.Addr) bool {
	is := func(addrs []netip.Addr) bool {
		return slices.ContainsFunc(addrs, func(b netip.Addr) bool { return b.Unmap() == a })
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if !strings.HasPrefix(name, "*.") {
		return is(w.domains[name])
	}
	for known, addrs := range w.domains {
		if strings.HasSuffix(known, name[1:]) && is(addrs) {
			return true
		}
	}
	return false
}

// refreshPorts does for the sets of a port's name what refresh does for peers.
func (w *world) refreshPorts(name string, a netip.Addr) {
	for _, anyOwner := range []bool{false, true} {
		for _, local := range []bool{false, true} {
			if s := w.portSets[portSet{addrFamily(a), port{name, anyOwner, local}}]; s != nil {
				w.refreshPortSet(s, a)
			}
		}
	}
}

// portSet finds a set of named ports.
type portSet struct {
	family int
	port   port
}

func (w *world) refreshPortSet(s *setUse, a netip.Addr) {
	if addrFamily(a) != s.family {
		return
	}
	owners := w.owners[a]
	if s.port.local && !slices.ContainsFunc(owners, func(p *pod) bool { return p.local }) {
		if len(s.held[a]) == 0 {
			return
		}
		owners = nil
	}
	found := map[string]int{} // how many owners have a port
	for _, p := range owners {
		for _, proto := range transports {
			if n, ok := p.ports[namedPort{s.port.name, proto}]; ok {
				found[portElement(a, proto, n)]++
			}
		}
	}
	for _, key := range s.held[a] {
		if found[key] == 0 {
			w.hold(s, a, key, false)
		}
	}
	delete(s.held, a)
	for key, n := range found {
		there := s.port.any || n == len(owners)
		w.hold(s, a, key, there)
		if there {
			s.held[a] = append(s.held[a], key)
		}
	}
}

// The transports that ports have, and their numbers (IANA).
var transports = []Protocol{TCP, UDP, SCTP}

func (p Protocol) number() (uint8, bool) {
	switch p {
	case TCP:
		return 6, true
	case UDP:
		return 17, true
	case SCTP:
		return 132, true
	}
	return 0, false
}

func portElement(a netip.Addr, proto Protocol, n uint16) string {
	number, _ := proto.number()
	return string(nft.AppendPort(nft.AppendProto(a.AsSlice(), number), n))
}

func markElement(mark uint32) string { return string(binary.NativeEndian.AppendUint32(nil, mark)) }
