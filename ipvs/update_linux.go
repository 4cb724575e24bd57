package ipvs

import (
	"context"
	"slices"
)

func (c *Client) update(ctx context.Context, change Change) (Plan, error) {
	if err := c.owns.checkChange(change); err != nil {
		return Plan{}, opError("update", "", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	wants := make([]wanted, 0, len(change.Set)+len(change.Drop))
	for i := range change.Set {
		s, _ := change.Set[i].canonical(nil)
		wants = append(wants, wanted{s.Key, &s})
	}
	for _, k := range change.Drop {
		wants = append(wants, wanted{k, nil})
	}
	var did Plan
	for range syncTries {
		changes, err := c.prepare(ctx, wants)
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
		contradicted := map[Key]bool{}
		for _, f := range again {
			contradicted[f.key] = true
		}
		wants = slices.DeleteFunc(wants, func(w wanted) bool { return !contradicted[w.key] })
	}
	return did, opError("update", "", ErrUnstable)
}

// wanted is what shall become of one service: nil means that it goes.
type wanted struct {
	key     Key
	service *Service
}

// prepare compares what is wanted with what is known, or read where nothing is known, and returns what differs, sorted.
func (c *Client) prepare(ctx context.Context, wants []wanted) ([]change, error) {
	changes := make([]change, 0, len(wants))
	for _, w := range wants {
		have, sure := c.known.lookup(w.key)
		if !sure {
			var err error
			if have, err = c.conn.get(ctx, w.key); err != nil {
				return nil, err
			}
		}
		switch {
		case have == nil && w.service == nil:
		case have != nil && w.service != nil && sameService(have, w.service):
			c.known.note(w.key, have)
		default:
			changes = append(changes, diffService(w.key, have, w.service))
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return a.key.Compare(b.key) })
	return changes, nil
}
