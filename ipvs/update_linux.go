package ipvs

import (
	"context"
	"slices"
)

func (c *Client) update(ctx context.Context, change Change) (Plan, error) {
	if err := c.owns.checkChange(change); err != nil {
		return Plan{}, opError("update", "", err)
	}
	if err := c.take(ctx); err != nil {
		return Plan{}, opError("update", "", err)
	}
	defer c.give()
	var did Plan
	var contradicted map[Key]bool // nil: all
	for range syncTries {
		changes, err := c.prepare(ctx, &change, contradicted)
		if err != nil {
			return did, opError("update", "", err)
		}
		done, again, err := c.write(ctx, changes)
		did = did.and(done)
		if err != nil {
			return did, opError("update", "", err)
		}
		if len(again) == 0 {
			c.remember(done)
			return did, nil
		}
		contradicted = map[Key]bool{}
		for _, f := range again {
			contradicted[f.key] = true
		}
	}
	return did, opError("update", "", ErrUnstable)
}

// prepare compares what is wanted with what is known, or read where nothing is known, and returns what differs, sorted. Unless only is nil
// it looks at those keys alone.
func (c *Client) prepare(ctx context.Context, wanted *Change, only map[Key]bool) ([]change, error) {
	changes := make([]change, 0, len(wanted.Set)+len(wanted.Drop))
	compare := func(k Key, want *Service) error {
		have, sure := c.known.lookup(k)
		if !sure {
			var err error
			if have, err = c.conn.get(ctx, k); err != nil {
				return err
			}
		}
		switch {
		case have == nil && want == nil:
		case have != nil && want != nil && sameService(have, want):
			c.known.note(k, have)
		default:
			changes = append(changes, diffService(k, have, want))
		}
		return nil
	}
	for i := range wanted.Set {
		if k := wanted.Set[i].Key; only == nil || only[k] {
			s, _ := wanted.Set[i].canonical(nil)
			if err := compare(k, &s); err != nil {
				return nil, err
			}
		}
	}
	for _, k := range wanted.Drop {
		if only == nil || only[k] {
			if err := compare(k, nil); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return a.key.Compare(b.key) })
	return changes, nil
}
