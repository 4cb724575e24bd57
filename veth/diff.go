package veth

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/podplumb/podplumb/internal/plan"
)

// Plan is what has to change to get from one state to another. The zero Plan changes nothing.
type Plan struct {
	have, want State // canonical
	bridges    []bridgeChange
	pairs      []pairChange
	look       extent // of the observation that it was made from
}

type bridgeChange struct {
	have, want *Bridge // nil: absent
	link       linkChange
}

// pairChange with both have and want set and replace makes the pair anew: its pod end is not where it should be.
type pairChange struct {
	have, want *Pair
	replace    bool
	host, pod  linkChange
}

// linkChange is what changes on one link that stays or is new.
type linkChange struct {
	settings []settingChange
	sysctls  []plan.Change[string, sysctl]
	addrs    []plan.Change[netip.Prefix, netip.Prefix]
	routes   []plan.Change[routeKey, Route]
	proxies  []plan.Change[netip.Addr, netip.Addr]
}

// setting is a property of a link in print. In a wanted link an empty value means that any will do.
type setting struct{ name, value string }

type settingChange struct{ name, have, want string }

type sysctl struct{ name, value string }

// Diff compares two states. The plan's changes are sorted, bridges first, then pairs, each by name. A wanted MAC or VLANs that is zero
// accepts what is there. Both states should be valid.
func Diff(have, want State) Plan {
	p := Plan{have: have.Canonical(), want: want.Canonical()}
	for _, c := range plan.Diff(p.have.Bridges, p.want.Bridges, func(b *Bridge) string { return b.Name }, cmp.Compare[string], never) {
		b := bridgeChange{have: c.Have, want: c.Want}
		if c.Want != nil {
			b.link = diffBridge(c.Have, c.Want)
		}
		if c.Op() != plan.Modify || !b.link.empty() {
			p.bridges = append(p.bridges, b)
		}
	}
	for _, c := range plan.Diff(p.have.Pairs, p.want.Pairs, func(p *Pair) string { return p.Host.Name }, cmp.Compare[string], never) {
		x := pairChange{have: c.Have, want: c.Want}
		if c.Want != nil {
			have := c.Have
			if have != nil && (have.Pod.NetNS != c.Want.Pod.NetNS || have.Pod.Name != c.Want.Pod.Name) {
				x.replace, have = true, nil
			}
			x.host, x.pod = diffPair(have, c.Want)
		}
		if c.Op() != plan.Modify || x.replace || !x.host.empty() || !x.pod.empty() {
			p.pairs = append(p.pairs, x)
		}
	}
	return p
}

// never tells plan.Diff to hand over every pair of values: what is equal is decided link by link.
func never[T any](_, _ *T) bool { return false }

// Empty reports whether there is nothing to do.
func (p Plan) Empty() bool { return len(p.bridges) == 0 && len(p.pairs) == 0 }

// String prints one change a line: + added, ~ changed, - removed. The empty Plan prints as nothing.
func (p Plan) String() string {
	var lines []plan.Line
	for _, c := range p.bridges {
		switch {
		case c.want == nil:
			lines = append(lines, plan.Line{Op: plan.Remove, Object: "bridge " + c.have.Name})
		case c.have == nil:
			lines = append(lines, plan.Line{Op: plan.Add, Object: "bridge " + c.want.Name, Detail: c.link.values()})
			lines = append(lines, c.link.lines("bridge "+c.want.Name, false)...)
		default:
			lines = append(lines, c.link.lines("bridge "+c.want.Name, true)...)
		}
	}
	for _, c := range p.pairs {
		if c.want == nil || c.replace {
			lines = append(lines, plan.Line{Op: plan.Remove, Object: "pair " + c.have.Host.Name})
		}
		if c.want == nil {
			continue
		}
		name := "pair " + c.want.Host.Name
		made := c.have == nil || c.replace
		if made {
			lines = append(lines, plan.Line{Op: plan.Add, Object: name, Detail: fmt.Sprintf("%s in %s", c.want.Pod.Name, c.want.Pod.NetNS)})
			lines = append(lines,
				plan.Line{Op: plan.Add, Object: name + " host", Detail: c.host.values()},
				plan.Line{Op: plan.Add, Object: name + " pod", Detail: c.pod.values()})
		}
		lines = append(lines, c.host.lines(name+" host", !made)...)
		lines = append(lines, c.pod.lines(name+" pod", !made)...)
	}
	return plan.Format(lines)
}

func (c *linkChange) empty() bool {
	return len(c.settings) == 0 && len(c.sysctls) == 0 && len(c.addrs) == 0 && len(c.routes) == 0 && len(c.proxies) == 0
}

// has reports whether one of the named settings changes.
func (c *linkChange) has(names ...string) bool {
	for _, s := range c.settings {
		for _, n := range names {
			if s.name == n {
				return true
			}
		}
	}
	return false
}

// values prints the settings of a link that is made.
func (c *linkChange) values() string {
	var out []string
	for _, s := range c.settings {
		out = append(out, s.name+" "+s.want)
	}
	return strings.Join(out, ", ")
}

// lines prints the changes on the link, its settings only when they are changed and not made.
func (c *linkChange) lines(object string, settings bool) []plan.Line {
	var out []plan.Line
	if settings && len(c.settings) > 0 {
		var detail []string
		for _, s := range c.settings {
			detail = append(detail, fmt.Sprintf("%s %s -> %s", s.name, s.have, s.want))
		}
		out = append(out, plan.Line{Op: plan.Modify, Object: object, Detail: strings.Join(detail, ", ")})
	}
	for _, s := range c.sysctls {
		l := plan.Line{Op: s.Op(), Object: object + " sysctl " + s.Key}
		switch s.Op() {
		case plan.Add:
			l.Detail = s.Want.value
		case plan.Modify:
			l.Detail = s.Have.value + " -> " + s.Want.value
		}
		out = append(out, l)
	}
	for _, a := range c.addrs {
		out = append(out, plan.Line{Op: a.Op(), Object: object + " address " + a.Key.String()})
	}
	for _, r := range c.routes {
		l := plan.Line{Op: r.Op(), Object: object + " route " + r.Key.String()}
		switch r.Op() {
		case plan.Add:
			l.Object = object + " route " + r.Want.String()
		case plan.Modify:
			l.Detail = routeDetail(r.Have) + " -> " + routeDetail(r.Want)
		}
		out = append(out, l)
	}
	for _, a := range c.proxies {
		out = append(out, plan.Line{Op: a.Op(), Object: object + " proxy " + a.Key.String()})
	}
	return out
}

func routeDetail(r *Route) string { return cmp.Or(strings.TrimSpace(r.detail()), "on link") }

// from is a setting's present value.
func (c *linkChange) from(name string) string {
	for _, s := range c.settings {
		if s.name == name {
			return s.have
		}
	}
	return ""
}

// inverse changes back.
func (c *linkChange) inverse() linkChange {
	out := linkChange{sysctls: swap(c.sysctls), addrs: swap(c.addrs), routes: swap(c.routes), proxies: swap(c.proxies)}
	for _, s := range c.settings {
		out.settings = append(out.settings, settingChange{name: s.name, have: s.want, want: s.have})
	}
	return out
}

func swap[K comparable, T any](changes []plan.Change[K, T]) []plan.Change[K, T] {
	var out []plan.Change[K, T]
	for _, c := range changes {
		out = append(out, plan.Change[K, T]{Key: c.Key, Have: c.Want, Want: c.Have})
	}
	return out
}
