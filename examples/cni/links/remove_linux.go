package links

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
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
	if len(names) == 0 {
		return nil
	}
	h, err := open(ctx)
	if err != nil {
		return fmt.Errorf("remove links: %w", err)
	}
	defer h.Close()
	there, err := find(h, names)
	if err != nil {
		return fmt.Errorf("remove links: %w", err)
	}
	return RemoveListed(owner, there...)
}

// RemoveListed is Remove for links that List told.
func RemoveListed(owner string, there ...Link) error {
	for _, l := range there {
		if l.Kind != "veth" && l.Kind != "ifb" || l.Alias != "" && !strings.HasPrefix(l.Alias, owner+"/") {
			return fmt.Errorf("remove link %s: it is a %s of %q, which is left alone", l.Name, l.Kind, l.Alias)
		}
	}
	if len(there) == 0 {
		return nil
	}
	return removeTogether(there)
}

// few is up to how many links are asked for one by one; for more, all are listed.
const few = 8

// find returns those links that there are.
func find(h *netlink.Handle, names []string) (out []Link, err error) {
	if len(names) > few {
		all, err := list(h)
		wanted := make(map[string]bool, len(names))
		for _, name := range names {
			wanted[name] = true
		}
		for _, l := range all {
			if wanted[l.Attrs().Name] {
				out = append(out, linkOf(l))
			}
		}
		return out, err
	}
	for _, name := range names {
		l, err := h.LinkByName(name)
		switch {
		case errors.As(err, &netlink.LinkNotFoundError{}):
		case err != nil:
			return nil, fmt.Errorf("%s: %w", name, err)
		default:
			out = append(out, linkOf(l))
		}
	}
	return out, nil
}

// atOnce bounds the requests of one datagram, which a socket's default buffer has to hold.
const atOnce = 1000

// removeTogether moves links to a group of their own and removes that, all in few datagrams: the kernel waits for the same lock with
// each request that stands alone, and for its grace periods with each removal.
func removeTogether(links []Link) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(callTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	// Of the upper half of the group numbers, which nobody counts up to; two processes meet once in 2^31.
	group := rand.Uint32() | 1<<31
	request := func(kind, flags, index int) *nl.NetlinkRequest {
		r := nl.NewNetlinkRequest(kind, flags)
		header := nl.NewIfInfomsg(unix.AF_UNSPEC)
		header.Index = int32(index)
		r.AddData(header)
		if kind == unix.RTM_SETLINK || index == 0 {
			r.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
		}
		return r
	}
	last := request(unix.RTM_DELLINK, unix.NLM_F_ACK, 0)
	if len(links) == 1 {
		last, links = request(unix.RTM_DELLINK, unix.NLM_F_ACK, links[0].Index), nil
	}
	var datagram []byte
	send := func() error {
		err := unix.Sendto(fd, datagram, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		datagram = datagram[:0]
		return os.NewSyscallError("sendto", err)
	}
	for i, l := range links {
		datagram = append(datagram, request(unix.RTM_SETLINK, 0, l.Index).Serialize()...)
		if i%atOnce == atOnce-1 {
			if err := send(); err != nil {
				return err
			}
		}
	}
	datagram = append(datagram, last.Serialize()...)
	if err := send(); err != nil {
		return err
	}
	return refusals(fd, last.Seq)
}

// refusals reads answers up to that to the last request, and returns what the kernel refused.
func refusals(fd int, last uint32) error {
	var errs []error
	b := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return errors.Join(append(errs, os.NewSyscallError("recvfrom", err))...)
		}
		messages, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, m := range messages {
			if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
				continue
			}
			if code := -int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
				errs = append(errs, gone(unix.Errno(code)))
			}
			if m.Header.Seq == last {
				return errors.Join(errs...)
			}
		}
	}
}

// gone forgives that a link went away by itself, with its namespace.
func gone(err error) error {
	if errors.Is(err, unix.ENODEV) || errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	return err
}
