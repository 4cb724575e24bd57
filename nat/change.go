package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/internal/plan"
)

// changes turns a Change into a Plan, or says what is in its way. It looks
// only at what the change names.
func (w *world) changes(c Change) (Plan, error) {
	var p Plan
	var taken []error
	for _, f := range c.Set {
		f = f.canonical()
		ch := plan.Change[Key, Forward]{Key: f.Key(), Want: &f}
		if have, ok := w.forwards[f.Key()]; ok {
			if have.Forward.equal(&f) {
				continue
			}
			if c.Owner != "" && have.Name != c.Owner {
				taken = append(taken, &ConflictError{Key: f.Key(), Name: have.Name, To: slices.Clone(have.To)})
			}
			old := have.Forward
			ch.Have = &old
		}
		p.forwards = append(p.forwards, ch)
	}
	for _, k := range c.Drop {
		if have, ok := w.forwards[k]; ok && (c.Owner == "" || have.Name == c.Owner) {
			old := have.Forward
			p.forwards = append(p.forwards, plan.Change[Key, Forward]{Key: k, Have: &old})
		}
	}
	for i, list := range [][]uint16{c.Capture, c.Release} {
		for _, port := range list {
			for _, family := range []uint32{0, 4, 6} {
				a := item{kind: itemPort, n: uint32(port), m: family}
				if _, have := w.capture[a]; have && (i == 1 || family != 0) {
					p.capture = append(p.capture, plan.Change[item, item]{Key: a, Have: &a})
				} else if !have && i == 0 && family == 0 {
					p.capture = append(p.capture, plan.Change[item, item]{Key: a, Want: &a})
				}
			}
		}
	}
	slices.SortFunc(p.capture, func(a, b plan.Change[item, item]) int { return a.Key.compare(b.Key) })
	slices.SortFunc(p.forwards, func(a, b plan.Change[Key, Forward]) int { return a.Key.compare(b.Key) })
	for _, a := range c.SetLocalhost {
		ch := plan.Change[netip.Addr, netip.Addr]{Key: localhostKey(&a), Want: &a}
		if have, ok := w.localhost[ch.Key]; ok {
			if have == a {
				continue
			}
			ch.Have = &have
		}
		p.localhost = append(p.localhost, ch)
	}
	slices.SortFunc(p.localhost, func(a, b plan.Change[netip.Addr, netip.Addr]) int { return a.Key.Compare(b.Key) })
	taken = append(taken, w.networkChanges(c, &p)...)
	w.excludeChanges(c, &p)
	return p, errors.Join(taken...)
}

func (w *world) networkChanges(c Change, p *Plan) (taken []error) {
	for _, n := range widest(c.SetNetworks, func(n *Network) *netip.Prefix { return &n.Prefix }) {
		n.To = n.To.canonical()
		ch := plan.Change[netip.Prefix, Network]{Key: n.Prefix, Want: &n}
		if have, ok := w.networks[n.Prefix]; ok {
			if have == n {
				continue
			}
			ch.Have = &have
		}
		for other, have := range w.networks {
			if other.Overlaps(n.Prefix) && (other != n.Prefix || c.Owner != "" && have.Name != c.Owner) && !slices.Contains(c.DropNetworks, other) {
				taken = append(taken, &ConflictError{Network: other, Name: have.Name})
			}
		}
		p.networks = append(p.networks, ch)
	}
	for _, prefix := range c.DropNetworks {
		if have, ok := w.networks[prefix.Masked()]; ok && (c.Owner == "" || have.Name == c.Owner) {
			p.networks = append(p.networks, plan.Change[netip.Prefix, Network]{Key: prefix.Masked(), Have: &have})
		}
	}
	slices.SortFunc(p.networks, func(a, b plan.Change[netip.Prefix, Network]) int { return comparePrefix(a.Key, b.Key) })
	return taken
}

func (w *world) excludeChanges(c Change, p *Plan) {
	gone := map[netip.Prefix]bool{}
	for _, prefix := range c.DropExclude {
		prefix = prefix.Masked()
		if have, ok := w.exclude[prefix]; ok {
			gone[prefix] = true
			p.exclude = append(p.exclude, plan.Change[netip.Prefix, netip.Prefix]{Key: prefix, Have: &have})
		}
	}
	for _, prefix := range widest(c.SetExclude, func(p *netip.Prefix) *netip.Prefix { return p }) {
		inside := false
		for other := range w.exclude {
			switch {
			case gone[other]:
			case other.Bits() <= prefix.Bits() && other.Contains(prefix.Addr()):
				inside = true
			case other.Overlaps(prefix):
				gone[other] = true
				p.exclude = append(p.exclude, plan.Change[netip.Prefix, netip.Prefix]{Key: other, Have: &other})
			}
		}
		if !inside {
			p.exclude = append(p.exclude, plan.Change[netip.Prefix, netip.Prefix]{Key: prefix, Want: &prefix})
		}
	}
	slices.SortFunc(p.exclude, func(a, b plan.Change[netip.Prefix, netip.Prefix]) int { return comparePrefix(a.Key, b.Key) })
}

// with returns s after the plan of a Change.
func (s State) with(p Plan) State {
	s.Forwards = changed(s.Forwards, p.forwards, func(f *Forward) Key { return f.Key() })
	s.Networks = changed(s.Networks, p.networks, func(n *Network) netip.Prefix { return n.Prefix })
	s.Exclude = changed(s.Exclude, p.exclude, func(p *netip.Prefix) netip.Prefix { return *p })
	s.Localhost = changed(s.Localhost, p.localhost, localhostKey)
	s.Capture = captureOf(changed(s.Capture.canonical().items(), p.capture, func(a *item) item { return *a }))
	return s
}

func changed[K comparable, T any](list []T, changes []plan.Change[K, T], key func(*T) K) []T {
	if len(changes) == 0 {
		return list
	}
	gone := make(map[K]bool, len(changes))
	for _, c := range changes {
		gone[c.Key] = true
	}
	list = slices.DeleteFunc(slices.Clone(list), func(v T) bool { return gone[key(&v)] })
	for _, c := range changes {
		if c.Want != nil {
			list = append(list, *c.Want)
		}
	}
	return list
}

// Validate names every fault of c, each with its path.
func (c Change) Validate() error {
	var faults faults
	faults.name("owner", c.Owner)
	forwards := make(map[Key]string, len(c.Set)+len(c.Drop))
	for i := range c.Set {
		at := fmt.Sprintf("set[%d]", i)
		faults.forward(at, &c.Set[i])
		once(&faults, forwards, c.Set[i].Key(), at)
		faults.owned(at, c.Set[i].Name, c.Owner)
	}
	for i, k := range c.Drop {
		once(&faults, forwards, k, fmt.Sprintf("drop[%d]", i))
	}
	networks := make(map[netip.Prefix]string, len(c.SetNetworks)+len(c.DropNetworks))
	for i, n := range c.SetNetworks {
		at := fmt.Sprintf("setNetworks[%d]", i)
		faults.prefix(at+".prefix", n.Prefix)
		faults.name(at+".name", n.Name)
		faults.pool(at+".to", n)
		once(&faults, networks, n.Prefix.Masked(), at)
		faults.owned(at, n.Name, c.Owner)
	}
	faults.overlap("setNetworks", len(c.SetNetworks), func(i int) netip.Prefix { return c.SetNetworks[i].Prefix }, func(_, _ int) bool { return false })
	exclude := make(map[netip.Prefix]string, len(c.SetExclude)+len(c.DropExclude))
	for _, list := range []struct {
		name     string
		prefixes []netip.Prefix
		seen     map[netip.Prefix]string
	}{{"dropNetworks", c.DropNetworks, networks}, {"setExclude", c.SetExclude, exclude}, {"dropExclude", c.DropExclude, exclude}} {
		for i, p := range list.prefixes {
			at := fmt.Sprintf("%s[%d]", list.name, i)
			faults.prefix(at, p)
			once(&faults, list.seen, p.Masked(), at)
		}
	}
	faults.localhost("setLocalhost", c.SetLocalhost)
	faults.change(c)
	return errors.Join(faults...)
}

// once finds what is named twice.
func once[K interface {
	comparable
	fmt.Stringer
}](f *faults, seen map[K]string, k K, at string) {
	if first, ok := seen[k]; ok {
		f.add(at, "%s is %s already", k, first)
		return
	}
	seen[k] = at
}

func (f *faults) owned(at, name, owner string) {
	if owner != "" && name != owner {
		f.add(at+".name", "%q is not the owner's, %q", name, owner)
	}
}
