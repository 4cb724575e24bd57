package plugin

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/nat"
)

// tableName is the plugin's nftables table. It is apart from those of other programs built on the same library.
const tableName = "podplumb-cni"

// withTable runs fn with the table while no other process of the plugin has it.
func withTable(ctx context.Context, s record.Store, fn func(*nat.Client) error) (err error) {
	unlock, err := s.LockNode(ctx, "table")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	c, err := nat.New(nat.Config{Table: tableName})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return fn(c)
}

// networkOf names the masqueraded networks of an attachment in the table.
func networkOf(k record.Key) string { return k.Network[:min(len(k.Network), 64)] }

// contribute adds an attachment's part to s.
func contribute(s nat.State, a *record.Attachment) nat.State {
	for _, p := range a.Masquerade {
		n := nat.Network{Prefix: p, Name: networkOf(a.Key)}
		if !slices.ContainsFunc(s.Networks, func(o nat.Network) bool { return o.Prefix == n.Prefix }) {
			s.Networks = append(slices.Clone(s.Networks), n)
		}
	}
	mine := map[nat.Key]bool{}
	for _, f := range a.Forwards {
		mine[f.Key()] = true
	}
	s.Forwards = slices.DeleteFunc(slices.Clone(s.Forwards), func(f nat.Forward) bool { return mine[f.Key()] })
	s.Forwards = append(s.Forwards, a.Forwards...)
	return s
}

// publish makes the table hold an attachment's part. When the table has lost what others need, it is made from the records again.
func publish(ctx context.Context, s record.Store, a *record.Attachment) error {
	if len(a.Masquerade)+len(a.Forwards) == 0 {
		return nil
	}
	return withTable(ctx, s, func(c *nat.Client) error {
		have, err := c.Read(ctx)
		if err != nil {
			return err
		}
		if len(have.Networks)+len(have.Forwards) == 0 {
			if have, err = recorded(s); err != nil {
				return err
			}
		}
		_, err = c.Sync(ctx, contribute(have, a))
		return err
	})
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

// withdraw takes attachments' parts out of the table, in one transaction. Networks go with their last attachment.
func withdraw(ctx context.Context, s record.Store, gone ...*record.Attachment) error {
	var drop []nat.Key
	masquerades := false
	for _, a := range gone {
		masquerades = masquerades || len(a.Masquerade) > 0
		for _, f := range a.Forwards {
			if s.HoldsPort(a.Key, f.Key()) {
				drop = append(drop, f.Key())
			}
		}
	}
	if len(drop) == 0 && !masquerades {
		return nil
	}
	return withTable(ctx, s, func(c *nat.Client) error {
		idle, err := idleNetworks(s, gone)
		if err != nil {
			return err
		}
		have, err := c.Read(ctx)
		if err != nil {
			return err
		}
		have.Networks = slices.DeleteFunc(have.Networks, func(n nat.Network) bool { return idle[n.Prefix] })
		have.Forwards = slices.DeleteFunc(have.Forwards, func(f nat.Forward) bool { return slices.Contains(drop, f.Key()) })
		_, err = c.Sync(ctx, have)
		return err
	})
}

// idleNetworks are the prefixes of gone that no attachment that stays needs.
func idleNetworks(s record.Store, gone []*record.Attachment) (map[netip.Prefix]bool, error) {
	out := map[netip.Prefix]bool{}
	leaving := map[record.Key]bool{}
	for _, a := range gone {
		leaving[a.Key] = true
		for _, p := range a.Masquerade {
			out[p] = true
		}
	}
	if len(out) == 0 {
		return out, nil
	}
	networks, err := s.Networks()
	if err != nil {
		return nil, err
	}
	for _, n := range networks {
		files, err := s.List(n)
		if err != nil {
			return nil, err
		}
		for _, name := range files {
			a, err := s.Peek(n, name)
			if err != nil {
				return nil, err
			}
			if a == nil || leaving[a.Key] {
				continue
			}
			for _, p := range a.Masquerade {
				delete(out, p)
			}
			if len(out) == 0 {
				return out, nil
			}
		}
	}
	return out, nil
}
