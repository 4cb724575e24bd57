package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// Packet is the first packet of a connection, as it is after a service's address was translated to a pod's.
type Packet struct {
	Protocol Protocol
	Src, Dst netip.Addr
	Port     uint16 // destination port; without meaning for protocols that have none
}

// String prints "TCP 10.244.1.5 -> 10.244.2.3:5432".
func (p Packet) String() string {
	return fmt.Sprintf("%s %s -> %s", p.Protocol, p.Src, netip.AddrPortFrom(p.Dst, p.Port))
}

// Verdict says whether a connection is allowed, and what decided.
type Verdict struct {
	Allowed bool
	By      Decision // the one that denied; or what allowed it, a rule before anything else, and the receiver's before the sender's
	Egress  Decision // at the sender; Reason is NoPod when it is none
	Ingress Decision // at the receiver; the zero Decision when Egress denied
}

// String prints the verdict with its reason: "denied: db/pg is isolated for ingress by db/default-deny, ...".
func (v Verdict) String() string {
	if v.Allowed {
		return "allowed: " + v.By.String()
	}
	return "denied: " + v.By.String()
}

// Reason tells which part of the policy model decided.
type Reason uint8

// The reasons, in the order in which they are looked for.
const (
	NoPod       Reason = iota // no pod at this end: policies do not apply
	SamePod                   // a pod always reaches itself
	OwnNode                   // the node that a pod runs on always reaches it, and is reached by it
	ByRule                    // a rule matched
	ByIsolation               // isolated, and no rule matched
	ByDefault                 // no policy is for the pod in this direction

	// The enforcement's own reasons to deny; Evaluate, which judges first packets between known addresses, has none of them.

	Midstream // from the middle of a TCP connection that conntrack does not know, at a pod with policies; see Config.KeepLive
	Unknown   // an address of Config.Local that no pod has
)

// String names the reason.
func (r Reason) String() string {
	return [...]string{"no pod", "same pod", "own node", "rule", "isolation", "default", "midstream", "unknown address"}[min(r, Unknown)]
}

// Decision is the outcome for one direction at one pod.
type Decision struct {
	Allowed   bool
	Reason    Reason
	Direction Direction
	Pod       Name
	Tier      Tier   // with ByRule and ByIsolation
	Policy    Name   // with ByRule
	Rule      int    // with ByRule: index in the policy's rules of the direction
	RuleName  string // with ByRule, if the rule has a name
	Peer      int    // with ByRule: index in the rule's peers, -1 when the rule has none and so matches everyone
	Isolating []Name // with ByIsolation: the policies that isolate the pod, sorted
	Nearest   string // with ByIsolation: the rule that came closest, and what it lacked
}

// String tells the decision in a sentence.
func (d Decision) String() string {
	switch d.Reason {
	case NoPod:
		return "policies apply to pods only"
	case SamePod:
		return fmt.Sprintf("a pod always reaches itself (%s)", d.Pod)
	case OwnNode:
		return fmt.Sprintf("traffic between %s and its own node is always allowed", d.Pod)
	case ByDefault:
		return fmt.Sprintf("no policy is for %s of %s", d.noun(), d.Pod)
	case Midstream:
		return "the middle of a TCP connection that is not known, at a pod with policies"
	case Unknown:
		return fmt.Sprintf("an address of this node's ranges that no pod has (%s)", d.noun())
	case ByIsolation:
		names := make([]string, len(d.Isolating))
		for i, n := range d.Isolating {
			names[i] = n.String()
		}
		s := fmt.Sprintf("%s is isolated for %s by %s", d.Pod, d.noun(), strings.Join(names, ", "))
		if d.Nearest != "" {
			return s + ", " + d.Nearest
		}
		return s + ", which allow nothing"
	}
	rule := fmt.Sprintf("%s[%d]", d.noun(), d.Rule)
	if d.RuleName != "" {
		rule += fmt.Sprintf(" %q", d.RuleName)
	}
	peer := ""
	if d.Peer >= 0 {
		peer = fmt.Sprintf(", %s[%d]", map[Direction]string{Ingress: "from", Egress: "to"}[d.Direction], d.Peer)
	}
	return fmt.Sprintf("%s policy %s, %s%s, for %s", d.Tier, d.Policy, rule, peer, d.Pod)
}

func (d Decision) noun() string { return strings.ToLower(string(d.Direction)) }
