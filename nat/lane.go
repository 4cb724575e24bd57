package nat

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"github.com/podplumb/podplumb/internal/nft"
)

// A lane is a chain that draws one of a number of slots at random. All
// forwards with about as many slots share it.
//
// Up to exactLanes slots there is a lane for every number. Above, lanes lie a
// sixteenth of an octave apart, so that there are at most 224 of them: a draw
// from the lane's size that meets no slot is repeated, and the last draw is
// from a number of slots that every forward of the lane has. The share of a
// target is off by less than (1/17)^3.
type lane struct {
	size int  // the number that is drawn from
	node bool // for forwards of an unspecified address
}

const exactLanes = 64

// laneFor returns the lane for a number of slots.
func laneFor(slots int, node bool) lane {
	if slots > exactLanes {
		step := laneStep(slots)
		slots = (slots + step - 1) / step * step
	}
	return lane{size: slots, node: node}
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

const (
	lanePrefix = "random-"
	nodePrefix = "node-"
)

func (l lane) name() string {
	if l.node {
		return fmt.Sprintf("%s%s%d", nodePrefix, lanePrefix, l.size)
	}
	return fmt.Sprintf("%s%d", lanePrefix, l.size)
}

// parseLane is the inverse of name.
func parseLane(name string) (lane, bool) {
	rest, node := strings.CutPrefix(name, nodePrefix)
	digits, ok := strings.CutPrefix(rest, lanePrefix)
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 1 || n > maxSlots || laneFor(n, node).size != n {
		return lane{}, false
	}
	return lane{size: n, node: node}, true
}

// chain returns the lane's chain. The mark has done its work when the chain
// is reached, and dnat leaves the hook.
func (l lane) chain(lay *layout) *nft.Chain {
	draws := []int{l.sure()}
	if l.size > exactLanes {
		draws = []int{l.size, l.size, l.size, l.sure()}
	}
	c := &nft.Chain{Name: l.name(), Rules: []nft.Rule{{Stmts: []nft.Stmt{nft.ClearMark{Bits: lay.mark}}}}}
	for _, f := range lay.families() {
		for _, n := range draws {
			key := append(append(nft.Concat{}, f.keyFor(l.node)...), nft.Random(n))
			c.Rules = append(c.Rules, nft.Rule{Stmts: []nft.Stmt{nft.DNAT{To: nft.Mapped{Key: key, Map: f.targets}}}})
		}
	}
	return c
}
