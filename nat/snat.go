package nat

import (
	"fmt"
	"net/netip"

	"github.com/podplumb/podplumb/internal/nft"
)

// A Pool is the addresses that a network's connections leave under. They
// must be the host's own, or be routed to it. The zero Pool is the address of
// the outgoing link, with a random port.
type Pool struct {
	// First and Last are of the network's family. Last zero means First alone.
	First, Last netip.Addr

	// Ports are the source ports of TCP, UDP and SCTP. Zero keeps the client's
	// port while it is free, or takes another of its kind (below 512, below
	// 1024, above).
	Ports Ports

	// Random draws the port even where the client's own is free.
	Random bool

	// Persistent gives a client the same address for all destinations. By
	// default the address depends on both.
	Persistent bool
}

func (p Pool) String() string {
	if p == (Pool{}) {
		return "masquerade"
	}
	s := p.First.String()
	if p.Last.IsValid() && p.Last != p.First {
		s += "-" + p.Last.String()
	}
	if p.Ports != (Ports{}) {
		s += " ports " + p.Ports.String()
	}
	if p.Random {
		s += " random"
	}
	if p.Persistent {
		s += " persistent"
	}
	return s
}

// Contains says that a is one of the pool's addresses.
func (p Pool) Contains(a netip.Addr) bool {
	last := p.Last
	if !last.IsValid() {
		last = p.First
	}
	return a.BitLen() == p.First.BitLen() && p.First.Compare(a) <= 0 && a.Compare(last) <= 0
}

func (p Pool) canonical() Pool {
	if p == (Pool{}) {
		return p
	}
	if !p.Last.IsValid() {
		p.Last = p.First
	}
	if p.Ports != (Ports{}) {
		p.Ports.Last = max(p.Ports.First, p.Ports.Last)
	}
	return p
}

// pools is the part of a family's layout for Network.To.
type pools struct {
	choice *nft.Set // source -> chain by the pool's options
	addrs  *nft.Set // source -> addresses
	ports  *nft.Set // source -> addresses and ports
}

func newPools(suffix string, saddr nft.Load) pools {
	key := []nft.Expr{saddr}
	return pools{
		choice: &nft.Set{Name: "pools" + suffix, Key: key, Interval: true, Verdict: true, Comment: "networks with addresses of their own"},
		addrs:  &nft.Set{Name: "pool-addresses" + suffix, Key: key, Interval: true, Data: key, DataRange: true, Comment: "network -> its addresses"},
		ports: &nft.Set{
			Name: "pool-ports" + suffix, Key: key, Interval: true, Data: []nft.Expr{saddr, nft.ThSport}, DataRange: true,
			Comment: "network -> its addresses and ports",
		},
	}
}

func (p pools) sets() []*nft.Set { return []*nft.Set{p.choice, p.addrs, p.ports} }

func (p Pool) chainName(suffix string) string {
	name := "pool" + suffix
	if p.Random {
		name += "-random"
	}
	if p.Persistent {
		name += "-persistent"
	}
	return name
}

// chains has one chain for each combination of options. What finds no address
// there, because a change came in between, does not leave under its own.
func (p pools) chains(suffix string) []*nft.Chain {
	var list []*nft.Chain
	for _, o := range []Pool{{}, {Random: true}, {Persistent: true}, {Random: true, Persistent: true}} {
		snat := func(m *nft.Set) nft.Stmt {
			return nft.SNAT{From: nft.Mapped{Key: m.Key[0], Map: m}, Random: o.Random, Persistent: o.Persistent}
		}
		list = append(list, chain(o.chainName(suffix),
			rule(isTCP(), snat(p.ports)), rule(isProto(UDP), snat(p.ports)), rule(isProto(SCTP), snat(p.ports)),
			rule(snat(p.addrs)), rule(nft.Verdict{Code: nft.Drop})))
	}
	return list
}

// pool changes the pool of a network.
func (w *world) pool(prefix netip.Prefix, was, is Pool, e *edits) {
	if was == is {
		return
	}
	f := w.lay.of(prefix.Addr())
	for _, s := range f.pools.sets() {
		if was.in(s, f) {
			e.del(s, nft.Range(prefix)...)
		}
		if is.in(s, f) {
			e.add(s, is.elements(s, f, prefix)...)
		}
	}
}

// in says that a network with the pool is in a set.
func (p Pool) in(s *nft.Set, f *family) bool {
	return p != (Pool{}) && (s != f.pools.ports || p.Ports != (Ports{}))
}

func (p Pool) elements(s *nft.Set, f *family, prefix netip.Prefix) []nft.Element {
	list := nft.Range(prefix)
	switch s {
	case f.pools.choice:
		verdict := goTo(p.chainName(f.suffix))
		list[0].Verdict = &verdict
	case f.pools.addrs:
		list[0].Data = nft.AppendAddr(nft.AppendAddr(nil, p.First), p.Last)
	case f.pools.ports:
		first := nft.AppendPort(nft.AppendAddr(nil, p.First), p.Ports.First)
		list[0].Data = nft.AppendPort(nft.AppendAddr(first, p.Last), p.Ports.Last)
	}
	return list
}

func (f *faults) pool(at string, n Network) {
	p := n.To
	if p == (Pool{}) {
		return
	}
	if f.address(at+".first", p.First) && n.Prefix.IsValid() && p.First.Is4() != n.Prefix.Addr().Is4() {
		f.add(at+".first", "%s is not of the family of %s", p.First, n.Prefix)
	}
	if p.Last.IsValid() && f.address(at+".last", p.Last) && p.First.IsValid() && (p.Last.BitLen() != p.First.BitLen() || p.Last.Less(p.First)) {
		f.add(at+".last", "%s does not come after %s", p.Last, p.First)
	}
	if p.Ports != (Ports{}) {
		f.ports(at+".ports", p.Ports)
	}
}

func (f *faults) ports(at string, p Ports) {
	if p.First == 0 {
		f.add(at+".first", "zero")
	}
	if p.Last != 0 && p.Last < p.First {
		f.add(at+".last", fmt.Sprintf("%d is below %d", p.Last, p.First))
	}
}
