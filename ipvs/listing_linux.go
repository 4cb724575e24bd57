package ipvs

import (
	"context"
	"slices"
)

const (
	// listTries bounds how many lists of services may differ from the one before.
	listTries = 5
	// askTries bounds how often a service is asked for that listings disagree about, until it is what it was: a long list of destinations can be wrong, too.
	askTries = 4
)

// once lists what is owned, one time.
func (c *Client) once(ctx context.Context) (State, error) {
	r, err := c.conn.list(ctx, c.owns.Contains, false)
	if err != nil || len(r.services) == 0 {
		return State{}, err
	}
	return State{Services: r.services}, nil
}

// settled returns what the client knows already if a listing agrees with it, and else what confirm makes of the listing.
func (c *Client) settled(ctx context.Context) (State, error) {
	have, err := c.once(ctx)
	if err != nil {
		return State{}, err
	}
	return c.confirm(ctx, have)
}

// confirm returns have if the next listing says the same. Services about which the two disagree are asked for one by one: one of the listings was wrong
// there, as any is while others write, or they changed. When others do write, so are those that only further listings have.
func (c *Client) confirm(ctx context.Context, have State) (State, error) {
	if c.known.agrees(have) {
		return have, nil
	}
	before := c.conn.print
	again, err := c.once(ctx)
	if err != nil {
		return State{}, err
	}
	doubtful := diffCanonical(have, again).Keys()
	if c.conn.print != before {
		missing, err := c.missing(ctx, c.owns.Contains, again)
		if err != nil {
			return State{}, err
		}
		doubtful = append(doubtful, missing...)
		slices.SortFunc(doubtful, Key.Compare)
		doubtful = slices.Compact(doubtful)
	}
	checked := memory{base: have, complete: true}
	for range askTries {
		asked, err := c.conn.some(ctx, doubtful, false)
		if err != nil {
			return State{}, err
		}
		before := checked.merged()
		for _, k := range doubtful {
			checked.note(k, nil)
		}
		for i := range asked.services {
			checked.note(asked.services[i].Key, &asked.services[i])
		}
		if doubtful = diffCanonical(before, checked.merged()).Keys(); len(doubtful) == 0 {
			break
		}
	}
	have = checked.merged()
	c.known.learn(have)
	return have, nil
}

// whole reports whether a listing that is all that is wanted is also all that is there, and remembers it then. The client knows that if it knew all of
// it before; else another list of the services alone, which costs little, tells whether the first left one out.
func (c *Client) whole(ctx context.Context, have State) (bool, error) {
	if c.known.agrees(have) {
		return true, nil
	}
	missing, err := c.missing(ctx, c.owns.Contains, have)
	if err != nil || len(missing) > 0 {
		return false, err
	}
	c.known.learn(have)
	return true, nil
}

// missing returns the keys that the last listing, canonical, lacks and the client knew of, or that are in further lists of the services: as many as it takes
// until one is like the one before. One that others write into leaves some out, which ones differs.
func (c *Client) missing(ctx context.Context, keep func(Key) bool, last State) ([]Key, error) {
	listed := memory{base: last, complete: true}
	var out []Key
	note := func(k Key) {
		if s, _ := listed.lookup(k); s == nil && keep(k) {
			out = append(out, k)
		}
	}
	for _, s := range c.known.merged().Services {
		note(s.Key)
	}
	for range listTries {
		before := c.conn.print
		keys, err := c.keys(ctx, keep)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			note(k)
		}
		if c.conn.print == before {
			break
		}
	}
	slices.SortFunc(out, Key.Compare)
	return slices.Compact(out), nil
}

// keys lists which services there are, once, sorted.
func (c *Client) keys(ctx context.Context, keep func(Key) bool) ([]Key, error) {
	stop, err := c.conn.bound(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	r := &reader{conn: c.conn}
	if err := r.readServices(keep); err != nil {
		return nil, c.conn.cause(ctx, err)
	}
	keys := make([]Key, len(r.services))
	for i := range r.services {
		keys[i] = r.services[i].Key
	}
	return keys, nil
}

// allKeys lists which services there are. What one listing has and another lacks is asked for by itself.
func (c *Client) allKeys(ctx context.Context, keep func(Key) bool) ([]Key, error) {
	keys, err := c.keys(ctx, keep)
	if err != nil {
		return nil, err
	}
	listed := State{Services: make([]Service, len(keys))}
	for i, k := range keys {
		listed.Services[i].Key = k
	}
	missing, err := c.missing(ctx, keep, listed)
	if err != nil {
		return nil, err
	}
	asked, err := c.conn.some(ctx, missing, false)
	if err != nil {
		return nil, err
	}
	for i := range asked.services {
		keys = append(keys, asked.services[i].Key)
	}
	slices.SortFunc(keys, Key.Compare)
	return keys, nil
}
