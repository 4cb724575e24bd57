package policy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// world is a State taken apart, so that a change to one object finds what depends on it without asking the others, and the Ruleset that
// it compiles to. Everything in the Ruleset is counted by its users and goes with the last.
type world struct {
	cfg   *Config
	rules *Ruleset
	ev    *Evaluator // of the same objects, to ask about connections that exist

	namespaces map[string]*namespace
	nodes      map[string]*node
	nodesAt    map[netip.Addr]map[*node]struct{}
	pods       map[Name]*pod
	owners     map[netip.Addr][]*pod // live pods with an address, by name
	byLabel    map[file]few[*pod]
	byNode     map[string]few[*pod]
	byPort     map[string]few[*pod] // pods that have a port of a name
	portHere   map[string]few[*pod] // those of them that are enforced here
	matchers   *matchers
	policies   map[policyKey]*rules
	domains    map[string][]netip.Addr

	sets     map[string]*setUse
	portSets map[portSet]*setUse
	nodeSets map[*setUse]struct{} // those that hold nodes' addresses
	nameSets map[*setUse]struct{} // those that hold domain names' addresses
	chains   map[string]*chainUse
	counters map[string]*counterUse
	blocks   map[netip.Addr]*blocksUse    // by id
	counting map[netip.Addr]*blocksUse    // by the id of the counters
	groups   [families]map[string]*setUse // peers that entries refer to
	numbers  [families]*slots             // of groups
	recipes  map[recipeKey]*draft
	keys     map[string][]recipeKey // by the chain's name
	slots    [directions][families]*slots
	heads    [directions][families]map[string]few[netip.Addr] // chain -> addresses that are led to it
	placed   map[netip.Addr]place
	lay      *layout  // nil: no table
	fixed    []string // counters of the layout

	unplaced  map[netip.Addr]struct{} // addresses whose profiles are to be found anew
	unled     map[netip.Addr]struct{} // addresses whose numbers are to be written anew
	unwritten []*blocksUse            // entries whose values are to be written
	spent     []*blocks               // entries that are gone, whose counters may be there
	making    *making
	touched   map[netip.Addr]struct{} // addresses that connections may be cut of; nil when nobody asks
	idle      idle
	revision  uint64 // counts policies
	err       error
}

type policyKey struct {
	cluster bool
	name    Name
}

type namespace struct {
	labels map[string]string
	pods   map[*pod]struct{}
	given  bool // in the State; others have pods but only a name
}

type node struct {
	name   string
	labels map[string]string
	addrs  []netip.Addr
	object *Node
}

// pod is a live pod with addresses that policies know; others are not in the world.
type pod struct {
	*Pod
	key     Name
	space   *namespace
	addrs   []netip.Addr
	ports   map[namedPort]uint16
	matched []*matcher
	local   bool
}

// namedPort is a port by the name that a pod gives it.
type namedPort struct {
	name  string
	proto Protocol
}

// The directions and families by index.
const (
	egress, ingress      = 0, 1
	four, six            = 0, 1
	directions, families = 2, 2
)

func directionOf(d int) Direction { return [directions]Direction{Egress, Ingress}[d] }

func addrFamily(a netip.Addr) int {
	if a.Is4() {
		return four
	}
	return six
}

func newWorld(c *Config) *world {
	w := &world{
		cfg: c, rules: newRuleset(c.Table), ev: NewEvaluator(State{}),
		namespaces: map[string]*namespace{}, nodes: map[string]*node{}, nodesAt: map[netip.Addr]map[*node]struct{}{},
		pods: map[Name]*pod{}, owners: map[netip.Addr][]*pod{}, byLabel: map[file]few[*pod]{},
		byNode: map[string]few[*pod]{}, byPort: map[string]few[*pod]{}, portHere: map[string]few[*pod]{},
		matchers: newMatchers(), policies: map[policyKey]*rules{}, domains: map[string][]netip.Addr{},
		sets: map[string]*setUse{}, portSets: map[portSet]*setUse{}, nodeSets: map[*setUse]struct{}{}, nameSets: map[*setUse]struct{}{},
		chains: map[string]*chainUse{}, counters: map[string]*counterUse{}, blocks: map[netip.Addr]*blocksUse{}, counting: map[netip.Addr]*blocksUse{}, recipes: map[recipeKey]*draft{}, keys: map[string][]recipeKey{},
		placed: map[netip.Addr]place{}, unplaced: map[netip.Addr]struct{}{}, unled: map[netip.Addr]struct{}{},
	}
	w.ev.domains, w.making = w.domains, newMaking(c)
	for f := range families {
		w.groups[f], w.numbers[f] = map[string]*setUse{}, newSlots(c.Mark>>c.shift())
	}
	for d := range w.slots {
		for f := range w.slots[d] {
			w.slots[d][f] = newSlots(c.Mark >> c.shift())
			w.heads[d][f] = map[string]few[netip.Addr]{}
		}
	}
	return w
}

// change makes the world what it is after c.
func (w *world) change(c Change) {
	for _, name := range c.Drop.Namespaces {
		w.setNamespace(name, nil)
	}
	for i := range c.Set.Namespaces {
		n := &c.Set.Namespaces[i]
		w.setNamespace(n.Meta.Name, n)
	}
	for _, name := range c.Drop.Nodes {
		w.setNode(name, nil)
	}
	for i := range c.Set.Nodes {
		n := c.Set.Nodes[i]
		w.setNode(n.Meta.Name, &n)
	}
	for _, name := range c.Drop.Domains {
		w.setDomain(name, nil)
	}
	for name, addrs := range c.Set.Domains {
		w.setDomain(name, addrs)
	}
	for _, name := range c.Drop.Pods {
		w.setPod(name, nil)
	}
	for i := range c.Set.Pods {
		p := c.Set.Pods[i]
		w.setPod(p.Meta.Key(), &p)
	}
	w.changePolicies(c)
	w.settle()
}

// journalled is change. It returns the addresses for which connections may be allowed no more, and what changed in the Ruleset.
func (w *world) journalled(c Change) (map[netip.Addr]struct{}, Plan) {
	empty := w.rules.Empty()
	j := newJournal()
	w.rules.journal, w.touched = j, map[netip.Addr]struct{}{}
	w.change(c)
	touched := w.touched
	w.rules.journal, w.touched = nil, nil
	return touched, w.rules.plan(j, empty)
}

// touch notes that connections of an address may be allowed no more.
func (w *world) touch(a netip.Addr) {
	if w.touched != nil {
		w.touched[a] = struct{}{}
	}
}

// settle finds the profiles of the addresses that may have new ones, and lets go what nobody uses any more.
func (w *world) settle() {
	if w.lay == nil && w.used() {
		w.addLayout()
	}
	for a := range w.unplaced {
		w.place(a)
	}
	clear(w.unplaced)
	w.sweep()
	w.making.forget()
	if w.lay != nil {
		w.numberPeers()
		w.renumber()
	}
	if w.lay != nil && !w.used() {
		w.dropLayout()
		w.sweep()
	}
}

// used says that the State is not the zero State.
func (w *world) used() bool {
	return len(w.pods)+len(w.policies)+len(w.namespaces)+len(w.nodes)+len(w.domains) > 0
}

// fenced says that the addresses of the Local ranges are closed even without policies.
func (w *world) fenced() bool { return len(w.cfg.Local) > 0 && !w.cfg.AllowUnknown }

func (w *world) setNamespace(name string, object *Namespace) {
	s := w.namespaces[name]
	if s == nil {
		if object == nil {
			return
		}
		s = &namespace{pods: map[*pod]struct{}{}}
		w.namespaces[name] = s
	}
	s.given = object != nil
	var labels map[string]string
	if object != nil {
		labels = namespaceLabels(object)
		w.ev.labels[name] = labels
	} else {
		delete(w.ev.labels, name)
		labels = map[string]string{LabelName: name}
	}
	if !maps.Equal(labels, s.labels) {
		s.labels = labels
		for p := range s.pods {
			w.match(p)
		}
	}
	w.forgetNamespace(name, s)
}

func (w *world) forgetNamespace(name string, s *namespace) {
	if !s.given && len(s.pods) == 0 {
		delete(w.namespaces, name)
	}
}

// space returns the namespace of a pod; one that is not in the State has only its name.
func (w *world) space(name string) *namespace {
	s := w.namespaces[name]
	if s == nil {
		s = &namespace{labels: map[string]string{LabelName: name}, pods: map[*pod]struct{}{}}
		w.namespaces[name] = s
	}
	return s
}

// setNode replaces a node; nil removes it. Pods on it have their own node's addresses in their profiles.
func (w *world) setNode(name string, object *Node) {
	old := w.nodes[name]
	touched := map[netip.Addr]struct{}{}
	if old != nil {
		for _, a := range old.addrs {
			delete(w.nodesAt[a], old)
			if len(w.nodesAt[a]) == 0 {
				delete(w.nodesAt, a)
			}
			touched[a] = struct{}{}
		}
		delete(w.nodes, name)
	}
	if object != nil {
		n := &node{name: name, labels: object.Meta.Labels, addrs: object.addrs(), object: object}
		w.nodes[name] = n
		for _, a := range n.addrs {
			if w.nodesAt[a] == nil {
				w.nodesAt[a] = map[*node]struct{}{}
			}
			w.nodesAt[a][n] = struct{}{}
			touched[a] = struct{}{}
		}
	}
	for a := range touched {
		delete(w.ev.nodes, a)
		for n := range w.nodesAt[a] {
			w.ev.nodes[a] = append(w.ev.nodes[a], n.object)
		}
		for s := range w.nodeSets {
			w.refresh(s, a)
		}
	}
	w.byNode[name].each(w.unplace)
}

func (w *world) setDomain(name string, addrs []netip.Addr) {
	touched := map[netip.Addr]struct{}{}
	for _, a := range append(slices.Clone(w.domains[name]), addrs...) {
		touched[a.Unmap()] = struct{}{}
	}
	if len(addrs) == 0 {
		delete(w.domains, name)
	} else {
		w.domains[name] = addrs
	}
	for a := range touched {
		for s := range w.nameSets {
			w.refresh(s, a)
		}
	}
}

func (w *world) unplace(p *pod) {
	for _, a := range p.addrs {
		w.unplaced[a] = struct{}{}
	}
}

func comparePods(a, b *pod) int {
	return cmp.Or(cmp.Compare(a.key.Namespace, b.key.Namespace), cmp.Compare(a.key.Name, b.key.Name))
}
