package nat

import (
	"fmt"
	"net/netip"
	"strings"
)

// Packet is the first packet of a connection.
type Packet struct {
	Src, Dst netip.AddrPort
	Proto    Proto
	// FromHost and ToHost say that Src and Dst are addresses of the host itself.
	FromHost, ToHost bool

	// User and Group are those of the process that sends it, of packets from
	// the host. Mark is the packet mark.
	User, Group uint32
	Mark        uint32
}

// Outcome is what becomes of a packet.
type Outcome uint8

const (
	// Untouched: no forward has the destination; the packet goes on to it.
	Untouched Outcome = iota
	// Forwarded: the packet goes to one of the targets.
	Forwarded
	// Rejected: the sender is told.
	Rejected
	// Dropped: the sender is not told.
	Dropped
	// Captured: the packet goes to the proxy.
	Captured
	// Redirected: the packet goes to another port of the host.
	Redirected
)

func (o Outcome) String() string {
	switch o {
	case Untouched:
		return "untouched"
	case Forwarded:
		return "forwarded"
	case Rejected:
		return "rejected"
	case Dropped:
		return "dropped"
	case Captured:
		return "captured"
	case Redirected:
		return "redirected"
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Hop is a destination that a packet can be sent to.
type Hop struct {
	// To is unspecified where a packet from elsewhere stays on the host: it
	// reaches an address of the link that it came in by.
	To    netip.AddrPort
	Share float64 // of the connections, above 0 and up to 1
	// Masqueraded says that the packet carries an address of this host when
	// it leaves. A packet that stays on the host keeps its source.
	Masqueraded bool
	// From, when not zero, has the addresses that the packet carries when it
	// leaves.
	From Pool
}

// Explanation says what becomes of a packet and why.
type Explanation struct {
	Outcome Outcome
	By      string // the part of the State that decided
	// Hops are where the packet may go: the targets of a forward, or its own
	// destination when it is untouched.
	Hops []Hop
}

func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s by %s\n", e.Outcome, e.By)
	for _, h := range e.Hops {
		fmt.Fprintf(&b, "  %5.1f%% %s", 100*h.Share, h.To)
		if h.Masqueraded {
			b.WriteString(" masqueraded")
		}
		if h.From != (Pool{}) {
			b.WriteString(" from " + h.From.String())
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Explain says what a table that holds s does with p, without asking the
// kernel. s must be valid.
func Explain(s State, p Packet) Explanation {
	captured, spared, ok := s.captured(p)
	if ok {
		return captured
	}
	served, proxy := false, s.proxyPort(p)
	turnedAway := Explanation{Outcome: Rejected, By: proxy + ", whose port nobody reaches directly"}
	key := Key{Addr: p.Dst.Addr(), Port: p.Dst.Port(), Proto: p.Proto}
	var node *Forward
	for _, f := range s.Forwards {
		if f.Key() == key {
			e := s.explainForward(f.canonical(), p)
			if proxy != "" && e.Outcome != Forwarded {
				return turnedAway
			}
			return e
		}
		served = served || f.Addr == key.Addr
		if f.Key() == (Key{unspecified(key.Addr), key.Port, key.Proto}) {
			node = &f
		}
	}
	if e, ok := s.redirected(p); ok {
		return e
	}
	if proxy != "" {
		return turnedAway
	}
	if node != nil && p.ToHost && (s.local(key.Addr) || s.fromLoopback(p)) {
		return s.explainForward(node.canonical(), p)
	}
	if e, ok := s.closes(p); ok {
		return e
	}
	if served && !p.ToHost {
		return Explanation{Outcome: Rejected, By: "no forward has this port of " + key.Addr.String()}
	}
	if v, ok := s.virtualFor(key.Addr); ok {
		if served {
			return Explanation{Outcome: Rejected, By: "no forward has this port of " + key.Addr.String()}
		}
		return Explanation{Outcome: v.Miss.outcome(), By: "virtual " + v.Prefix.Masked().String()}
	}
	hop := Hop{To: p.Dst, Share: 1}
	why := "no part of the State"
	if spared != "" {
		why = spared
	}
	if n, ok := s.networkFor(p.Src.Addr()); ok && !p.ToHost {
		if x, ok := s.excludes(p.Dst.Addr()); ok {
			why = x
		} else {
			hop.Masqueraded, hop.From, why = n.To == (Pool{}), n.To.canonical(), "network "+n.Prefix.Masked().String()
		}
	}
	return Explanation{Outcome: Untouched, By: why, Hops: []Hop{hop}}
}

func (r Refusal) outcome() Outcome {
	if r == Drop {
		return Dropped
	}
	return Rejected
}

func (s State) explainForward(f Forward, p Packet) Explanation {
	by := "forward " + f.Key().String()
	if f.Name != "" {
		by += " (" + f.Name + ")"
	}
	if f.Affinity != 0 {
		by += ", where a client keeps its target for " + f.Affinity.String()
	}
	src, checked := p.Src.Addr(), true
	if s.fromLoopback(p) {
		if len(f.To)+len(f.Near) > 0 {
			src, _ = s.localhostOf(src)
		} else {
			checked = !f.Key().node()
		}
	}
	if x, ok := f.turnsAway(src); ok && checked {
		return Explanation{Outcome: Dropped, By: by + ", " + x}
	}
	targets, none := f.To, "which has no targets"
	switch near := s.near(p); {
	case len(f.Near) > 0 && near != "":
		targets, by = f.Near, by+", for near clients ("+near+")"
	case len(f.Near) > 0:
		none = "which has targets for near clients only"
	}
	if len(targets) == 0 {
		return Explanation{Outcome: f.Empty.outcome(), By: by + ", " + none}
	}
	total := 0
	for _, t := range targets {
		total += t.Weight
	}
	if f.Elsewhere {
		by += ", led elsewhere"
	}
	e := Explanation{Outcome: Forwarded, By: by}
	for _, t := range targets {
		hop := Hop{To: netip.AddrPortFrom(t.Addr, t.Port), Share: float64(t.Weight) / float64(total)}
		hop.Masqueraded, hop.From = s.hides(f, p, t.Addr)
		e.Hops = append(e.Hops, hop)
	}
	return e
}

// turnsAway says why f does not serve a source.
func (f Forward) turnsAway(src netip.Addr) (string, bool) {
	for _, p := range f.Deny {
		if p.Contains(src) {
			return "which denies " + p.String(), true
		}
	}
	for _, p := range f.Allow {
		if p.Contains(src) {
			return "", false
		}
	}
	return "which does not allow the source", len(f.Allow) > 0
}

// near says why the sender of p is near, or nothing.
func (s State) near(p Packet) string {
	if n, ok := s.networkFor(p.Src.Addr()); ok {
		return "network " + n.Prefix.Masked().String()
	}
	for _, x := range s.Exclude {
		if x.Contains(p.Src.Addr()) {
			return "exclude " + x.Masked().String()
		}
	}
	if p.FromHost {
		return "the host"
	}
	return ""
}

// hides says whether a connection through f to a target is masqueraded, or
// the addresses that it leaves under.
func (s State) hides(f Forward, p Packet, target netip.Addr) (bool, Pool) {
	if s.masquerades(f, p, target) {
		return true, Pool{}
	}
	n, inside := s.networkFor(p.Src.Addr())
	if !inside || s.excluded(target) {
		return false, Pool{}
	}
	return n.To == (Pool{}), n.To.canonical()
}

// masquerades says whether f itself hides the source of a connection to a
// target.
func (s State) masquerades(f Forward, p Packet, target netip.Addr) bool {
	src := p.Src.Addr()
	_, inside := s.networkFor(src)
	for _, x := range s.Exclude {
		inside = inside || x.Contains(src)
	}
	if p.Dst.Addr().IsLoopback() {
		return true
	}
	switch f.Masquerade {
	case MasqueradeAll:
		return true
	case MasqueradeRemote:
		return src == target || !inside
	case MasqueradeHost:
		return src == target || p.FromHost
	}
	return src == target
}

// local says that node ports are served on a, an address of the host.
func (s State) local(a netip.Addr) bool {
	limited := false
	for _, p := range s.Local {
		if p.Addr().Is4() == a.Is4() {
			limited = limited || p.Bits() > 0
			if p.Contains(a) {
				return !a.IsLoopback()
			}
		}
	}
	return !limited && !a.IsLoopback()
}

func (s State) virtualFor(a netip.Addr) (Virtual, bool) {
	for _, v := range s.Virtual {
		if v.Prefix.Contains(a) {
			return v, true
		}
	}
	return Virtual{}, false
}

func (s State) networkFor(a netip.Addr) (Network, bool) {
	for _, n := range s.Networks {
		if n.Prefix.Contains(a) {
			return n, true
		}
	}
	return Network{}, false
}

func (s State) excluded(a netip.Addr) bool { _, ok := s.excludes(a); return ok }

// excludes names what keeps traffic from a network to a untranslated.
func (s State) excludes(a netip.Addr) (string, bool) {
	if n, ok := s.networkFor(a); ok {
		return "destination in network " + n.Prefix.Masked().String(), true
	}
	for _, x := range s.Exclude {
		if x.Contains(a) {
			return "exclude " + x.Masked().String(), true
		}
	}
	if a.IsMulticast() {
		return "multicast", true
	}
	return "", false
}
