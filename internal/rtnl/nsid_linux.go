package rtnl

import (
	"context"

	"golang.org/x/sys/unix"
)

// NSID returns the id by which this connection's namespace knows the one behind the file descriptor, or -1 if it has none yet. It is
// what Link.PeerNSID holds.
func (c *Conn) NSID(ctx context.Context, fd int) (int, error) {
	r := newRequest(unix.RTM_GETNSID, 0, make([]byte, 4)) // struct rtgenmsg, padded
	r.add(u32(unix.NETNSA_FD, uint32(fd)))
	id := -1
	err := c.do(ctx, r, func(kind uint16, b []byte) {
		if kind != unix.RTM_NEWNSID || len(b) < 4 {
			return
		}
		for kind, v := range attrs(b[4:]) {
			if kind == unix.NETNSA_NSID {
				id = int(int32(getU32(v)))
			}
		}
	})
	return id, err
}
