package policy

import (
	"context"
	"errors"
	"io/fs"

	"github.com/podplumb/podplumb/internal/nft"
)

// load reads the table into have.
func (c *Client) load(ctx context.Context) error {
	r := newRuleset(c.config.Table)
	info, err := c.conn.Table(ctx, c.table.Family, c.table.Name)
	if errors.Is(err, fs.ErrNotExist) {
		c.have, c.exists, c.owned, c.orphan, c.outdated = r, false, false, false, false
		return nil
	}
	if err != nil {
		return err
	}
	if info.Stamp == 0 {
		return ErrForeign
	}
	c.exists = true
	c.owned = info.Owner != 0 && info.Owner == c.conn.PortID()
	c.orphan = info.Persist && info.Owner == 0
	if c.outdated = info.Stamp != c.table.Stamp(); c.outdated {
		c.have = r
		return nil
	}
	inv, err := c.conn.Inventory(ctx, c.table)
	if err != nil {
		return err
	}
	for name, info := range inv.Counters {
		r.counters[name] = info.Comment
	}
	for name, info := range inv.Chains {
		r.chains[name] = &chain{hook: info.Hook, stamps: info.Stamps}
	}
	for name, text := range inv.Sets {
		def := definition(name)
		if def == nil {
			r.sets[name] = &set{def: &nft.Set{Name: name}, elements: map[string]string{}} // not one of ours
			continue
		}
		def.Comment = text
		s := &set{def: def}
		if r.sets[name] = s; def.Counted {
			continue // what packets have put there is nobody's want
		}
		err := c.conn.Elements(ctx, c.table, def, c.owned, func() { s.elements = map[string]string{} }, s.read)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	c.have = r
	return nil
}

// read notes an element as put does.
func (s *set) read(e *nft.Element) {
	key, value := string(e.Key), string(e.Data)
	if e.End {
		key += rangeEnd
	}
	if v := e.Verdict; v != nil {
		value = v.Chain
		if v.Code != nft.Goto {
			value = v.String() // nothing that is ever wanted
		}
	}
	s.elements[key] = value
}
