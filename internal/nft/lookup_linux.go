package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// A Lookup asks whether a set has an element with a key. In a set of ranges
// the element found may be the beginning of one that has the key inside.
type Lookup struct {
	Set *Set
	Key []byte
	// Found and Element are the answer.
	Found   bool
	Element Element
}

// lookups is how many questions are sent at once: their answers, of some 4 KiB
// of memory each, fit the receive buffer of a socket without privileges.
const lookups = 32

// Lookup answers questions about a table's elements. Each takes the same time
// however many elements there are. A set or table that does not exist has no
// elements.
func (c *Conn) Lookup(ctx context.Context, t *Table, list []Lookup) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for part := range slices.Chunk(list, lookups) {
		if err := c.usable(ctx); err != nil {
			return err
		}
		if err := c.lookup(t, part); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) lookup(t *Table, list []Lookup) error {
	var w wire
	first := c.seq + 1
	for i := range list {
		l := &list[i]
		l.Found, l.Element = false, Element{}
		c.seq++
		at := w.begin(subsystem<<8|unix.NFT_MSG_GETSETELEM, 0, t.Family, 0)
		w.string(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name)
		w.string(unix.NFTA_SET_ELEM_LIST_SET, l.Set.Name)
		elements := w.open(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		element(&w, &Element{Key: l.Key}, false)
		w.close(elements)
		w.end(at, c.seq)
	}
	if err := c.sock.Send(nil, w.b); err != nil {
		return err
	}
	// The kernel has queued all answers by now, one for each question: the
	// element, or an error.
	var failed error
	for left := len(list); left > 0; {
		data, err := c.sock.Receive(nil)
		if err != nil {
			return fmt.Errorf("%d of %d elements were not answered: %w", left, len(list), err)
		}
		messages(data, func(m message) {
			i := int(m.seq - first)
			if i < 0 || i >= len(list) {
				return
			}
			left--
			if m.typ == unix.NLMSG_ERROR {
				if err := m.err(); err != nil && !errors.Is(err, unix.ENOENT) && failed == nil {
					failed = err
				}
				return
			}
			attrs(m.data, func(typ uint16, data []byte) {
				if typ == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
					attrs(data, func(_ uint16, data []byte) {
						list[i].Found, list[i].Element = true, decodeElement(slices.Clone(data))
					})
				}
			})
		})
	}
	return failed
}
