package vxlan

import "net/netip"

// Carry returns what the plan makes of the state, in canonical order, without a kernel.
func (p Plan) Carry(s State) State {
	table := map[key]entry{}
	gone := map[string]bool{}
	for _, e := range expand(s) {
		table[e.key] = e
	}
	for _, c := range p.changes {
		if c.Want == nil {
			delete(table, c.Key)
			if c.Key.kind == kindDevice {
				gone[c.Key.dev] = true
			}
			continue
		}
		table[c.Key] = *c.Want
	}
	var out []entry
	for _, e := range table {
		if !gone[e.dev] && !gone[e.link] {
			out = append(out, e)
		}
	}
	return group(out)
}

// Regroup tells the objects of s as a State again, as Read does.
func Regroup(s State) State { return group(expand(s)) }

// Canonical returns s in the order that Read uses.
func Canonical(s State) State { return canonical(s) }

// Link is a link of the node for ResolveOn.
type Link struct {
	Name  string
	MTU   int
	Addrs []netip.Prefix
}

// ResolveOn resolves s on a node with these links.
func ResolveOn(s State, links ...Link) (State, error) {
	var lowers []underlay
	for _, l := range links {
		lowers = append(lowers, underlay{name: l.Name, mtu: l.MTU, addrs: l.Addrs})
	}
	return resolve(s, lowers)
}
