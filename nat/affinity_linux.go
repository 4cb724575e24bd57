package nat

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
)

// appendLeft adds the targets that clients of a forward with affinity may be
// kept on though they are gone.
func appendLeft(list []flow, have Forward, want *Forward) []flow {
	if have.Affinity == 0 || len(have.To)+len(have.Near) == 0 {
		return list
	}
	// Near clients and others know each other's targets once the two are told apart, or no longer.
	if want == nil || len(want.To)+len(want.Near) == 0 || want.Affinity == 0 || (len(have.Near) == 0) != (len(want.Near) == 0) {
		return append(list, flow{key: have.Key()})
	}
	for _, lists := range [][2][]Target{{have.To, want.To}, {have.Near, want.Near}} {
		stay := targetSet(lists[1])
		for _, t := range lists[0] {
			if at := netip.AddrPortFrom(t.Addr, t.Port); !stay[at] {
				list = append(list, flow{key: have.Key(), target: at})
			}
		}
	}
	return list
}

// kept lists the clients' targets that are to be forgotten. What the kernel
// has learnt is not part of world: it is read when a target goes.
func (c *Client) kept(ctx context.Context, left []flow) (map[*family][]nft.Element, error) {
	gone := make(map[flow]bool, len(left))
	concerned := map[*family]bool{}
	for _, l := range left {
		gone[l] = true
		concerned[c.lay.of(l.key.Addr)] = true
	}
	found := map[*family][]nft.Element{}
	for f := range concerned {
		size := f.addrSize()
		err := c.conn.Elements(ctx, c.lay.table, f.affinity, true, func() { found[f] = nil }, func(e *nft.Element) {
			if len(e.Key) < size {
				return
			}
			key, ok := parseForwardKey(f, e.Key[size:])
			if !ok || len(e.Data) < size+2 {
				return
			}
			a, _ := netip.AddrFromSlice(e.Data[:size])
			target := netip.AddrPortFrom(a, binary.BigEndian.Uint16(e.Data[size:]))
			named := gone[flow{key: key}] || gone[flow{key: key, target: target}]
			// Without affinity of its own, an address of the host was learnt
			// for the node port of the port.
			if en := c.world.forwards[key]; en == nil || en.Affinity == 0 {
				key.Addr = unspecified(key.Addr)
				named = named || gone[flow{key: key}] || gone[flow{key: key, target: target}]
			}
			if named {
				found[f] = append(found[f], nft.Element{Key: slices.Clone(e.Key), Data: slices.Clone(e.Data)})
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// unlearn writes the deletion of what was learnt. Each element may have
// expired meanwhile, so that it is added before it is deleted.
func unlearn(b *nft.Batch, lay *layout, found map[*family][]nft.Element) {
	for f, list := range found {
		b.AddElements(lay.table, f.affinity, list)
		b.DelElements(lay.table, f.affinity, list)
	}
}

// forgetClients deletes what was learnt while targets were being removed.
func (c *Client) forgetClients(ctx context.Context, left []flow) error {
	if len(left) == 0 || !c.exists {
		return nil
	}
	for try := 0; ; try++ {
		found, err := c.kept(ctx, left)
		if err != nil {
			return err
		}
		b := nft.NewBatch()
		unlearn(b, c.lay, found)
		if b.Empty() {
			return nil
		}
		err = c.conn.Commit(ctx, b, 0)
		if err == nil {
			c.committed()
			return nil
		}
		// One of them was learnt anew, for another target.
		if !errors.Is(err, unix.EBUSY) || try >= tries {
			return err
		}
	}
}
