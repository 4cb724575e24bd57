package nat

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/podplumb/podplumb/internal/nft"
)

// forward changes one forward; a nil want removes it. have and want are
// canonical.
func (w *world) forward(k Key, want *Forward, e *edits) error {
	have := w.forwards[k]
	next := (*entry)(nil)
	if want != nil {
		next = &entry{Forward: *want}
		var old entry
		if have != nil {
			old = *have
		}
		next.slots, next.near = want.place(old.slots, want.To), want.place(old.near, want.Near)
	}
	f := w.lay.of(k.Addr)
	key := appendForwardKey(e.bytes(28), k)
	w.slots(f, key, have, next, e)
	if err := w.entrance(f, key, have, next, e); err != nil {
		return err
	}
	switch {
	case k.node():
	case have == nil && next != nil:
		w.addresses.add(k.Addr, 1)
	case have != nil && next == nil:
		w.addresses.add(k.Addr, -1)
	}
	w.flags(f, key, have, next, e)
	w.sources(f, key, have, next, e)
	w.drains(f, k, have, next, e)
	if err := w.affinity(f, key, have, next, e); err != nil {
		return err
	}
	w.hairpins(have, next)
	if next == nil {
		delete(w.forwards, k)
	} else {
		w.forwards[k] = next
	}
	return nil
}

// place fills the slots for a list of targets.
func (f *Forward) place(old []netip.AddrPort, targets []Target) []netip.AddrPort {
	switch f.Algorithm {
	case Maglev:
		return maglev(targets)
	case RoundRobin:
		return turns(targets)
	}
	return place(old, targets)
}

// flags edits the map that says whom to masquerade.
func (w *world) flags(f *family, key []byte, have, next *entry, e *edits) {
	was, is := have.masquerade(), next.masquerade()
	if was == is {
		return
	}
	if was != 0 {
		e.del(f.masquerade, nft.Element{Key: key})
	}
	if is != 0 {
		e.add(f.masquerade, nft.Element{Key: key, Data: nft.AppendUint32(e.bytes(4), is)})
	}
}

func (en *entry) masquerade() uint32 {
	if en == nil {
		return 0
	}
	return modes[en.Masquerade]
}

// modes are the bits that stand for whom to masquerade, in the map and then in
// the mark.
var modes = map[Masquerade]uint32{MasqueradeAll: 1, MasqueradeRemote: 2, MasqueradeHost: 4}

// affinity edits what says how long to keep a client's target.
func (w *world) affinity(f *family, key []byte, have, next *entry, e *edits) error {
	var was, is time.Duration
	if have != nil {
		was = have.Affinity
	}
	if next != nil {
		is = next.Affinity
	}
	if was == is {
		return nil
	}
	if was != 0 {
		e.del(f.sticky, nft.Element{Key: key})
	}
	if is != 0 {
		number, err := w.takeLane(lane{learn: is}, e)
		if err != nil {
			return err
		}
		e.add(f.sticky, nft.Element{Key: key, Data: nft.AppendUint32(nil, number)})
	}
	if was != 0 {
		w.leaveLane(lane{learn: was}, e)
	}
	return nil
}

// sources edits which sources are served.
func (w *world) sources(f *family, key []byte, have, next *entry, e *edits) {
	var was, is Forward
	if have != nil {
		was = have.Forward
	}
	if next != nil {
		is = next.Forward
	}
	for _, list := range []struct {
		set      *nft.Set
		was, now []netip.Prefix
	}{{f.allowed, was.Allow, is.Allow}, {f.denied, was.Deny, is.Deny}} {
		for _, p := range list.was {
			if !slices.Contains(list.now, p) {
				e.del(list.set, sourceElement(key, p))
			}
		}
		for _, p := range list.now {
			if !slices.Contains(list.was, p) {
				e.add(list.set, sourceElement(key, p))
			}
		}
	}
	switch {
	case len(was.Allow) == 0 && len(is.Allow) > 0:
		e.add(f.choosy, nft.Element{Key: key})
	case len(was.Allow) > 0 && len(is.Allow) == 0:
		e.del(f.choosy, nft.Element{Key: key})
	}
}

// sourceElement is a forward with a range of sources.
func sourceElement(key []byte, p netip.Prefix) nft.Element {
	first, last := p.Masked().Addr(), p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	return nft.Element{
		Key:    nft.AppendAddr(slices.Clone(key), first),
		KeyEnd: append(slices.Clone(key), last...),
	}
}

// node says that the key is of a node port.
func (k Key) node() bool { return k.Addr.IsUnspecified() }

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func forwardKey(k Key) []byte { return appendForwardKey(make([]byte, 0, 28), k) }

func appendForwardKey(b []byte, k Key) []byte {
	b = nft.AppendAddr(b, k.Addr)
	return nft.AppendPort(nft.AppendProto(b, uint8(k.Proto)), k.Port)
}

// parseForwardKey finds the forward that a key begins with.
func parseForwardKey(f *family, b []byte) (Key, bool) {
	size := f.addrSize()
	if len(b) < size+8 {
		return Key{}, false
	}
	a, _ := netip.AddrFromSlice(b[:size])
	return Key{Addr: a, Proto: Proto(b[size]), Port: binary.BigEndian.Uint16(b[size+4:])}, true
}
