package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/nat"
)

// tableName is the plugin's nftables table. It is apart from those of other programs built on the same library.
const tableName = "podplumb-cni"

// withTable runs fn with the table while no other process of the plugin has it: while a process has a client open, the table is its own
// where the kernel can do that, and others' changes are refused. With a holder it stays so.
func withTable(ctx context.Context, s record.Store, fn func(*nat.Client) error) (err error) {
	unlock, err := s.LockNode(ctx, "table")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	now := epoch()
	before := handedOn(s, now)
	held, err := borrow(s)
	if err != nil {
		return err
	}
	if held != nil {
		defer func() { err = errors.Join(err, held.Close()) }()
	}
	c, err := nat.New(nat.Config{Table: tableName, Whole: before, Socket: held})
	if err != nil {
		return err
	}
	defer func() {
		if after := c.Generation(); after != before {
			handOn(s, now, after)
		}
		err = errors.Join(err, c.Close())
	}()
	return fn(c)
}

// change is an attachment's part of the table.
func change(a *record.Attachment) nat.Change {
	c := nat.Change{Set: a.Forwards, SetLocalhost: a.Localhost}
	for _, p := range a.Masquerade {
		c.SetNetworks = append(c.SetNetworks, nat.Network{Prefix: p, Name: a.Network[:min(len(a.Network), 64)]})
	}
	return c
}

// publish makes the table hold an attachment's part.
func publish(ctx context.Context, s record.Store, a *record.Attachment) error {
	if len(a.Masquerade)+len(a.Forwards) == 0 {
		return nil
	}
	return withTable(ctx, s, func(c *nat.Client) error { return update(ctx, c, s, a) })
}

// update changes an attachment's part alone. When the table was not there, or was broken or of another version, it is made again from
// all records: others flushed it, or the node has restarted.
func update(ctx context.Context, c *nat.Client, s record.Store, a *record.Attachment) error {
	p, err := c.Update(ctx, change(a))
	var conflict *nat.ConflictError
	switch {
	case errors.As(err, &conflict), errors.Is(err, nat.ErrForeign), errors.Is(err, fs.ErrPermission), ctx.Err() != nil:
		return err
	case err == nil && !strings.HasPrefix(p.String(), "+ table"):
		return nil
	}
	want, rerr := recorded(s)
	if rerr != nil {
		return errors.Join(err, rerr)
	}
	_, err = c.Sync(ctx, contribute(want, a))
	return err
}

// recorded is what the table should hold for all attachments that are complete.
func recorded(s record.Store) (nat.State, error) {
	var want nat.State
	all, err := s.All()
	for _, a := range all {
		if a.Done {
			want = contribute(want, a)
		}
	}
	return want, err
}

// contribute adds an attachment's part to s.
func contribute(s nat.State, a *record.Attachment) nat.State {
	c := change(a)
	for _, n := range c.SetNetworks {
		if !slices.ContainsFunc(s.Networks, func(o nat.Network) bool { return o.Prefix.Overlaps(n.Prefix) }) {
			s.Networks = append(s.Networks, n)
		}
	}
	for _, l := range c.SetLocalhost {
		if !slices.ContainsFunc(s.Localhost, func(o netip.Addr) bool { return o.Is4() == l.Is4() }) {
			s.Localhost = append(s.Localhost, l)
		}
	}
	for _, f := range c.Set {
		if !slices.ContainsFunc(s.Forwards, func(o nat.Forward) bool { return o.Key() == f.Key() }) {
			s.Forwards = append(s.Forwards, f)
		}
	}
	return s
}

// withdraw takes attachments' parts out of the table, in one transaction. Networks go with their last attachment. The table itself stays
// for the next one, as the bridge does, for to make it costs more than all the rest of ADD; GC removes it.
func withdraw(ctx context.Context, s record.Store, gone ...*record.Attachment) error {
	var c nat.Change
	masquerades := false
	for _, a := range gone {
		masquerades = masquerades || len(a.Masquerade) > 0
		for _, f := range a.Forwards {
			if s.HoldsPort(a.Key, f.Key()) {
				c.Drop = append(c.Drop, f.Key())
			}
		}
	}
	if len(c.Drop) == 0 && !masquerades {
		return nil
	}
	return withTable(ctx, s, func(t *nat.Client) error {
		idle, stays, err := idle(s, gone)
		if err != nil {
			return err
		}
		c.DropNetworks = idle
		if stays != nil {
			// The node's address that stood for its loopback addresses may go with a point-to-point link.
			c.SetLocalhost = stays.Localhost
		}
		if len(c.Drop)+len(idle) == 0 {
			return nil
		}
		_, err = t.Update(ctx, c)
		return err
	})
}

// idle are the networks of gone that no attachment that stays needs. stays is one of those that need anything of the table; nil: none
// does.
func idle(s record.Store, gone []*record.Attachment) (out []netip.Prefix, stays *record.Attachment, err error) {
	leaving := map[record.Key]bool{}
	for _, a := range gone {
		leaving[a.Key] = true
		for _, p := range a.Masquerade {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	networks, err := s.Networks()
	if err != nil {
		return nil, nil, err
	}
	own := gone[0].Network // it is there that another one is found soonest
	networks = append([]string{own}, slices.DeleteFunc(networks, func(n string) bool { return n == own })...)
	for _, n := range networks {
		files, err := s.List(n)
		if err != nil {
			return nil, nil, err
		}
		for _, name := range files {
			a, err := s.Peek(n, name)
			if err != nil {
				return nil, nil, err
			}
			if a == nil || leaving[a.Key] || len(a.Masquerade)+len(a.Forwards) == 0 {
				continue
			}
			stays = a
			out = slices.DeleteFunc(out, func(p netip.Prefix) bool { return slices.Contains(a.Masquerade, p) })
			if len(out) == 0 {
				return nil, stays, nil
			}
		}
	}
	return out, stays, nil
}

// lostEntries are the elements of the table that are missing or not as they were, and claims on ports. What the table has lost is put
// back, so that a flush of all rules by others is not for long.
func lostEntries(ctx context.Context, s record.Store, a *record.Attachment) (out []error, err error) {
	for _, f := range a.Forwards {
		if !s.HoldsPort(a.Key, f.Key()) {
			out = append(out, fmt.Errorf("host port %s is not claimed by the container", f.Key()))
		}
	}
	if len(a.Masquerade)+len(a.Forwards) == 0 {
		return out, nil
	}
	err = withTable(ctx, s, func(c *nat.Client) error {
		p, err := c.PlanUpdate(ctx, change(a))
		switch {
		case err != nil: // it cannot say what is missing
			for _, f := range a.Forwards {
				out = append(out, fmt.Errorf("table %s was broken, and is made again, with host port %s", tableName, f.Key()))
			}
			out = append(out, err)
		}
		lost := false
		for line := range strings.Lines(p.String()) {
			if strings.HasPrefix(line, "~ localhost") {
				continue // another container's, which serves as well
			}
			lost = true
			out = append(out, fmt.Errorf("table %s lost, and has again: %s", tableName, strings.TrimSpace(strings.TrimLeft(line, "+~ "))))
		}
		if !lost && err == nil {
			return nil
		}
		return update(ctx, c, s, a)
	})
	return out, err
}

// sweepTable removes what the table holds of attachments that are gone, and of those and networks that no record knows of.
func sweepTable(ctx context.Context, s record.Store, gone []*record.Attachment) error {
	leaving := make([]record.Key, len(gone))
	for i, a := range gone {
		leaving[i] = a.Key
	}
	return withTable(ctx, s, func(c *nat.Client) error {
		all, err := s.All(leaving...)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(a *record.Attachment) bool { return len(a.Masquerade)+len(a.Forwards) == 0 })
		if len(all) == 0 {
			_, err = c.Sync(ctx, nat.State{})
			return err
		}
		have, err := c.Names(ctx)
		if err != nil {
			return err
		}
		known := map[string]bool{}
		masqueraded := map[netip.Prefix]bool{}
		drop := nat.Change{SetLocalhost: all[0].Localhost} // see withdraw
		for _, a := range all {
			known[label(a.Key)] = true
			for _, p := range a.Masquerade {
				masqueraded[p] = true
			}
		}
		for k, name := range have.Forwards {
			if !known[name] {
				drop.Drop = append(drop.Drop, k)
			}
		}
		for p := range have.Networks {
			if !masqueraded[p] {
				drop.DropNetworks = append(drop.DropNetworks, p)
			}
		}
		if len(drop.Drop)+len(drop.DropNetworks) == 0 {
			return nil
		}
		_, err = c.Update(ctx, drop)
		return err
	})
}
