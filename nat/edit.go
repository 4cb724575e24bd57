package nat

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/podplumb/podplumb/internal/nft"
)

// edits are changes to elements of the table, to be made in one transaction.
type edits struct {
	sets  map[*nft.Set]*setEdit
	order []*nft.Set
	// lanes that begin and end. Their chains are added before and removed
	// after the elements that lead to them.
	open, shut []lane
	size       int // elements
	// room is for keys and values: thousands of small ones from a few pieces
	// of memory.
	room []byte
	// rules are chains that get other rules.
	rules []*nft.Chain
}

type setEdit struct{ del, add []nft.Element }

func (e *edits) of(s *nft.Set) *setEdit {
	if se, ok := e.sets[s]; ok {
		return se
	}
	if e.sets == nil {
		e.sets = make(map[*nft.Set]*setEdit)
	}
	se := &setEdit{}
	e.sets[s] = se
	e.order = append(e.order, s)
	return se
}

func (e *edits) add(s *nft.Set, list ...nft.Element) {
	se := e.of(s)
	se.add = append(se.add, list...)
	e.size += len(list)
}

func (e *edits) del(s *nft.Set, list ...nft.Element) {
	se := e.of(s)
	se.del = append(se.del, list...)
	e.size += len(list)
}

// bytes returns an empty slice with room for n bytes.
func (e *edits) bytes(n int) []byte {
	const piece = 32 << 10
	if cap(e.room)-len(e.room) < n {
		e.room = make([]byte, 0, max(n, min(piece, 64*(1+e.size))))
	}
	at := len(e.room)
	e.room = e.room[:at+n]
	return e.room[at : at : at+n]
}

// expect makes room for that many additions to a set.
func (e *edits) expect(s *nft.Set, n int) {
	se := e.of(s)
	se.add = slices.Grow(se.add, n)
}

// undo takes back the addition of an element and says whether there was one.
func (e *edits) undo(s *nft.Set, key []byte) bool {
	se := e.of(s)
	i := slices.IndexFunc(se.add, func(el nft.Element) bool { return bytes.Equal(el.Key, key) })
	if i < 0 {
		return false
	}
	se.add = slices.Delete(se.add, i, i+1)
	e.size--
	return true
}

// String prints the edits, sorted by set, for people and tests.
func (e *edits) String() string {
	var lines []string
	for _, l := range e.open {
		lines = append(lines, "+ chain "+l.name())
	}
	for _, s := range e.order {
		for _, el := range e.sets[s].del {
			lines = append(lines, "- "+s.Name+" "+s.Format(&el, false))
		}
		for _, el := range e.sets[s].add {
			lines = append(lines, "+ "+s.Name+" "+s.Format(&el, true))
		}
	}
	for _, l := range e.shut {
		lines = append(lines, "- chain "+l.name())
	}
	for _, c := range e.rules {
		lines = append(lines, "~ chain "+c.Name)
	}
	sort.SliceStable(lines, func(i, j int) bool {
		return fmt.Sprint(strings.SplitN(lines[i], " ", 3)[1]) < strings.SplitN(lines[j], " ", 3)[1]
	})
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}
