package nat

import (
	"github.com/podplumb/podplumb/internal/nft"
)

// entrance edits the element that leads from the forward to its lane, or the
// one that refuses while there are no targets.
func (w *world) entrance(f *family, key []byte, have, next *entry, e *edits) error {
	from, to := w.door(f, have), w.door(f, next)
	var fromLane, toLane lane
	if from == f.forwards {
		fromLane = laneFor(have)
	}
	if to == f.forwards {
		toLane = laneFor(next)
	}
	if from == to && fromLane == toLane && (have == nil || have.Name == next.Name && have.Empty == next.Empty && have.Algorithm == next.Algorithm && have.Drain == next.Drain && have.Elsewhere == next.Elsewhere) {
		return nil
	}
	if from != nil {
		e.del(from, nft.Element{Key: key})
	}
	var number uint32
	if toLane.size != 0 {
		n, err := w.takeLane(toLane, e)
		if err != nil {
			return err
		}
		number = n
	}
	if to != nil {
		e.add(to, doorElement(f, to, key, next, number))
	}
	if fromLane.size != 0 {
		// An unused lane stays for the next forward of its size: opening one
		// costs more than a chain that nothing leads to.
		w.lanes[fromLane].count--
	}
	return nil
}

// door is the set that an entry's forward is in.
func (w *world) door(f *family, en *entry) *nft.Set {
	switch {
	case en == nil:
		return nil
	case len(en.slots) > 0 && en.Elsewhere:
		return f.elsewhere
	case len(en.slots) > 0:
		return f.forwards
	case en.Empty == Drop:
		return f.dropped
	}
	return f.rejected
}

// notes is what of a forward no rule needs. It is kept beside its element so
// that it can be read back.
type notes struct {
	empty     Refusal
	algorithm Algorithm
	drain     Drain
	elsewhere bool
}

func (n notes) encode() []byte {
	b := []byte{byte(n.empty), byte(n.algorithm), byte(n.drain)}
	if n.elsewhere {
		b = append(b, 1)
	}
	return b
}

func (f *Forward) note(b []byte) {
	if len(b) >= 3 {
		f.Empty, f.Algorithm, f.Drain, f.Elsewhere = Refusal(b[0]), Algorithm(b[1]), Drain(b[2]), len(b) > 3
	}
}

func doorElement(f *family, door *nft.Set, key []byte, en *entry, number uint32) nft.Element {
	el := nft.Element{Key: key, Comment: en.Name}
	if door == f.forwards {
		el.Data = nft.AppendUint32(nil, number)
	}
	if n := (notes{en.Empty, en.Algorithm, en.Drain, en.Elsewhere}); n != (notes{}) {
		el.Extra = n.encode()
	}
	return el
}
