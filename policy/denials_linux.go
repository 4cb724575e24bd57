package policy

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/podplumb/podplumb/internal/nft"
)

// errNoLog is why Denials cannot work.
var errNoLog = errors.New("Config.Log.Group is zero: nothing is logged")

func (c *Client) listCounters(ctx context.Context) ([]Counter, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ns == 0 {
		return nil, c.fail("counters", fs.ErrClosed)
	}
	if c.world == nil {
		return nil, c.fail("counters", errNoSync)
	}
	have, err := c.conn.Counters(ctx, c.table)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = c.addGathered(ctx, have)
	}
	if err != nil {
		return nil, c.fail("counters", err)
	}
	var list []Counter
	for name, use := range c.world.counters {
		if n, ok := have[name]; ok {
			list = append(list, Counter{By: use.by, Packets: n.Packets, Bytes: n.Bytes})
			delete(have, name)
		}
	}
	for _, use := range c.world.blocks {
		for i := range use.entries {
			by := use.rules.decision(use.d, use.entries[i].rule)
			name := by.counter()
			if n, ok := have[name]; ok {
				list = append(list, Counter{By: by, Packets: n.Packets, Bytes: n.Bytes})
				delete(have, name)
			}
		}
	}
	slices.SortFunc(list, func(a, b Counter) int {
		return cmp.Or(cmp.Compare(a.By.Direction, b.By.Direction), cmp.Compare(a.By.label(), b.By.label()), cmp.Compare(a.By.counter(), b.By.counter()))
	})
	return list, nil
}

func (c *Client) denials(ctx context.Context, each func(Denial)) error {
	c.mu.Lock()
	ns, group := c.ns, c.config.Log.Group
	if ns == 0 || group == 0 {
		c.mu.Unlock()
		if ns == 0 {
			return c.fail("denials", fs.ErrClosed)
		}
		return c.fail("denials", errNoLog)
	}
	l, err := nft.Listen(ctx, ns, group)
	c.mu.Unlock()
	if err != nil {
		return c.fail("denials", err)
	}
	defer l.Close()
	for {
		var list []Denial
		err := l.Next(ctx, func(got nft.Logged) {
			if d, ok := c.denial(got); ok {
				list = append(list, d)
			}
		})
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err != nil {
			return c.fail("denials", err)
		}
		for _, d := range list {
			each(d)
		}
	}
}

// denial reads what a rule logged; false for what is not of this Client's rules.
func (c *Client) denial(got nft.Logged) (Denial, bool) {
	p, ok := parsePacket(got.Payload)
	if !ok {
		return Denial{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.world == nil {
		return Denial{}, false
	}
	use := c.world.counters[got.Prefix]
	if use == nil {
		return Denial{}, false
	}
	d := Denial{Packet: p, By: use.by}
	// What the objects say now tells more, if it comes to the same.
	if v := c.world.ev.Evaluate(p); !v.Allowed && v.By.counter() == got.Prefix {
		d.By = v.By
		return d, true
	}
	at := p.Src
	if d.By.Direction == Ingress {
		at = p.Dst
	}
	if owners := c.world.owners[at]; len(owners) > 0 {
		d.By.Pod = owners[0].key
	}
	return d, true
}
