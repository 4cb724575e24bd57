package nat

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"github.com/podplumb/podplumb/internal/nft"
)

// A door is an element that a forward's packets meet by the forward's key: one
// that leads to a lane, or one that turns them away.
type door struct {
	set  *nft.Set
	lane lane // zero: none
}

// doors lists an entry's doors. The first also carries its name and notes.
func (f *family) doors(en *entry) []door {
	if en == nil {
		return nil
	}
	far := door{f.forwards, en.lane(len(en.slots), plain)}
	switch {
	case len(en.slots) > 0 && en.Elsewhere:
		far = door{set: f.elsewhere}
	case len(en.slots) > 0:
	case en.Empty == Drop:
		far = door{set: f.dropped}
	default:
		far = door{set: f.rejected}
	}
	if len(en.near) == 0 {
		return []door{far}
	}
	if far.lane != (lane{}) {
		far = door{f.far, en.lane(len(en.slots), outside)}
	}
	return []door{{f.forwards, lane{split: true, node: en.Key().node()}}, {f.near, en.lane(len(en.near), inside)}, far}
}

// entrance edits the elements that lead from the forward to its lanes, or that
// refuse while there are no targets.
func (w *world) entrance(f *family, key []byte, have, next *entry, e *edits) error {
	from, to := f.doors(have), f.doors(next)
	renoted := have != nil && next != nil && (have.Name != next.Name || !bytes.Equal(have.notes(), next.notes()))
	// What stays is left alone, but for the first of a forward whose notes are others.
	stays := func(d door, as int, list []door) bool {
		i := slices.Index(list, d)
		return i >= 0 && (i == 0) == (as == 0) && !(as == 0 && renoted)
	}
	for i, d := range from {
		if !stays(d, i, to) {
			e.del(d.set, nft.Element{Key: key})
		}
	}
	for i, d := range to {
		if stays(d, i, from) {
			continue
		}
		el := nft.Element{Key: key}
		if d.lane != (lane{}) {
			number, err := w.takeLane(d.lane, e)
			if err != nil {
				return err
			}
			el.Data = nft.AppendUint32(e.bytes(4), number)
		}
		if i == 0 {
			el.Comment, el.Extra = next.Name, next.notes()
		}
		e.add(d.set, el)
	}
	for i, d := range from {
		if d.lane != (lane{}) && !stays(d, i, to) {
			w.leaveLane(d.lane, e)
		}
	}
	return nil
}

// Positions of an entry's notes, and the bits of the last.
const (
	noteEmpty = iota
	noteAlgorithm
	noteDrain
	noteFlags
	noteCount

	flagElsewhere = 1
	flagSources   = 2
)

// notes is what of a forward no element's key or value tells. It is kept
// beside the first door so that it can be read back; nil when all is zero.
func (en *entry) notes() []byte {
	b := []byte{byte(en.Empty), byte(en.Algorithm), byte(en.Drain), 0}
	if en.Elsewhere {
		b[noteFlags] |= flagElsewhere
	}
	if len(en.Allow)+len(en.Deny) > 0 {
		b[noteFlags] |= flagSources
	}
	if en.Grace != 0 {
		b = binary.AppendUvarint(b, uint64(en.Grace/time.Second))
	}
	if bytes.Equal(b, make([]byte, noteCount)) {
		return nil
	}
	return b
}

// note takes notes in and says whether source ranges go with them.
func (f *Forward) note(b []byte) (sources bool) {
	if len(b) < noteCount {
		return false
	}
	f.Empty, f.Algorithm, f.Drain = Refusal(b[noteEmpty]), Algorithm(b[noteAlgorithm]), Drain(b[noteDrain])
	f.Elsewhere = b[noteFlags]&flagElsewhere != 0
	grace, _ := binary.Uvarint(b[noteCount:])
	f.Grace = time.Duration(grace) * time.Second
	return b[noteFlags]&flagSources != 0
}
