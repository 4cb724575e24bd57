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
	did, err := c.change(ctx, change)
	return did, opError("update", "", err)
}

// change does what is wanted of the named services, again for those that others change at the same time.
func (c *Client) change(ctx context.Context, wanted Change) (did Plan, err error) {
	var contradicted map[Key]bool // nil: all
	for range syncTries {
		changes, err := c.prepare(ctx, &wanted, contradicted)
		if err != nil {
			return did, err
		}
		done, again, err := c.write(ctx, changes)
		did = did.and(done)
		if err != nil {
			return did, err
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
	return did, ErrUnstable
}

// prepare compares what is wanted with what is known, or read where nothing is known, and returns what differs, sorted. Unless only is nil
// it looks at those keys alone.
func (c *Client) prepare(ctx context.Context, wanted *Change, only map[Key]bool) ([]change, error) {
	changes := make([]change, 0, len(wanted.Set)+len(wanted.Drop))
	total := 0
	for i := range wanted.Set {
		total += len(wanted.Set[i].Destinations)
	}
	destinations := make([]Destination, 0, total)
	set := make([]struct { // copies: the caller may change his
		Service
		differs [1]destinationChange // room for what differs most often
	}, len(wanted.Set))
	compare := func(k Key, want *Service, room []destinationChange) error {
		have, sure := c.known.lookup(k)
		if !sure || have == nil && want == nil { // somebody may have made what shall go
			var err error
			if have, err = c.conn.get(ctx, k); err != nil {
				return err
			}
		}
		if have == nil && want == nil {
			if !sure {
				c.known.note(k, nil)
			}
			return nil
		}
		d := diffService(k, have, want, room)
		if have != nil && want != nil && len(d.destinations) == 0 && !d.settingsChange() {
			c.known.note(k, have)
			return nil
		}
		changes = append(changes, d)
		return nil
	}
	for i := range wanted.Set {
		if k := wanted.Set[i].Key; only == nil || only[k] {
			s := &set[i]
			s.Service = wanted.Set[i]
			destinations = s.settle(destinations)
			if err := compare(k, &s.Service, s.differs[:0]); err != nil {
				return nil, err
			}
		}
	}
	for _, k := range wanted.Drop {
		if only == nil || only[k] {
			if err := compare(k, nil, nil); err != nil {
				return nil, err
			}
		}
	}
	if len(changes) < 2 {
		return changes, nil
	}
	slices.SortFunc(changes, func(a, b change) int { return a.key.Compare(b.key) })
	return changes, nil
}
