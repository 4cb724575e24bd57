package veth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"

	"github.com/podplumb/podplumb/internal/rtnl"
)

// remove deletes links. One delete waits for the kernel's RCU grace periods, some 30 ms; so several links are first moved to a group of
// their own, which goes in one request and waits once. A link that is gone already is fine.
func (k *kernel) remove(ctx context.Context, indexes []int) error {
	if len(indexes) == 0 {
		return nil
	}
	// A connection of its own: the client's stays free while the kernel waits.
	conn, err := rtnl.Open(k.node.ns)
	if err != nil {
		return err
	}
	defer conn.Close()
	if len(indexes) == 1 {
		return absent(conn.DelLink(ctx, indexes[0]))
	}
	group, err := freeGroup(ctx, conn)
	if err != nil {
		return err
	}
	for _, i := range indexes {
		if err := absent(conn.SetLink(ctx, i, rtnl.LinkAttrs{Group: &group})); err != nil {
			return err
		}
	}
	return absent(conn.DelLinkGroup(ctx, group))
}

// freeGroup picks a link group that nothing is in: a random one of 2^31, so that two clients never meet.
func freeGroup(ctx context.Context, conn *rtnl.Conn) (uint32, error) {
	links, err := conn.Links(ctx)
	if err != nil {
		return 0, err
	}
	used := map[uint32]bool{}
	for i := range links {
		used[links[i].Group] = true
	}
	for {
		if g := rand.Uint32() | 1<<31; !used[g] {
			return g, nil
		}
	}
}

func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (k *kernel) detach(ctx context.Context, names []string) error {
	var indexes []int
	for _, name := range names {
		l, err := k.node.conn.LinkByName(ctx, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case !k.ownsPair(&l):
			return foreign(&l, "")
		}
		indexes = append(indexes, l.Index)
	}
	return k.remove(ctx, indexes)
}

func (k *kernel) detachGroup(ctx context.Context, group uint32) error {
	if group == 0 {
		return fmt.Errorf("0 is the group of every ordinary link: %w", fs.ErrInvalid)
	}
	links, err := k.node.conn.Links(ctx)
	if err != nil {
		return err
	}
	found := false
	for i := range links {
		if l := &links[i]; l.Group == group {
			if !k.ownsPair(l) {
				return foreign(l, "")
			}
			found = true
		}
	}
	if !found {
		return nil
	}
	conn, err := rtnl.Open(k.node.ns)
	if err != nil {
		return err
	}
	defer conn.Close()
	return absent(conn.DelLinkGroup(ctx, group))
}
