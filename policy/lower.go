package policy

import (
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/podplumb/podplumb/internal/nft"
)

// The addresses of a packet by family.
var (
	saddr = [families]nft.Load{nft.IPSaddr, nft.IP6Saddr}
	daddr = [families]nft.Load{nft.IPDaddr, nft.IP6Daddr}
)

// peerField is where the other end's address stands, subjectField where the pod's own does.
func peerField(d, f int) nft.Load {
	if d == egress {
		return daddr[f]
	}
	return saddr[f]
}

func subjectField(d, f int) nft.Load { return peerField(1-d, f) }

var portKey = func(f int) nft.Concat { return nft.Concat{daddr[f], nft.MetaL4Proto, nft.ThDport} }

// condition is what a packet must satisfy, and the sets that this refers to.
type condition struct {
	stmts []nft.Stmt
	sets  []*wantSet
}

// and leaves room for what follows: the counter and the verdict.
func (c condition) and(d condition) condition {
	stmts := make([]nft.Stmt, 0, len(c.stmts)+len(d.stmts)+2)
	return condition{append(append(stmts, c.stmts...), d.stmts...), slices.Concat(c.sets, d.sets)}
}

// digest is a name for content. Eighty bits keep different contents apart.
func digest(parts ...string) string {
	var space [256]byte
	b := space[:0]
	for _, p := range parts {
		b = append(strconv.AppendInt(b, int64(len(p)), 10), ':')
		b = append(b, p...)
	}
	return digestOf(b)
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return lowerBase32.EncodeToString(sum[:10])
}

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567")

// comment cuts a text down to what the kernel keeps.
func comment(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return s[:most-3] + "..."
}

// peersOf is the set of the addresses of peers; nil when they are nobody.
func (m *making) peersOf(p *peers, f int) *wantSet {
	if len(p.pods)+len(p.nodes)+len(p.domains) == 0 {
		return nil
	}
	id := m.text[:0]
	if len(p.pods) == 1 && len(p.nodes)+len(p.domains) == 0 {
		id = p.pods[0].identity(append(id, 'p'))
	} else {
		id = append(id, p.identity()...)
	}
	if p.any {
		id = append(id, 'a')
	}
	m.text = id
	if want := m.peers[f][string(id)]; want != nil {
		return want
	}
	kind := "peers"
	if p.any {
		kind = "any-peers"
	}
	kept := *p
	kept.pods = slices.Clone(p.pods)
	want := &wantSet{family: f, peers: &kept, def: &nft.Set{
		Name: kind + suffix(f) + "-" + digestOf(id), Key: []nft.Expr{saddr[f]}, Comment: comment(p.String()),
	}}
	m.peers[f][string(id)] = want
	return want
}

// identity is a text that peers share exactly if they ask for the same.
func (p *peers) identity() string {
	var list []string
	for i := range p.pods {
		list = append(list, string(p.pods[i].identity([]byte{'p'})))
	}
	for _, s := range p.nodes {
		list = append(list, string(s.identity([]byte{'n'})))
	}
	for _, s := range p.domains {
		list = append(list, "d"+strings.TrimSuffix(strings.ToLower(s), "."))
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), "\n")
}

// String says who the peers are, for people.
func (p *peers) String() string {
	var text []string
	for i := range p.pods {
		text = append(text, p.pods[i].String())
	}
	for _, s := range p.nodes {
		text = append(text, "nodes "+s.String())
	}
	for _, s := range p.domains {
		text = append(text, "names "+strings.TrimSuffix(strings.ToLower(s), "."))
	}
	return oneOf(text)
}

// oneOf makes a set's comment the same whatever the order of what selects its members.
func oneOf(text []string) string {
	slices.Sort(text)
	return strings.Join(slices.Compact(text), ", ")
}

func suffix(f int) string { return [families]string{"4", "6"}[f] }

// within is an address in one of the spans that are of family f; false when there are none.
func within(field nft.Load, f int, list []span) (condition, bool) {
	if len(list) != 1 || addrFamily(list[0].lo) != f {
		list = merged(slices.DeleteFunc(slices.Clone(list), func(s span) bool { return addrFamily(s.lo) != f }))
	}
	switch len(list) {
	case 0:
		return condition{}, false
	case 1:
		if p, ok := list[0].prefix(); ok {
			if p.Bits() == 0 {
				return condition{stmts: []nft.Stmt{isFamily(f)}}, true
			}
			return condition{stmts: []nft.Stmt{nft.Within{Field: field, Prefix: p}}}, true
		}
	}
	want := rangeSet("ranges"+suffix(f), saddr[f], f, list)
	return condition{[]nft.Stmt{nft.In{Key: field, Set: want.def}}, []*wantSet{want}}, true
}

func rangeSet(kind string, key nft.Load, f int, list []span) *wantSet {
	want := &wantSet{family: f}
	id := make([]string, 0, len(list))
	for _, s := range list {
		id = append(id, s.lo.String()+"-"+s.hi.String())
		want.fixed = append(want.fixed, fixedRange(s.lo.AsSlice(), s.hi.AsSlice())...)
	}
	want.def = &nft.Set{Name: kind + "-" + digest(id...), Key: []nft.Expr{key}, Interval: true}
	return want
}

func fixedRange(lo, hi []byte) (list [][]string) {
	for _, e := range nft.RangeElements(lo, hi) {
		key := string(e.Key)
		if e.End {
			key += rangeEnd
		}
		list = append(list, []string{key})
	}
	return list
}

func isFamily(f int) nft.Stmt {
	if f == four {
		return nft.Is{Field: nft.MetaNFProto, Value: []byte{byte(nft.FamilyIPv4)}, Text: "ipv4"}
	}
	return nft.Is{Field: nft.MetaNFProto, Value: []byte{byte(nft.FamilyIPv6)}, Text: "ipv6"}
}

// isOneOf is an address among few.
func isOneOf(field nft.Load, f int, addrs []netip.Addr) (condition, bool) {
	var list []span
	for _, a := range addrs {
		list = append(list, span{a, a})
	}
	return within(field, f, list)
}

func isProto(p Protocol) nft.Stmt { return isTransport[p] }

var isTransport = map[Protocol]nft.Stmt{TCP: isProtoNumber(TCP), UDP: isProtoNumber(UDP), SCTP: isProtoNumber(SCTP)}

func isProtoNumber(p Protocol) nft.Stmt {
	n, _ := p.number()
	return nft.Is{Field: nft.MetaL4Proto, Value: []byte{n}, Text: strings.ToLower(string(p))}
}

// namedPortSet holds the ports of a name.
func namedPortSet(f int, p port) *wantSet {
	kind := "ports"
	if p.local {
		kind = "localports"
	}
	if p.any {
		kind = "any-" + kind
	}
	return &wantSet{family: f, port: &p, def: &nft.Set{
		Name: kind + suffix(f) + "-" + digest(p.name), Key: portKey(f), Comment: comment("ports called " + p.name),
	}}
}
