package nat

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/internal/nft"
)

func (c *Client) counts(ctx context.Context, keys []Key) ([]Count, error) {
	if !c.config.Counters {
		return nil, c.fail("read", fmt.Errorf("Config.Counters is off: %w", errors.ErrUnsupported))
	}
	sums := map[flow]uint64{}
	add := func(f *family, e *nft.Element) {
		k, ok := parseForwardKey(f, e.Key)
		size := f.addrSize()
		if !ok || len(e.Data) < size+2 {
			return
		}
		a, _ := netip.AddrFromSlice(e.Data[:size])
		sums[flow{k, netip.AddrPortFrom(a, binary.BigEndian.Uint16(e.Data[size:]))}] += e.Packets
	}
	var err error
	if len(keys) > 0 {
		err = c.someCounts(ctx, keys, add)
	} else {
		err = c.allCounts(ctx, sums, add)
	}
	list := make([]Count, 0, len(sums))
	for f, n := range sums {
		list = append(list, Count{Key: f.key, Target: f.target, Connections: n})
	}
	slices.SortFunc(list, func(a, b Count) int { return cmp.Or(a.Key.compare(b.Key), a.Target.Compare(b.Target)) })
	return list, c.fail("read", err)
}

func (c *Client) allCounts(ctx context.Context, sums map[flow]uint64, add func(*family, *nft.Element)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.know(ctx); err != nil || !c.exists || c.damaged {
		return err
	}
	for _, f := range c.lay.families() {
		again := func() {
			for at := range sums {
				if at.key.Addr.Is4() == f.is4() {
					delete(sums, at)
				}
			}
		}
		if err := c.conn.Elements(ctx, c.lay.table, f.targets, c.owned, again, func(e *nft.Element) { add(f, e) }); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) someCounts(ctx context.Context, keys []Key, add func(*family, *nft.Element)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	known, err := c.current(ctx)
	if err == nil && !known {
		err = c.glimpse(ctx, Change{Drop: keys}, true)
	}
	if errors.Is(err, errPartial) {
		err = c.know(ctx)
	}
	if err != nil {
		return err
	}
	var list []nft.Lookup
	for _, k := range keys {
		en := c.world.forwards[k]
		if en == nil {
			continue
		}
		for first, n := range map[uint32]int{0: len(en.slots), nearSlot: len(en.near)} {
			for i := range uint32(n) {
				list = append(list, nft.Lookup{Set: c.lay.of(k.Addr).targets, Key: nft.AppendUint32(forwardKey(k), first+i)})
			}
		}
	}
	if c.world.partial {
		c.world = nil
	}
	if err := c.conn.Lookup(ctx, c.lay.table, list); err != nil {
		return err
	}
	for i := range list {
		if l := &list[i]; l.Found {
			f := &c.lay.v4
			if l.Set == c.lay.v6.targets {
				f = &c.lay.v6
			}
			add(f, &l.Element)
		}
	}
	return nil
}
