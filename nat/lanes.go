package nat

import (
	"errors"
	"fmt"
	"slices"

	"github.com/podplumb/podplumb/internal/nft"
)

// takeLane counts a forward into a lane, opening it when it is the first, and
// returns the lane's number.
func (w *world) takeLane(l lane, e *edits) (uint32, error) {
	if u, ok := w.lanes[l]; ok {
		u.count++
		return u.number, nil
	}
	number := slices.Index(w.numbers[1:], false) + 1
	if number == 0 && len(w.numbers) > w.lay.capacity() {
		if w.partial {
			return 0, errPartial
		}
		if number = w.dropLane(e); number == 0 {
			return 0, fmt.Errorf("%d different numbers of targets at once: Config.Mark has too few bits", len(w.numbers))
		}
	}
	if number == 0 {
		number = len(w.numbers)
		w.numbers = append(w.numbers, false)
	}
	w.numbers[number] = true
	w.lanes[l] = &laneUse{number: uint32(number), count: 1}
	e.open = append(e.open, l)
	e.add(w.lay.mapOf(l), w.laneElement(l))
	return uint32(number), nil
}

// leaveLane takes a forward out of a lane. An unused lane stays for the next
// forward of its size: opening one costs more than a chain that nothing leads
// to. Only one for a single forward goes with it.
func (w *world) leaveLane(l lane, e *edits) {
	u := w.lanes[l]
	if u == nil {
		return
	}
	if u.count--; u.count <= 0 && l.turn != (Key{}) {
		w.shutLane(l, e)
	}
}

func (w *world) shutLane(l lane, e *edits) {
	e.del(w.lay.mapOf(l), w.laneElement(l))
	e.shut = append(e.shut, l)
	w.numbers[w.lanes[l].number] = false
	delete(w.lanes, l)
}

// errPartial says that a change needs to know more than what it is about.
var errPartial = errors.New("more of the table has to be known")

// dropLane removes a lane that no forward uses and returns its number, or
// zero when all are in use.
func (w *world) dropLane(e *edits) int {
	for l, u := range w.lanes {
		if u.count == 0 && !slices.Contains(e.open, l) {
			w.shutLane(l, e)
			return int(u.number)
		}
	}
	return 0
}

func (w *world) laneElement(l lane) nft.Element {
	verdict := goTo(l.name())
	return nft.Element{Key: nft.AppendUint32(nil, w.lanes[l].number<<w.lay.shift()), Verdict: &verdict}
}
