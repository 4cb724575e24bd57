package links

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// callTimeout bounds each exchange with the kernel when the context does not.
const callTimeout = 30 * time.Second

// open returns a handle for the calling thread's namespace, whose calls end with ctx.
func open(ctx context.Context) (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	limit := callTimeout
	if d, ok := ctx.Deadline(); ok {
		limit = min(limit, max(time.Until(d), time.Millisecond))
	}
	if err := h.SetSocketTimeout(limit); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// Remove removes links by their names in one request, for which the kernel waits once and not once a link. One that does not exist is
// fine. One that is neither a veth end nor an ifb device, or that is marked by anyone but owner, is an error, and then nothing is removed: one without a
// mark is the plugin's, as nobody else gives such names, of a process that died before it could mark it.
func Remove(ctx context.Context, owner string, names ...string) error {
	h, err := open(ctx)
	if err != nil {
		return fmt.Errorf("remove links: %w", err)
	}
	defer h.Close()
	there, err := find(h, names)
	if err != nil {
		return fmt.Errorf("remove links: %w", err)
	}
	var found []netlink.Link
	for _, l := range there {
		alias := l.Attrs().Alias
		if l.Type() != "veth" && l.Type() != "ifb" || alias != "" && !strings.HasPrefix(alias, owner+"/") {
			return fmt.Errorf("remove link %s: it is a %s of %q, which is left alone", l.Attrs().Name, l.Type(), alias)
		}
		found = append(found, l)
	}
	if len(found) == 1 {
		return gone(h.LinkDel(found[0]))
	}
	if len(found) == 0 {
		return nil
	}
	// Of the upper half of the group numbers, which nobody counts up to; two processes meet once in 2^31.
	group := rand.Uint32() | 1<<31
	for _, l := range found {
		if err := gone(h.LinkSetGroup(l, int(group))); err != nil {
			return fmt.Errorf("remove link %s: %w", l.Attrs().Name, err)
		}
	}
	return gone(removeGroup(group))
}

// few is up to how many links are asked for one by one; for more, all are listed.
const few = 8

// find returns those links that there are.
func find(h *netlink.Handle, names []string) (out []netlink.Link, err error) {
	if len(names) > few {
		all, err := list(h)
		return slices.DeleteFunc(all, func(l netlink.Link) bool { return !slices.Contains(names, l.Attrs().Name) }), err
	}
	for _, name := range names {
		l, err := h.LinkByName(name)
		switch {
		case errors.As(err, &netlink.LinkNotFoundError{}):
		case err != nil:
			return nil, fmt.Errorf("%s: %w", name, err)
		default:
			out = append(out, l)
		}
	}
	return out, nil
}

func removeGroup(group uint32) error {
	req := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// gone forgives that a link went away by itself, with its namespace.
func gone(err error) error {
	if errors.Is(err, unix.ENODEV) || errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	return err
}
