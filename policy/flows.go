package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// Flow is a set of connections that a change of policies opens or closes: all of them from any of From to any of To.
type Flow struct {
	Opened     bool // else closed
	IPv4, IPv6 bool // over which families
	From, To   Ends
	Ports      []Ports
	Before     Verdict // of one of the connections, as of After; the others have the same reason
	After      Verdict
}

// Ports are ports of a protocol.
type Ports struct {
	Protocol Protocol // empty: every protocol, and those without ports too; "other": only those without ports
	First    uint16   // first port
	Last     uint16   // last port; 0: every port
}

// String prints "TCP 5432", "UDP 1000-2000", "SCTP", "every protocol".
func (p Ports) String() string {
	switch {
	case p.Protocol == "":
		return "every protocol"
	case p.Last == 0:
		return string(p.Protocol)
	case p.First == p.Last:
		return fmt.Sprintf("%s %d", p.Protocol, p.First)
	}
	return fmt.Sprintf("%s %d-%d", p.Protocol, p.First, p.Last)
}

// Ends are pods, nodes and networks at one end of a Flow.
type Ends struct {
	Pods     []Name
	Nodes    []string  // by name; a pod's own node is not meant, see OwnNode
	Networks []Network // that are neither pods nor nodes
	OwnNode  bool      // the node that each of the pods at the other end runs on

	text string
}

// Network is a range of addresses without some parts of it. The zero Prefix is everything of both families.
type Network struct {
	Prefix netip.Prefix
	Except []netip.Prefix
}

// String prints "192.0.2.0/24 except 192.0.2.128/25"; a network of all addresses is called "outside".
func (n Network) String() string {
	text := n.Prefix.String()
	if n.Prefix.Bits() <= 0 {
		text = "outside"
	}
	for i, p := range n.Except {
		text += map[bool]string{true: " except ", false: ", "}[i == 0] + p.String()
	}
	return text
}

// String prints the ends in few words: "every pod", "db/*" for all pods of a namespace, else names, of which it leaves out all but a few.
func (e Ends) String() string { return e.text }

// String prints the flow with what allowed or denied it before, and what does after:
// "opened TCP 5432  web/front -> db/pg: was isolated for ingress by db/default-deny, now NetworkPolicy db/allow-sql, ingress[0]".
func (f Flow) String() string {
	var b strings.Builder
	b.WriteString(map[bool]string{true: "opened ", false: "closed "}[f.Opened])
	for i, p := range f.Ports {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p.String())
	}
	if f.IPv4 != f.IPv6 {
		b.WriteString(map[bool]string{true: " over IPv4", false: " over IPv6"}[f.IPv4])
	}
	fmt.Fprintf(&b, "  %s -> %s: was %s, now %s", f.From, f.To, f.Before.By.brief(), f.After.By.brief())
	return b.String()
}

// brief tells the reason without the pod.
func (d Decision) brief() string {
	verb := map[bool]string{true: "allowed", false: "denied"}[d.Allowed]
	switch d.Reason {
	case ByRule:
		rule := fmt.Sprintf("%s by %s %s, %s[%d]", verb, d.Tier, d.Policy, d.noun(), d.Rule)
		if d.RuleName != "" {
			rule += fmt.Sprintf(" %q", d.RuleName)
		}
		return rule
	case ByIsolation:
		names := make([]string, len(d.Isolating))
		for i, n := range d.Isolating {
			names[i] = n.String()
		}
		return fmt.Sprintf("isolated for %s by %s", d.noun(), strings.Join(names, ", "))
	case ByDefault:
		return "open for want of a policy"
	case OwnNode:
		return "open to the own node"
	case NoPod, SamePod:
	}
	return verb
}

// maxCells bounds the work of Flows and Analyze: so many connections are looked at, each standing for all that are like it.
const maxCells = 1 << 18

// Flows tells what becomes possible and what impossible when the policies, labels and namespaces of before become those of after: every
// kind of connection between pods, nodes and the outside whose Verdict changes, with the reasons. Pods that only one of the States has
// are left out: they come or go, whatever the policies say. Connections that nothing in the two States tells apart are one Flow. The
// result is sorted and the same for the same States.
//
// complete is false when there is more to compare than is done in a few seconds; the result is a part then. What has not changed costs
// little: the work grows with the pods that changed policies select.
func Flows(before, after State) (flows []Flow, complete bool) {
	c := &comparison{budget: maxCells}
	for i, s := range []State{before, after} {
		c.states[i], c.evaluators[i] = s, NewEvaluator(s)
	}
	c.compile()
	for family := range 2 {
		c.compare(family)
	}
	return c.merged(), c.budget > 0
}
