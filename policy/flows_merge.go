package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// group is a rectangle of pairs: every one of rows with every one of columns.
type group struct{ rows, columns []*class }

// merged makes flows of the pieces, as few as it finds.
func (c *comparison) merged() []Flow {
	type kind struct {
		family int
		piece  piece
		pairs  map[*class][]*class // by sender
	}
	var kinds []*kind
	byKey := map[string]*kind{}
	for _, p := range c.pieces {
		key := fmt.Sprint(p.family, p.ports, p.dst == nil, p.after.Allowed, p.reason())
		k := byKey[key]
		if k == nil {
			k = &kind{family: p.family, piece: p, pairs: map[*class][]*class{}}
			byKey[key] = k
			kinds = append(kinds, k)
		}
		k.pairs[p.src] = append(k.pairs[p.src], p.dst)
	}
	var flows []Flow
	byText := map[string]int{}
	for _, k := range kinds {
		for _, g := range c.groups(k.family, k.pairs) {
			f := Flow{
				Opened: k.piece.after.Allowed, IPv4: k.family == 0, IPv6: k.family == 1, Ports: k.piece.ports,
				Before: k.piece.before, After: k.piece.after, From: c.ends(k.family, g.rows), To: c.ends(k.family, g.columns),
			}
			key := fmt.Sprint(f.Opened, f.Ports, f.From, f.From.Pods, f.From.Nodes, "\x00", f.To, f.To.Pods, f.To.Nodes, "\x00", k.piece.reason())
			if i, ok := byText[key]; ok && k.family == 1 && !flows[i].IPv6 {
				flows[i].IPv6 = true
				flows[i].From.Networks, flows[i].To.Networks = append(flows[i].From.Networks, f.From.Networks...), append(flows[i].To.Networks, f.To.Networks...)
				continue
			}
			byText[key] = len(flows)
			flows = append(flows, f)
		}
	}
	slices.SortStableFunc(flows, func(a, b Flow) int {
		return cmp.Or(cmp.Compare(a.To.text, b.To.text), cmp.Compare(a.From.text, b.From.text), slices.CompareFunc(a.Ports, b.Ports, comparePorts),
			cmp.Compare(a.String(), b.String()))
	})
	return flows
}

// groups covers the pairs with rectangles, taken by senders or by receivers, whichever gives fewer.
func (c *comparison) groups(family int, pairs map[*class][]*class) []group {
	turned := map[*class][]*class{}
	for _, src := range c.whole[family] {
		for _, dst := range pairs[src] {
			turned[dst] = append(turned[dst], src)
		}
	}
	straight := c.rectangles(c.whole[family], pairs, func(row, column *class) bool { return c.excluded[[2]*class{row, column}] })
	if len(turned[nil]) > 0 {
		return straight // to the own node
	}
	across := c.rectangles(c.whole[family], turned, func(row, column *class) bool { return c.excluded[[2]*class{column, row}] })
	if len(straight) <= len(across) {
		return straight
	}
	for i, g := range across {
		across[i] = group{rows: g.columns, columns: g.rows}
	}
	return across
}

// rectangles puts rows with the same columns together. Pairs that are no flow may be in a rectangle or not.
func (c *comparison) rectangles(order []*class, pairs map[*class][]*class, excluded func(row, column *class) bool) []group {
	var groups []group
	lacks := func(row *class, have, want []*class) bool {
		return slices.ContainsFunc(want, func(column *class) bool { return !slices.Contains(have, column) && !excluded(row, column) })
	}
	for _, row := range order {
		columns := pairs[row]
		if len(columns) == 0 {
			continue
		}
		i := slices.IndexFunc(groups, func(g group) bool {
			return !lacks(row, columns, g.columns) && !slices.ContainsFunc(g.rows, func(r *class) bool { return lacks(r, g.columns, columns) })
		})
		if i < 0 {
			groups = append(groups, group{rows: []*class{row}, columns: slices.Clone(columns)})
			continue
		}
		groups[i].rows = append(groups[i].rows, row)
		for _, column := range columns {
			if !slices.Contains(groups[i].columns, column) {
				groups[i].columns = append(groups[i].columns, column)
			}
		}
	}
	return groups
}

// ends names the members of classes.
func (c *comparison) ends(family int, classes []*class) Ends {
	var e Ends
	for _, cl := range classes {
		switch {
		case cl == nil:
			e.OwnNode = true
		case cl.network != nil:
			e.Networks = append(e.Networks, *cl.network)
		case cl.node:
			for _, m := range cl.members {
				e.Nodes = append(e.Nodes, m.name.Name)
			}
		default:
			for _, m := range cl.members {
				e.Pods = append(e.Pods, m.name)
			}
		}
	}
	slices.SortFunc(e.Pods, Name.compare)
	slices.Sort(e.Nodes)
	all := len(e.Networks)
	e.Networks = joinNetworks(e.Networks)
	e.text = c.text(family, &e, all)
	return e
}

// totals is how much there is of everything.
type totals struct {
	pods, nodes, networks int
	perNamespace          map[string]int // pods
}

func countEnds(classes []*class) totals {
	t := totals{perNamespace: map[string]int{}}
	for _, cl := range classes {
		switch {
		case cl.network != nil:
			t.networks++
		case cl.node:
			t.nodes += len(cl.members)
		default:
			t.pods += len(cl.members)
			for _, m := range cl.members {
				t.perNamespace[m.name.Namespace]++
			}
		}
	}
	return t
}

// mostNamed bounds how many names of pods and nodes a text holds, of each.
const mostNamed = 4

func (c *comparison) text(family int, e *Ends, inNetworks int) string {
	var parts, nodes []string
	all := &c.totals[family]
	switch {
	case len(e.Pods) == all.pods && all.pods > 1:
		parts = append(parts, "every pod")
	case len(e.Pods) > 0:
		parts = append(parts, podNames(e.Pods, all.perNamespace)...)
	}
	switch {
	case len(e.Nodes) == all.nodes && all.nodes > 1:
		nodes = append(nodes, "every node")
	default:
		for i, n := range e.Nodes {
			if i == mostNamed && len(e.Nodes) > mostNamed+1 {
				nodes = append(nodes, fmt.Sprintf("%d more nodes", len(e.Nodes)-i))
				break
			}
			nodes = append(nodes, "node "+n)
		}
	}
	parts = append(parts, nodes...)
	if inNetworks == all.networks && all.networks > 1 {
		parts = append(parts, "outside")
	} else {
		for _, n := range e.Networks {
			parts = append(parts, n.String())
		}
	}
	if e.OwnNode {
		parts = append(parts, "the own node")
	}
	return strings.Join(parts, ", ")
}

func podNames(pods []Name, perNamespace map[string]int) (parts []string) {
	have := map[string]int{}
	for _, n := range pods {
		have[n.Namespace]++
	}
	named, left := 0, 0
	for i, n := range pods {
		switch first := i == 0 || pods[i-1].Namespace != n.Namespace; {
		case have[n.Namespace] == perNamespace[n.Namespace] && have[n.Namespace] > 1:
			if first {
				parts = append(parts, n.Namespace+"/*")
			}
		case named < mostNamed:
			named++
			parts = append(parts, n.String())
		default:
			left++
		}
	}
	if left > 0 {
		parts = append(parts, fmt.Sprintf("%d more pods", left))
	}
	return parts
}
