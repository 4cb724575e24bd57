package nat

import (
	"errors"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/podplumb/podplumb/internal/nft"
)

// A lane is a chain that forwards share: one that draws one of a number of
// slots, at random or by the client's address, or one that learns which target
// a client has. A lane that draws in turn is for one forward alone.
//
// Up to exactLanes slots there is a lane for every number. Above, lanes lie a
// sixteenth of an octave apart, so that there are at most 224 of them: a draw
// from the lane's size that meets no slot is repeated, and the last draw is
// from a number of slots that every forward of the lane has. The share of a
// target is off by less than (1/17)^3.
type lane struct {
	side   side
	split  bool          // one that leads to another lane by where the client is; only node matters then
	size   int           // the number that is drawn from
	node   bool          // for forwards of an unspecified address
	hash   bool          // by the client's address
	sticky bool          // a client's earlier target comes first
	turn   Key           // in turn, for this forward alone
	learn  time.Duration // how long to keep a client's target; the rest is zero then
}

const exactLanes = 64

// side says whose slots a lane draws from.
type side uint8

const (
	plain   side = iota // every client's
	inside              // those of clients that are near, of a forward that tells them apart
	outside             // the others' of such a forward
)

// first is the number of the first slot.
func (s side) first() uint32 {
	if s == inside {
		return nearSlot
	}
	return 0
}

// lane returns the lane of an entry for a number of slots.
func (en *entry) lane(slots int, s side) lane {
	l := lane{side: s, size: laneSize(slots), node: en.Key().node(), sticky: en.Affinity != 0}
	switch en.Algorithm {
	case SourceHash, Maglev:
		l.hash = true
	case RoundRobin:
		l.size, l.turn = slots, en.Key()
	}
	return l
}

func laneSize(slots int) int {
	if slots <= exactLanes {
		return slots
	}
	step := laneStep(slots)
	return (slots + step - 1) / step * step
}

// laneStep is the distance of the lanes around a number of slots. It is the
// same for a lane's size as for every number of slots that leads to it,
// except that a power of two belongs to the octave below.
func laneStep(slots int) int { return 1 << (bits.Len(uint(slots-1)) - 5) }

// sure is the number of slots that every forward of the lane has.
func (l lane) sure() int {
	if l.size <= exactLanes {
		return l.size
	}
	return l.size - laneStep(l.size) + 1
}

// hashSeed is the seed of the first draw by a client's address, the same on
// every host; each further draw has the next.
const hashSeed = 0x706f6401

const (
	lanePrefix   = "random-"
	hashPrefix   = "hash-"
	nodePrefix   = "node-"
	stickyPrefix = "sticky-"
	learnPrefix  = "learn-"
	turnPrefix   = "turn-"
	splitName    = "near-or-far"
)

var sidePrefix = map[side]string{plain: "", inside: "near-", outside: "far-"}

func (l lane) name() string {
	if l.learn != 0 {
		return learnPrefix + strconv.Itoa(int(l.learn/time.Second))
	}
	name := lanePrefix + strconv.Itoa(l.size)
	switch {
	case l.hash:
		name = hashPrefix + strconv.Itoa(l.size)
	case l.turn != (Key{}):
		// nft does not take a colon in a name.
		addr := strings.ReplaceAll(l.turn.Addr.String(), ":", "_")
		name = turnPrefix + strings.Join([]string{l.turn.Proto.String(), strconv.Itoa(int(l.turn.Port)), addr, strconv.Itoa(l.size)}, "-")
	}
	if l.sticky {
		name = stickyPrefix + name
	}
	name = sidePrefix[l.side] + name
	if l.split {
		name = splitName
	}
	if l.node {
		name = nodePrefix + name
	}
	return name
}

// parseLane is the inverse of name.
func parseLane(name string) (lane, bool) {
	var l lane
	if digits, ok := strings.CutPrefix(name, learnPrefix); ok {
		n, err := strconv.Atoi(digits)
		l.learn = time.Duration(n) * time.Second
		return l, err == nil && n > 0 && l.learn <= maxAffinity && l.name() == name
	}
	name, l.node = strings.CutPrefix(name, nodePrefix)
	if name == splitName {
		l.split = true
		return l, true
	}
	for _, s := range []side{inside, outside} {
		if rest, ok := strings.CutPrefix(name, sidePrefix[s]); ok {
			name, l.side = rest, s
		}
	}
	name, l.sticky = strings.CutPrefix(name, stickyPrefix)
	if rest, ok := strings.CutPrefix(name, turnPrefix); ok {
		return parseTurn(l, rest)
	}
	digits, ok := strings.CutPrefix(name, lanePrefix)
	if !ok {
		digits, ok = strings.CutPrefix(name, hashPrefix)
		l.hash = true
	}
	n, err := strconv.Atoi(digits)
	l.size = n
	return l, ok && err == nil && n >= 1 && n <= maxSlots && laneSize(n) == n
}

// parseTurn completes a lane of one forward.
func parseTurn(l lane, name string) (lane, bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 4 {
		return l, false
	}
	for _, p := range []Proto{TCP, UDP, SCTP} {
		if p.String() == parts[0] {
			l.turn.Proto = p
		}
	}
	port, err := strconv.ParseUint(parts[1], 10, 16)
	addr, err2 := netip.ParseAddr(strings.ReplaceAll(parts[2], "_", ":"))
	size, err3 := strconv.Atoi(parts[3])
	l.turn.Port, l.turn.Addr, l.size = uint16(port), addr, size
	return l, errors.Join(err, err2, err3) == nil && l.turn.Proto != 0 && size >= 1 && size <= maxSlots && l.node == l.turn.node()
}

// chain returns the lane's chain. The mark has done its work when the chain
// is reached, and dnat leaves the hook.
func (l lane) chain(lay *layout) *nft.Chain {
	c := &nft.Chain{Name: l.name(), Rules: []nft.Rule{rule(nft.ClearMark{Bits: lay.mark})}}
	if l.split {
		c.Rules = append(c.Rules, lay.split(l.node)...)
		return c
	}
	for _, f := range lay.families() {
		if l.learn != 0 {
			c.Rules = append(c.Rules, rule(nft.Learn{
				Map: f.affinity, Timeout: l.learn,
				Key:  nft.Concat{f.saddr, f.origin, nft.MetaL4Proto, nft.CTOrigProtoDst},
				Data: nft.Concat{f.daddr, nft.ThDport},
			}))
			continue
		}
		if l.turn == (Key{}) || l.turn.Addr.Is4() == f.is4() {
			c.Rules = append(c.Rules, l.draws(f)...)
		}
	}
	return c
}

func (l lane) draws(f *family) []nft.Rule {
	var rules []nft.Rule
	if l.sticky {
		key := append(nft.Concat{f.saddr}, f.key...)
		rules = append(rules, rule(nft.DNAT{To: nft.Mapped{Key: key, Map: f.affinity}}))
	}
	numbers := []int{l.sure()}
	if l.turn != (Key{}) {
		numbers[0] = l.size
	} else if l.size > exactLanes {
		numbers = []int{l.size, l.size, l.size, l.sure()}
	}
	for i, n := range numbers {
		slot := nft.Expr(nft.Drawn{Mod: uint32(n), Offset: l.side.first(), InTurn: l.turn != (Key{})})
		if l.hash {
			slot = nft.Hashed{Of: f.saddr, Mod: uint32(n), Seed: hashSeed + uint32(i), Offset: l.side.first()}
		}
		key := append(append(nft.Concat{}, f.keyFor(l.node)...), slot)
		rules = append(rules, rule(nft.DNAT{To: nft.Mapped{Key: key, Map: f.targets}}))
	}
	return rules
}
