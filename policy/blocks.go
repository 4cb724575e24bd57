package policy

import (
	"crypto/sha256"
	"net/netip"
	"strconv"

	"github.com/podplumb/podplumb/internal/nft"
)

// Rules of a NetworkPolicy that allow networks single ports are not rules in the kernel: all of a policy that have prefixes of one length
// are one, which looks up a map of all policies' networks and ports. An entry costs the kernel a tenth of a rule, a packet the same
// however many there are, and what it leads to is the counter of the rule it is of.

// blocks is the entries of a policy for prefixes of one length.
type blocks struct {
	id       nft.Address // of the policy's entries in the map, made of them
	set      *wantSet
	entries  []blockEntry
	counters []*wantCounter // of all rules that have a part in them
}

// blockEntry is a key of the map and what counts.
type blockEntry struct {
	key     string
	counter *wantCounter
}

// fewBlocks is how many entries are better as rules.
const fewBlocks = 1

var familyBits = [families]int{32, 128}

func blockSet(f, bits int) *wantSet {
	return &wantSet{family: f, def: &nft.Set{
		Name:     "blocks" + suffix(f) + "-" + strconv.Itoa(bits),
		Key:      []nft.Expr{nft.IP6Saddr, saddr[f], nft.MetaL4Proto, nft.ThDport},
		Counters: true, Comment: "a policy's entries . network . port -> counter of the rule",
	}}
}

// clause is what allows by the entries.
func (b *blocks) clause(d, f, bits int) clause {
	key := nft.Concat{b.id, nft.Prefixed{Of: peerField(d, f), Bits: bits}, nft.MetaL4Proto, nft.ThDport}
	c := clause{action: Accept, blocks: b, condition: condition{sets: []*wantSet{b.set}}}
	c.rules = []nft.Rule{{Stmts: []nft.Stmt{nft.CountIn{Key: key, Map: b.set.def}, allow}}}
	return c
}

// blockRule is what a rule says of networks and single ports.
type blockRule struct {
	everyone bool
	peers    peers
	rest     []span // what is no single network
	nets     []netip.Prefix
	all      portList
	ports    []portRange // all of them; none when not all are single
	counter  *wantCounter
}

// split sorts out what a rule says.
func split(f int, found peers, list []span, ports portList, counter *wantCounter) blockRule {
	b := blockRule{peers: found, all: ports, counter: counter}
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

// gather makes entries of the rules of a policy, and takes from the rules what is in them.
func gather(d, f int, name Name, rules []blockRule) (list []clause) {
	count := map[int]int{}
	for i := range rules {
		for _, p := range rules[i].nets {
			count[p.Bits()] += len(rules[i].ports)
		}
	}
	for bits := familyBits[f]; bits > 0; bits-- {
		if count[bits] <= fewBlocks {
			continue
		}
		b := &blocks{set: blockSet(f, bits), entries: make([]blockEntry, 0, count[bits])}
		seen := make(map[string]struct{}, count[bits])
		id := []byte(b.set.def.Name + "\n" + dirName(d) + "\n" + name.String() + "\n")
		for i := range rules {
			r := &rules[i]
			if len(r.ports) == 0 {
				continue
			}
			left, had := r.nets[:0], len(r.nets)
			for _, p := range r.nets {
				if p.Bits() != bits {
					left = append(left, p)
					continue
				}
				for _, port := range r.ports {
					number, _ := port.proto.number()
					key := nft.AppendPort(nft.AppendProto(nft.AppendAddr(nil, p.Addr()), number), port.lo)
					if _, ok := seen[string(key)]; ok {
						continue // the first rule counts
					}
					seen[string(key)] = struct{}{}
					id = append(append(append(id, key...), r.counter.name...), 0)
					b.entries = append(b.entries, blockEntry{string(key), r.counter})
				}
			}
			if r.nets = left; len(left) < had {
				b.counters = append(b.counters, r.counter)
			}
		}
		sum := sha256.Sum256(id)
		b.id = nft.Address{Addr: netip.AddrFrom16([16]byte(sum[:16]))}
		for i := range b.entries {
			b.entries[i].key = string(b.id.AsSlice()) + b.entries[i].key
		}
		list = append(list, b.clause(d, f, bits))
	}
	return list
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
	return b.peers.conditions(d, f, list)
}

// blocksUse is entries that chains refer to.
type blocksUse struct {
	*blocks
	refs int
}

func (w *world) useBlocks(b *blocks) {
	use := w.blocks[b.id.Addr]
	if use == nil {
		use = &blocksUse{blocks: b}
		w.blocks[b.id.Addr] = use
		for _, e := range b.entries {
			w.keep(w.sets[b.set.def.Name].set, e.key, e.counter.name, true)
		}
	}
	use.refs++
}

func (w *world) unuseBlocks(b *blocks) {
	use := w.blocks[b.id.Addr]
	if use.refs--; use.refs > 0 {
		return
	}
	delete(w.blocks, b.id.Addr)
	for _, e := range b.entries {
		w.keep(w.sets[b.set.def.Name].set, e.key, "", false)
	}
}
