package nat

import (
	"net/netip"

	"github.com/podplumb/podplumb/internal/nft"
)

// ranges does the plan's changes to networks, exclusions and virtual ranges.
func (w *world) ranges(p Plan, e *edits) {
	for _, c := range p.networks {
		s := w.lay.of(c.Key.Addr()).networks
		w.pool(c.Key, poolOf(c.Have), poolOf(c.Want), e)
		if c.Have != nil {
			e.del(s, nft.Range(c.Key)...)
			delete(w.networks, c.Key)
		}
		if c.Want != nil {
			e.add(s, networkElements(*c.Want)...)
			w.networks[c.Key] = *c.Want
		}
	}
	for _, c := range p.exclude {
		s := w.lay.of(c.Key.Addr()).excluded
		if c.Have != nil {
			e.del(s, nft.Range(c.Key)...)
			delete(w.exclude, c.Key)
			continue
		}
		e.add(s, prefixElements(c.Key)...)
		w.exclude[c.Key] = c.Key
	}
	for _, c := range p.virtual {
		s := w.lay.of(c.Key.Addr()).virtual
		if c.Have != nil {
			e.del(s, nft.Range(c.Key)...)
			delete(w.virtual, c.Key)
		}
		if c.Want != nil {
			e.add(s, virtualElements(*c.Want)...)
			w.virtual[c.Key] = *c.Want
		}
	}
	w.localRanges(p, e)
	w.localhosts(p.localhost, e)
	w.redirect(p.redirects, e)
	w.captures(p, e)
}

// begin adds what a new table holds before any State.
func (w *world) begin(e *edits) {
	for _, f := range w.lay.families() {
		e.add(f.local, f.everywhere()...)
	}
}

// everywhere is all addresses but loopback.
func (f *family) everywhere() []nft.Element {
	first := nft.Element{Key: make([]byte, f.addrSize())}
	return append([]nft.Element{first}, hole(f.loopback)...)
}

// hole ends one range where p begins and begins the next after p.
func hole(p netip.Prefix) []nft.Element {
	list := nft.Range(p)
	list[0].End, list[1].End = true, false
	return list
}

// localRanges changes which of the host's addresses serve node ports.
func (w *world) localRanges(p Plan, e *edits) {
	if len(p.local) == 0 {
		return
	}
	for _, f := range w.lay.families() {
		all := !w.limited(f)
		var come []nft.Element
		for _, c := range p.local {
			if c.Key.Addr().Is4() != f.is4() {
				continue
			}
			if c.Have != nil {
				e.del(f.local, nft.Range(c.Key)...)
				delete(w.local, c.Key)
				continue
			}
			come = append(come, nft.Range(c.Key)...)
			w.local[c.Key] = c.Key
		}
		switch limited := w.limited(f); {
		case all && limited:
			for _, el := range f.everywhere() {
				if !e.undo(f.local, el.Key) { // a new table has just begun with it
					e.del(f.local, el)
				}
			}
		case !all && !limited:
			e.add(f.local, f.everywhere()...)
		}
		if len(come) > 0 { // after what began with the table was taken back: ends may be alike
			e.add(f.local, come...)
		}
	}
}

// limited says that the family has local ranges of its own.
func (w *world) limited(f *family) bool {
	for p := range w.local {
		if p.Addr().Is4() == f.is4() {
			return true
		}
	}
	return false
}

// prefixElements are a range that says beside its beginning where it ends, so
// that it is known without its other element.
func prefixElements(p netip.Prefix) []nft.Element {
	list := nft.Range(p)
	list[0].Extra = []byte{byte(p.Bits())}
	return list
}

func poolOf(n *Network) Pool {
	if n == nil {
		return Pool{}
	}
	return n.To
}

func networkElements(n Network) []nft.Element {
	list := prefixElements(n.Prefix)
	if n.To != (Pool{}) {
		list[0].Extra = append(list[0].Extra, 1) // there is more to know
	}
	list[0].Comment = n.Name
	return list
}

func virtualElements(v Virtual) []nft.Element {
	list := nft.Range(v.Prefix)
	verdict := goTo("rejection")
	if v.Miss == Drop {
		verdict = silence(v.Prefix.Addr())
	}
	list[0].Verdict = &verdict
	return list
}

// silence is what meets packets to a range that drops.
func silence(a netip.Addr) nft.Verdict {
	if a.Is4() {
		return goTo("silence4")
	}
	return goTo("silence6")
}
