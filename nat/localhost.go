package nat

import (
	"net/netip"
	"strconv"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/plan"
)

// localhost is the part of the layout that serves forwards on the loopback
// addresses of a family.
//
// A packet from a loopback address may not leave by another interface, nor
// may an answer to one come in by another: the kernel takes both for forged,
// unless net.ipv4.conf.*.route_localnet opens the host's loopback servers to
// its neighbours (CVE-2020-8558); IPv6 has no such setting. So such packets
// leave under an address of the host from the start: their source is rewritten
// before conntrack sees them, and the destination of answers after it has.
type localhost struct {
	source *nft.Set // a loopback address -> the host's address in its place
	ends   *nft.Set // both
}

// loopback is the source whose connections are served.
func (f *family) loopbackSource() netip.Addr {
	if f.is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

func newLocalhost(suffix string, saddr nft.Load) localhost {
	return localhost{
		source: &nft.Set{Name: "localhost" + suffix, Key: []nft.Expr{saddr}, Data: []nft.Expr{saddr}, Comment: "loopback address -> the host's in its place"},
		ends:   &nft.Set{Name: "localhosts" + suffix, Key: []nft.Expr{saddr}, Comment: "both"},
	}
}

// Hook priorities: before conntrack (NF_IP_PRI_RAW), and after nat's in input
// (NF_IP_PRI_NAT_SRC).
const (
	priorityRaw      = -300
	priorityAfterNAT = 110
)

// localhostChains rewrite sources and destinations.
func (l *layout) localhostChains() []*nft.Chain {
	out := hooked("filter", nft.Output, priorityRaw)
	out.Name = "localhost-out"
	in := hooked("filter", nft.Input, priorityAfterNAT)
	in.Name = "localhost-in"
	for _, f := range l.families() {
		from := nft.Is{Field: f.saddr, Value: f.loopbackSource().AsSlice(), Text: f.loopbackSource().String()}
		to := nft.Within{Field: f.daddr, Prefix: f.loopback}
		to4 := nft.Rewrite{Field: f.saddr, Value: nft.Mapped{Key: f.saddr, Map: f.localhost.source}}
		for _, key := range []nft.Concat{f.key, f.nodeKey} {
			out.Rules = append(out.Rules, rule(from, to, l.put(key, f.forwards), nft.ClearMark{Bits: l.mark}, to4))
		}
		in.Rules = append(in.Rules, rule(
			nft.Is{Field: nft.CTDirection, Value: []byte{1}, Text: "reply"}, translated,
			inSet(f.originSource, f.localhost.ends), nft.Within{Field: f.origin, Prefix: f.loopback},
			nft.Rewrite{Field: f.daddr, Value: nft.Address{Addr: f.loopbackSource()}},
		))
	}
	return []*nft.Chain{out, in}
}

// onLoopback serves node ports on loopback addresses.
func (f *family) onLoopback() nft.Rule {
	from := nft.Is{Field: f.saddr, Value: f.loopbackSource().AsSlice(), Text: f.loopbackSource().String(), Not: true}
	return rule(nft.Within{Field: f.daddr, Prefix: f.loopback}, from, inSet(f.saddr, f.localhost.ends), jump("node"+f.suffix))
}

// refuseLoopback turns away what node ports without targets get there.
func (f *family) refuseLoopback() []nft.Rule {
	to, from := nft.Within{Field: f.daddr, Prefix: f.loopback}, inSet(f.saddr, f.localhost.ends)
	return []nft.Rule{
		rule(to, from, inSet(f.nodeKey, f.rejected), goTo("rejection")),
		rule(to, from, inSet(f.nodeKey, f.dropped), nft.Verdict{Code: nft.Drop}),
	}
}

// localhosts changes which address stands for loopback addresses.
func (w *world) localhosts(changes []plan.Change[netip.Addr, netip.Addr], e *edits) {
	for _, c := range changes {
		f := w.lay.of(c.Key)
		if c.Have != nil {
			e.del(f.localhost.source, f.localhostElement(*c.Have))
			e.del(f.localhost.ends, f.endElements(*c.Have)...)
			delete(w.localhost, c.Key)
		}
		if c.Want != nil {
			e.add(f.localhost.source, f.localhostElement(*c.Want))
			e.add(f.localhost.ends, f.endElements(*c.Want)...)
			w.localhost[c.Key] = *c.Want
		}
	}
}

func (f *family) localhostElement(a netip.Addr) nft.Element {
	return nft.Element{Key: f.loopbackSource().AsSlice(), Data: a.AsSlice()}
}

func (f *family) endElements(a netip.Addr) []nft.Element {
	return []nft.Element{{Key: f.loopbackSource().AsSlice()}, {Key: a.AsSlice()}}
}

// localhostOf returns the address that stands for the loopback addresses of a's family.
func (s State) localhostOf(a netip.Addr) (netip.Addr, bool) {
	for _, l := range s.Localhost {
		if l.Is4() == a.Is4() {
			return l, true
		}
	}
	return netip.Addr{}, false
}

// fromLoopback says that p is one that enters as from the Localhost address.
func (s State) fromLoopback(p Packet) bool {
	src := p.Src.Addr()
	_, ok := s.localhostOf(src)
	return ok && p.Dst.Addr().IsLoopback() && (src == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || src == netip.IPv6Loopback())
}

func (f *faults) localhost(name string, list []netip.Addr) {
	seen := map[bool]int{}
	for i, a := range list {
		at := name + "[" + strconv.Itoa(i) + "]"
		if !f.address(at, a) {
			continue
		}
		if a.IsLoopback() {
			f.add(at, "%s is a loopback address", a)
		}
		if j, ok := seen[a.Is4()]; ok {
			f.add(at, "%s is of the family of %s[%d]", a, name, j)
		}
		seen[a.Is4()] = i
	}
}

// localhostKey is an address's family.
func localhostKey(a *netip.Addr) netip.Addr { return unspecified(*a) }

func localhostName(family netip.Addr) string {
	if family.Is4() {
		return "127.0.0.0/8"
	}
	return "::1"
}
