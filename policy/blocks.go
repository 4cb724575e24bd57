package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"

	"github.com/podplumb/podplumb/internal/nft"
)

// Rules of a NetworkPolicy that allow single ports are not rules in the kernel: all of a policy that have prefixes of one length are one,
// which looks up all policies' networks and ports in a set, and all that name selectors are one, which looks up the peers that a port is
// for in a map, and then whether an address is among them in a set of all peers. An entry costs the kernel a tenth of a rule, a packet
// the same however many there are. What they count is in sets that packets fill: a counter that nothing has hit yet costs nothing.

// blocks is the entries of a policy for prefixes of one length, or for selectors.
type blocks struct {
	id      nft.Address // of the policy's entries, made of them
	counts  nft.Address // of their counters, made of the policy's name: they outlive a change of the policy
	set     *wantSet
	counted *wantSet
	members *wantSet // of the peers; nil for networks
	entries []blockEntry
	rules   *rules
	d       int
}

// blockEntry is a key of the set or map.
type blockEntry struct {
	key   string   // without the id
	rule  int      // that it is of
	peers *wantSet // who may; nil for networks
}

// What is better as rules: how many entries of a length, and how many rules with selectors for each entry that a port has at most.
const (
	fewBlocks = 1
	fewPeers  = 2
)

var familyBits = [families]int{32, 128}

// idField stands for an id in keys: it has the size.
var idField = nft.IP6Saddr

func blockSet(f, bits int) *wantSet {
	return &wantSet{family: f, def: &nft.Set{
		Name: "blocks" + suffix(f) + "-" + strconv.Itoa(bits), Key: []nft.Expr{idField, saddr[f], nft.MetaL4Proto, nft.ThDport},
		Comment: "a policy's entries . network . port",
	}}
}

func blockCounts(f int) *wantSet {
	return &wantSet{family: f, def: &nft.Set{
		Name: "block-counts" + suffix(f), Key: []nft.Expr{idField, saddr[f], nft.MetaL4Proto, nft.ThDport}, Counted: true,
		Comment: "a policy . network . port",
	}}
}

// shards is how many maps the entries for selectors are spread over: whenever a rule that asks a map is made, the kernel looks at all that
// is in it.
const shards = 64

func selectSet(f, shard int) *wantSet {
	return &wantSet{family: f, def: &nft.Set{
		Name: "selectors" + suffix(f) + "-" + strconv.Itoa(shard), Key: []nft.Expr{idField, nft.MetaL4Proto, nft.ThDport}, Data: []nft.Expr{nft.MetaMark},
		Comment: "a policy's entries . port -> number of the peers",
	}}
}

func selectCounts(f int) *wantSet {
	return &wantSet{family: f, def: &nft.Set{
		Name: "selector-counts" + suffix(f), Key: []nft.Expr{idField, nft.MetaL4Proto, nft.ThDport}, Counted: true,
		Comment: "a policy . port",
	}}
}

func memberSet(f int) *wantSet {
	return &wantSet{family: f, def: &nft.Set{
		Name: "members" + suffix(f), Key: []nft.Expr{nft.MetaMark, saddr[f]}, Comment: "number of peers . address",
	}}
}

// clause is what allows by the entries. It clears the mark, which the number of the profile stood in until then: a full set of counters
// must not keep what is allowed from passing.
func (b *blocks) clause(cfg *Config, d, f, bits int) clause {
	c := clause{action: Accept, blocks: b}
	key := func(id nft.Address) nft.Concat {
		if b.members != nil {
			return nft.Concat{id, nft.MetaL4Proto, nft.ThDport}
		}
		return nft.Concat{id, nft.Prefixed{Of: peerField(d, f), Bits: bits}, nft.MetaL4Proto, nft.ThDport}
	}
	label := comment(string(NetworkPolicyTier) + " " + b.rules.key.name.String())
	clearMark, count := nft.ClearMark{Bits: cfg.Mark}, nft.CountFor{Key: key(b.counts), Set: b.counted.def}
	if b.members == nil {
		c.sets = []*wantSet{b.set, b.counted}
		c.rules = []nft.Rule{{Stmts: []nft.Stmt{nft.In{Key: key(b.id), Set: b.set.def}, clearMark, count}, Comment: label}}
		return c
	}
	c.sets = []*wantSet{b.set, b.members, b.counted}
	number := nft.PutMark{Value: nft.Mapped{Key: key(b.id), Map: b.set.def}, Shift: cfg.shift()}
	member := nft.In{Key: nft.Concat{nft.Masked{Of: nft.MetaMark, Mask: cfg.Mark}, peerField(d, f)}, Set: b.members.def}
	c.rules = []nft.Rule{{Stmts: []nft.Stmt{number, member, clearMark, count}, Comment: label}}
	return c
}

// blockRule is what a rule says of peers and ports.
type blockRule struct {
	everyone bool
	index    int
	peers    *wantSet // whom selectors find; nil for nobody
	rest     []span   // what is no single network
	nets     []netip.Prefix
	all      portList
	ports    []portRange // all of them; none when not all are single
}

// split sorts out what a rule says.
func split(f, index int, list []span, ports portList) blockRule {
	b := blockRule{index: index, all: ports}
	for _, s := range list {
		if addrFamily(s.lo) != f {
			continue
		}
		if p, ok := s.prefix(); ok && p.Bits() > 0 {
			b.nets = append(b.nets, p)
		} else {
			b.rest = append(b.rest, s)
		}
	}
	if ports.all || len(ports.names) > 0 {
		return b
	}
	for _, r := range ports.ranges {
		if r.lo != r.hi {
			return b
		}
	}
	b.ports = ports.ranges
	return b
}

// gathering makes entries of the rules of a policy, and takes from the rules what is in them.
type gathering struct {
	*making
	rules *rules
	d, f  int
	list  []clause
}

func (g *gathering) gather(list []blockRule) []clause {
	nets := false
	for i := range list {
		nets = nets || len(list[i].nets) > 0 && len(list[i].ports) > 0
	}
	if nets {
		count := map[int]int{}
		for i := range list {
			for _, p := range list[i].nets {
				count[p.Bits()] += len(list[i].ports)
			}
		}
		for bits := familyBits[g.f]; bits > 0; bits-- {
			if count[bits] > fewBlocks {
				g.networks(list, bits, count[bits])
			}
		}
	}
	g.selectors(list)
	return g.list
}

func (g *gathering) networks(list []blockRule, bits, count int) {
	b := &blocks{
		set:     g.set("blocks", g.f, bits, func() *wantSet { return blockSet(g.f, bits) }),
		counted: g.set("block counts", g.f, 0, func() *wantSet { return blockCounts(g.f) }),
		entries: make([]blockEntry, 0, count),
	}
	clear(g.seen)
	keys := g.keys[:0]
	for i := range list {
		r := &list[i]
		if len(r.ports) == 0 {
			continue
		}
		left := r.nets[:0]
		for _, p := range r.nets {
			if p.Bits() != bits {
				left = append(left, p)
				continue
			}
			for _, port := range r.ports {
				at := len(keys)
				keys = appendPortKey(nft.AppendAddr(keys, p.Addr()), port)
				if _, ok := g.seen[string(keys[at:])]; ok {
					keys = keys[:at]
					continue // the first rule counts
				}
				g.seen[string(keys[at:])] = struct{}{}
				b.entries = append(b.entries, blockEntry{rule: r.index})
			}
		}
		r.nets = left
	}
	b.cut(keys)
	g.keys = keys
	g.add(b, bits)
}

// cut gives the entries their keys, which are one behind the other and of one length.
func (b *blocks) cut(keys []byte) {
	all := string(keys)
	for i, n := 0, len(b.entries); i < n; i++ {
		b.entries[i].key = all[len(all)/n*i : len(all)/n*(i+1)]
	}
}

// selectors makes entries of the rules that name selectors: several lists, when a port is for several peers.
func (g *gathering) selectors(list []blockRule) {
	rules, deepest := 0, 0
	clear(g.depth)
	for i := range list {
		if r := &list[i]; r.peers != nil && len(r.ports) > 0 {
			rules++
			for _, port := range singlePorts(r.ports) {
				g.depth[port]++
				deepest = max(deepest, g.depth[port])
			}
		}
	}
	if rules <= fewPeers*deepest || bits.OnesCount32(g.cfg.Mark) < enoughBits {
		return
	}
	made := make([]blocks, deepest)
	keys := make([][]byte, deepest)
	keys[0] = g.keys[:0]
	clear(g.depth)
	for i := range list {
		r := &list[i]
		if r.peers == nil || len(r.ports) == 0 {
			continue
		}
		for _, port := range singlePorts(r.ports) {
			n := g.depth[port]
			g.depth[port]++
			if made[n].entries == nil {
				made[n].entries = make([]blockEntry, 0, rules)
			}
			made[n].entries = append(made[n].entries, blockEntry{rule: r.index, peers: r.peers})
			keys[n] = appendPortKey(keys[n], port)
		}
		r.peers = nil
	}
	g.keys = keys[0]
	for n := range made {
		b := &made[n]
		b.counted = g.set("selector counts", g.f, 0, func() *wantSet { return selectCounts(g.f) })
		b.members = g.set("members", g.f, 0, func() *wantSet { return memberSet(g.f) })
		b.cut(keys[n])
		g.add(b, n)
	}
}

// enoughBits is how many bits of the mark may number peers.
const enoughBits = 16

// singlePorts returns ports without those that are there twice.
func singlePorts(list []portRange) []portRange {
	if len(list) == 1 {
		return list
	}
	var out []portRange
	for _, port := range list {
		if !slices.Contains(out, port) {
			out = append(out, port)
		}
	}
	return out
}

func appendPortKey(b []byte, port portRange) []byte {
	number, _ := port.proto.number()
	return nft.AppendPort(nft.AppendProto(b, number), port.lo)
}

// add names the entries; n tells those of one policy in one set apart.
func (g *gathering) add(b *blocks, n int) {
	b.rules, b.d = g.rules, g.d
	t := append(append(append(g.text[:0], b.counted.def.Name...), '\n'), dirName(g.d)...)
	t = append(append(append(append(t, '\n'), g.rules.key.name.Namespace...), '/'), g.rules.key.name.Name...)
	t = binary.BigEndian.AppendUint32(append(t, '\n'), uint32(n))
	b.counts = idOf(t)
	for i := range b.entries {
		e := &b.entries[i]
		t = binary.BigEndian.AppendUint32(append(t, e.key...), uint32(e.rule))
		if e.peers != nil {
			t = append(t, e.peers.def.Name...)
		}
	}
	b.id = idOf(append(t, "entries"...))
	if g.text = t; b.members != nil {
		shard := int(b.id.As16()[0]) % shards
		b.set = g.set("selectors", g.f, shard, func() *wantSet { return selectSet(g.f, shard) })
	}
	g.list = append(g.list, b.clause(g.cfg, g.d, g.f, n))
}

func idOf(text []byte) nft.Address {
	sum := sha256.Sum256(text)
	return nft.Address{Addr: netip.AddrFrom16([16]byte(sum[:16]))}
}

// conditions returns what of the other end is enough, beside what gather took.
func (b *blockRule) conditions(d, f int) []condition {
	if b.everyone {
		return []condition{{}}
	}
	list := b.rest
	for _, p := range b.nets {
		list = append(list, spanOf(p))
	}
	return peerConditions(d, f, b.peers, list)
}
