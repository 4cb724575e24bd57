package nat

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/plan"
)

// A Redirect leads connections to a port of the host, on any of its own
// addresses of both families, to another of its ports. They arrive at an
// address of the link that they came in by. Port and Proto are its key.
//
// A forward of the address itself comes first, and a Redirect before node
// ports.
type Redirect struct {
	Port  uint16
	Proto Proto
	To    uint16

	// Own also redirects what the host itself sends to its own addresses,
	// loopback included; it arrives at 127.0.0.1 or ::1.
	Own bool

	Name string // for people: shown as a comment; up to 120 bytes of printable ASCII
}

// listen identifies a redirect.
type listen struct {
	port  uint16
	proto Proto
}

func (r *Redirect) key() listen { return listen{r.Port, r.Proto} }

func (l listen) compare(o listen) int {
	return cmp.Or(cmp.Compare(l.port, o.port), cmp.Compare(l.proto, o.proto))
}

func (l listen) String() string { return fmt.Sprintf("%d/%s", l.port, l.proto) }

func sortedRedirects(list []Redirect) []Redirect {
	if len(list) == 0 {
		return nil
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Redirect) int { return a.key().compare(b.key()) })
	return list
}

func (r Redirect) detail() string {
	s := fmt.Sprintf("to port %d", r.To)
	if r.Own {
		s += ", own too"
	}
	if r.Name != "" {
		s = r.Name + " " + s
	}
	return s
}

func (r Redirect) change(want Redirect) string { return r.detail() + " -> " + want.detail() }

// redirect does the plan's changes to redirects.
func (w *world) redirect(list []plan.Change[listen, Redirect], e *edits) {
	for _, c := range list {
		key := nft.Element{Key: protoPort(c.Key.proto, c.Key.port)}
		if c.Have != nil {
			e.del(w.lay.redirects, key)
			delete(w.redirects, c.Key)
		}
		if c.Want != nil {
			el := key
			el.Data, el.Comment = portKeyOf(c.Want.To), c.Want.Name
			e.add(w.lay.redirects, el)
			w.redirects[c.Key] = *c.Want
		}
		w.toggle(w.lay.redirected, key, c.Have != nil, c.Want != nil, e)
		w.toggle(w.lay.redirectOwn, key, c.Have != nil && c.Have.Own, c.Want != nil && c.Want.Own, e)
	}
}

// toggle adds or deletes an element.
func (*world) toggle(s *nft.Set, el nft.Element, was, is bool, e *edits) {
	switch {
	case was && !is:
		e.del(s, el)
	case is && !was:
		e.add(s, el)
	}
}
