package nat

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/podplumb/podplumb/internal/nft"
)

// drains notes, in the table itself so that every process knows, when the
// connections to targets that go are to end, and strikes out those that come
// back.
func (w *world) drains(f *family, k Key, have, next *entry, e *edits) {
	if k.Proto == UDP {
		return
	}
	var before, after map[netip.AddrPort]bool
	var mode Forward
	if have != nil {
		before, mode = have.everyTarget(), have.Forward
	}
	if next != nil {
		after, mode = next.everyTarget(), next.Forward
	}
	for at := range after {
		if d := (flow{k, at}); !before[at] && !w.draining[d].IsZero() {
			e.del(f.draining, nft.Element{Key: drainingKey(d)})
			delete(w.draining, d)
		}
	}
	if mode.Drain != DrainLater {
		return
	}
	for at := range before {
		if !after[at] {
			d, deadline := flow{k, at}, w.now.Add(mode.Grace)
			e.add(f.draining, nft.Element{Key: drainingKey(d), Extra: binary.BigEndian.AppendUint64(nil, uint64(deadline.UnixMilli()))})
			w.draining[d] = deadline
		}
	}
}

// everyTarget is where connections may have gone.
func (f *Forward) everyTarget() map[netip.AddrPort]bool {
	m := targetSet(f.To)
	for _, t := range f.Near {
		m[netip.AddrPortFrom(t.Addr, t.Port)] = true
	}
	return m
}

func drainingKey(d flow) []byte {
	b := appendForwardKey(make([]byte, 0, 48), d.key)
	return nft.AppendPort(nft.AppendAddr(b, d.target.Addr()), d.target.Port())
}

// parseDraining is the inverse of drainingKey, and says when.
func parseDraining(f *family, el *nft.Element) (flow, time.Time, bool) {
	k, ok := parseForwardKey(f, el.Key)
	size := f.addrSize()
	if !ok || len(el.Key) != 2*size+12 || len(el.Extra) != 8 {
		return flow{}, time.Time{}, false
	}
	a, _ := netip.AddrFromSlice(el.Key[size+8 : 2*size+8])
	target := netip.AddrPortFrom(a, binary.BigEndian.Uint16(el.Key[2*size+8:]))
	return flow{k, target}, time.UnixMilli(int64(binary.BigEndian.Uint64(el.Extra))), true
}
