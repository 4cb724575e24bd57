package nat

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/internal/plan"
)

// Plan is the difference between two States. It is made by Diff or
// Client.Plan and done by Client.Apply.
type Plan struct {
	networks []plan.Change[netip.Prefix, Network]
	exclude  []plan.Change[netip.Prefix, netip.Prefix]
	virtual  []plan.Change[netip.Prefix, Virtual]
	local    []plan.Change[netip.Prefix, netip.Prefix]
	// localhost by family, named by its unspecified address
	localhost []plan.Change[netip.Addr, netip.Addr]
	// redirects by port, and what the capture says one by one
	redirects []plan.Change[listen, Redirect]
	capture   []plan.Change[item, item]
	forwards  []plan.Change[Key, Forward]
	// skeleton says that the table's fixed part is missing or of another
	// version; only a Client sets it.
	skeleton plan.Op
}

// Diff returns what turns have into want. Both are compared in canonical
// form: order, repetition of a target, a common factor of weights and
// prefixes inside others of the same list mean nothing.
func Diff(have, want State) Plan {
	have, want = have.canonical(), want.canonical()
	return Plan{
		networks:  plan.Diff(have.Networks, want.Networks, func(n *Network) netip.Prefix { return n.Prefix }, comparePrefix, equal[Network]),
		exclude:   plan.Diff(have.Exclude, want.Exclude, func(p *netip.Prefix) netip.Prefix { return *p }, comparePrefix, equal[netip.Prefix]),
		virtual:   plan.Diff(have.Virtual, want.Virtual, func(v *Virtual) netip.Prefix { return v.Prefix }, comparePrefix, equal[Virtual]),
		local:     plan.Diff(have.Local, want.Local, func(p *netip.Prefix) netip.Prefix { return *p }, comparePrefix, equal[netip.Prefix]),
		localhost: plan.Diff(have.Localhost, want.Localhost, localhostKey, netip.Addr.Compare, equal[netip.Addr]),
		redirects: plan.Diff(have.Redirects, want.Redirects, (*Redirect).key, listen.compare, equal[Redirect]),
		capture:   plan.Diff(have.Capture.items(), want.Capture.items(), func(a *item) item { return *a }, item.compare, equal[item]),
		forwards:  plan.Diff(have.Forwards, want.Forwards, func(f *Forward) Key { return f.Key() }, Key.compare, func(a, b *Forward) bool { return a.equal(b) }),
	}
}

func equal[T comparable](a, b *T) bool { return *a == *b }

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

func (k Key) compare(o Key) int {
	return cmp.Or(k.Addr.Compare(o.Addr), cmp.Compare(k.Port, o.Port), cmp.Compare(k.Proto, o.Proto))
}

// equal compares canonical forwards.
func (f *Forward) equal(o *Forward) bool {
	return f.Key() == o.Key() && f.Name == o.Name && f.Empty == o.Empty && f.Masquerade == o.Masquerade && f.Drain == o.Drain && f.Grace == o.Grace && f.Algorithm == o.Algorithm &&
		f.Affinity == o.Affinity && f.Elsewhere == o.Elsewhere && slices.Equal(f.To, o.To) && slices.Equal(f.Near, o.Near) &&
		slices.Equal(f.Allow, o.Allow) && slices.Equal(f.Deny, o.Deny)
}

// Empty says that there is nothing to do.
func (p Plan) Empty() bool {
	return p.skeleton == 0 && len(p.networks) == 0 && len(p.exclude) == 0 && len(p.virtual) == 0 && len(p.local) == 0 && len(p.localhost) == 0 &&
		len(p.redirects) == 0 && len(p.capture) == 0 && len(p.forwards) == 0
}

// String prints one change a line: "+" added, "~" changed, "-" removed.
func (p Plan) String() string {
	var lines []plan.Line
	if p.skeleton != 0 {
		lines = append(lines, plan.Line{Op: p.skeleton, Object: "table"})
	}
	for _, c := range p.networks {
		lines = append(lines, line(c, "network "+c.Key.String(), Network.detail, Network.change))
	}
	for _, c := range p.exclude {
		lines = append(lines, plan.Line{Op: c.Op(), Object: "exclude " + c.Key.String()})
	}
	for _, c := range p.virtual {
		lines = append(lines, line(c, "virtual "+c.Key.String(), Virtual.detail, Virtual.change))
	}
	for _, c := range p.local {
		lines = append(lines, plan.Line{Op: c.Op(), Object: "local " + c.Key.String()})
	}
	for _, c := range p.localhost {
		lines = append(lines, line(c, "localhost "+localhostName(c.Key), netip.Addr.String, func(have, want netip.Addr) string { return have.String() + " -> " + want.String() }))
	}
	for _, c := range p.redirects {
		lines = append(lines, line(c, "redirect "+c.Key.String(), Redirect.detail, Redirect.change))
	}
	for _, c := range p.capture {
		lines = append(lines, plan.Line{Op: c.Op(), Object: c.Key.String()})
	}
	for _, c := range p.forwards {
		lines = append(lines, line(c, "forward "+c.Key.String(), Forward.detail, Forward.change))
	}
	return plan.Format(lines)
}

func line[K comparable, T any](c plan.Change[K, T], object string, detail func(T) string, change func(have, want T) string) plan.Line {
	l := plan.Line{Op: c.Op(), Object: object}
	switch l.Op {
	case plan.Add:
		l.Detail = detail(*c.Want)
	case plan.Modify:
		l.Detail = change(*c.Have, *c.Want)
	}
	return l
}

func (n Network) detail() string {
	if n.To == (Pool{}) {
		return n.Name
	}
	return strings.TrimSpace(n.Name + " to " + n.To.String())
}

func (n Network) change(want Network) string {
	var parts []string
	if n.Name != want.Name {
		parts = append(parts, fmt.Sprintf("name %q -> %q", n.Name, want.Name))
	}
	if n.To != want.To {
		parts = append(parts, "to "+n.To.String()+" -> "+want.To.String())
	}
	return strings.Join(parts, ", ")
}

func (v Virtual) detail() string { return v.Miss.String() }

func (v Virtual) change(want Virtual) string { return v.Miss.String() + " -> " + want.Miss.String() }

func (f Forward) detail() string {
	var b strings.Builder
	if f.Name != "" {
		b.WriteString(f.Name + " ")
	}
	b.WriteString("to " + f.targets())
	if len(f.Near) > 0 {
		b.WriteString(" near to " + join(f.Near))
	}
	if f.Elsewhere {
		b.WriteString(" led elsewhere")
	}
	if f.Algorithm != Random {
		b.WriteString(" by " + f.Algorithm.String())
	}
	if len(f.Allow) > 0 {
		b.WriteString(" allow " + spaced(f.Allow))
	}
	if len(f.Deny) > 0 {
		b.WriteString(" deny " + spaced(f.Deny))
	}
	if f.Affinity != 0 {
		b.WriteString(" affinity " + f.Affinity.String())
	}
	if f.Drain != DrainKeep {
		b.WriteString(" drain " + f.drain())
	}
	if f.Masquerade != MasqueradeHairpin {
		b.WriteString(" masquerade " + f.Masquerade.String())
	}
	return b.String()
}

func (f Forward) drain() string {
	if f.Drain == DrainLater {
		return "after " + f.Grace.String()
	}
	return f.Drain.String()
}

// targets prints the targets, or what happens without any.
func (f Forward) targets() string {
	if len(f.To) == 0 {
		return f.Empty.String()
	}
	return join(f.To)
}

func (f Forward) change(want Forward) string {
	var parts []string
	if f.Name != want.Name {
		parts = append(parts, fmt.Sprintf("name %q -> %q", f.Name, want.Name))
	}
	if !slices.Equal(f.To, want.To) {
		s := "to " + targetChanges(f.To, want.To)
		if len(want.To) == 0 {
			s += " (now " + want.Empty.String() + ")"
		}
		parts = append(parts, s)
	}
	if !slices.Equal(f.Near, want.Near) {
		parts = append(parts, "near to "+targetChanges(f.Near, want.Near))
	}
	if f.Empty != want.Empty {
		parts = append(parts, "empty "+f.Empty.String()+" -> "+want.Empty.String())
	}
	if f.Algorithm != want.Algorithm {
		parts = append(parts, "by "+f.Algorithm.String()+" -> "+want.Algorithm.String())
	}
	for _, list := range []struct {
		name       string
		have, want []netip.Prefix
	}{{"allow", f.Allow, want.Allow}, {"deny", f.Deny, want.Deny}} {
		if !slices.Equal(list.have, list.want) {
			parts = append(parts, fmt.Sprintf("%s [%s] -> [%s]", list.name, spaced(list.have), spaced(list.want)))
		}
	}
	if f.Affinity != want.Affinity {
		parts = append(parts, "affinity "+f.Affinity.String()+" -> "+want.Affinity.String())
	}
	if f.Elsewhere != want.Elsewhere {
		parts = append(parts, fmt.Sprintf("led elsewhere %t -> %t", f.Elsewhere, want.Elsewhere))
	}
	if f.drain() != want.drain() {
		parts = append(parts, "drain "+f.drain()+" -> "+want.drain())
	}
	if f.Masquerade != want.Masquerade {
		parts = append(parts, "masquerade "+f.Masquerade.String()+" -> "+want.Masquerade.String())
	}
	return strings.Join(parts, ", ")
}

func spaced(list []netip.Prefix) string { return strings.ReplaceAll(join(list), ", ", " ") }

func join[T fmt.Stringer](list []T) string {
	s := make([]string, len(list))
	for i, v := range list {
		s[i] = v.String()
	}
	return strings.Join(s, ", ")
}

func targetChanges(have, want []Target) string {
	var marks []string
	for _, c := range plan.Diff(have, want,
		func(t *Target) netip.AddrPort { return netip.AddrPortFrom(t.Addr, t.Port) },
		netip.AddrPort.Compare, equal[Target]) {
		switch c.Op() {
		case plan.Modify:
			marks = append(marks, fmt.Sprintf("~%s (weight %d)", c.Key, c.Want.Weight))
		case plan.Add:
			marks = append(marks, "+"+c.Want.String())
		case plan.Remove:
			marks = append(marks, "-"+c.Key.String())
		}
	}
	return strings.Join(marks, " ")
}
