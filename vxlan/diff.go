package vxlan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/internal/plan"
)

// Plan is an ordered list of changes that leads from one state to another. The zero Plan changes nothing.
type Plan struct {
	changes []plan.Change[key, entry]
	have    []entry // the state that the plan starts from, for Apply
	want    State   // the state that it leads to, in canonical order
	asked   State   // the same before it was resolved
	entries []entry // the objects that want stands for, when they are known
	foreign []Foreign
}

// Diff returns the changes that lead from have to want. It is pure, so it cannot know what only the kernel tells: the zero Source, MTU and MAC of
// a wanted device match any, and DirectRouting has no effect. Client.Resolve fills these in, as Client.Plan and Sync do.
func Diff(have, want State) Plan {
	h, w := expand(have), canonical(want)
	return Plan{changes: compareTables(h, expand(w)), have: h, want: w, asked: w}
}

// compareTables compares both sides and drops what comes and goes by itself: the objects on a device that is removed go with it.
func compareTables(have, want []entry) []plan.Change[key, entry] {
	changes := compareEntries(have, want)
	gone := map[string]bool{}
	for _, c := range changes {
		if c.Key.kind == kindDevice && c.Op() == plan.Remove {
			gone[c.Key.dev] = true
		}
	}
	if len(gone) == 0 {
		return changes
	}
	return slices.DeleteFunc(changes, func(c plan.Change[key, entry]) bool {
		if c.Op() != plan.Remove || c.Key.kind == kindDevice {
			return false
		}
		return gone[c.Key.dev] || c.Key.kind == kindRoute && gone[c.Have.link]
	})
}

// Empty reports whether the plan changes nothing.
func (p Plan) Empty() bool { return len(p.changes) == 0 }

// Len returns the number of changes, which is the number of lines of String.
func (p Plan) Len() int { return len(p.changes) }

// Foreign lists what a plan made by a Client met on the client's own links, or next to its own routes, that is not the client's. The plan leaves it
// alone.
func (p Plan) Foreign() []Foreign { return slices.Clone(p.foreign) }

// String prints one change a line: "+" added, "~" changed, "-" removed. A device that has to be made again says so; what stands on it is made
// again with it and printed only if it differs.
func (p Plan) String() string {
	lines := make([]plan.Line, len(p.changes))
	for i, c := range p.changes {
		lines[i] = plan.Line{Op: c.Op(), Object: object(c.Key), Detail: detail(c)}
	}
	return plan.Format(lines)
}

// object names a key as plans and errors do.
func object(k key) string {
	switch k.kind {
	case kindDevice:
		return "device " + k.dev
	case kindAddr:
		return fmt.Sprintf("address %s dev %s", k.prefix.Addr(), k.dev)
	case kindFDB:
		return fmt.Sprintf("fdb %s dev %s", k.mac, k.dev)
	case kindFlood:
		return fmt.Sprintf("flood %s dev %s", k.dst, k.dev)
	case kindNeigh:
		return fmt.Sprintf("neighbour %s dev %s", k.prefix.Addr(), k.dev)
	}
	if k.metric != 0 {
		return fmt.Sprintf("route %s metric %d", k.prefix, k.metric)
	}
	return "route " + k.prefix.String()
}

// detail says what a change does; a removal needs no more than the object.
func detail(c plan.Change[key, entry]) string {
	switch c.Op() {
	case plan.Remove:
		return ""
	case plan.Add:
		return value(c.Want)
	}
	if c.Key.kind != kindDevice {
		return value(c.Have) + " -> " + value(c.Want)
	}
	changes := c.Have.device.changes(c.Want.device)
	var parts []string
	if c.Have.odd != "" {
		parts = append(parts, c.Have.odd+" -> none")
	}
	if c.Have.down {
		parts = append(parts, "down -> up")
	}
	for _, x := range changes {
		parts = append(parts, x.String())
	}
	text := strings.Join(parts, ", ")
	if recreates(c) {
		return "recreate, " + text
	}
	return text
}

// recreates reports whether the change deletes a device and makes it again.
func recreates(c plan.Change[key, entry]) bool {
	return c.Key.kind == kindDevice && c.Op() == plan.Modify && (c.Have.odd != "" || again(c.Have.device.changes(c.Want.device)))
}

// value prints what an entry holds beyond its key.
func value(e *entry) string {
	var text string
	switch e.kind {
	case kindDevice:
		return e.device.describe()
	case kindAddr:
		text = fmt.Sprintf("/%d", e.bits)
	case kindFDB:
		text = "dst " + show(e.to)
	case kindNeigh:
		text = "lladdr " + e.mac.String()
	case kindRoute:
		text = fmt.Sprintf("via %s dev %s", show(e.to), e.link)
		if e.onlink {
			text += " onlink"
		}
	}
	if e.odd != "" {
		text = strings.TrimPrefix(text+" ("+e.odd+")", " ")
	}
	return text
}
