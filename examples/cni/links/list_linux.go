package links

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
)

// Link is what a sweep needs to know of a link.
type Link struct {
	Name, Kind, Alias string
	Index             int
	Up                bool
	Ports             int // of a bridge
}

// List tells all links of the calling thread's namespace.
func List(ctx context.Context) ([]Link, error) {
	h, err := open(ctx)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	defer h.Close()
	all, err := list(h)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	ports := map[int]int{}
	for _, l := range all {
		ports[l.Attrs().MasterIndex]++
	}
	out := make([]Link, len(all))
	for i, l := range all {
		out[i] = linkOf(l)
		out[i].Ports = ports[out[i].Index]
	}
	return out, nil
}

func linkOf(l netlink.Link) Link {
	a := l.Attrs()
	return Link{Name: a.Name, Kind: l.Type(), Alias: a.Alias, Index: a.Index, Up: a.RawFlags&1 != 0}
}

// RemoveUnused removes a device that has been made and not been put to use, whatever its kind. One that does not exist is fine.
func RemoveUnused(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	h, err := open(ctx)
	if err != nil {
		return fmt.Errorf("remove links: %w", err)
	}
	defer h.Close()
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		l, err := h.LinkByName(name)
		if err == nil {
			err = h.LinkDel(l)
		}
		if gone(err) != nil {
			return fmt.Errorf("remove link %s: %w", name, err)
		}
	}
	return nil
}

// listTries bounds how often a list that others' changes have interrupted is begun again.
const listTries = 20

// list returns all links, in a list that was not interrupted.
func list(h *netlink.Handle) (all []netlink.Link, err error) {
	for range listTries {
		if all, err = h.LinkList(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}
