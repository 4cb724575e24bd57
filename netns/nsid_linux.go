package netns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// netlinkTimeout bounds a netlink call whose context has no deadline: an answer
// that was lost must not hang the caller.
const netlinkTimeout = 10 * time.Second

// notAssigned is NETNSA_NSID_NOT_ASSIGNED of linux/net_namespace.h.
const notAssigned = -1

func (ns *NS) nsid(ctx context.Context, peer *NS) (int, error) {
	answers, err := ns.aboutPeer(ctx, peer, unix.RTM_GETNSID, 0, nil)
	if err != nil {
		return 0, err
	}
	if len(answers) == 0 {
		return 0, errors.New("the kernel answered nothing")
	}
	id, err := decodeNSID(answers[0].Data)
	if err == nil && id == notAssigned {
		err = fmt.Errorf("it has no id here yet (AssignNSID gives it one): %w", fs.ErrNotExist)
	}
	return id, err
}

func (ns *NS) assignNSID(ctx context.Context, peer *NS, id int) (int, error) {
	if id > math.MaxInt32 {
		return 0, fmt.Errorf("id %d is above %d: %w", id, math.MaxInt32, fs.ErrInvalid)
	}
	if id < 0 {
		id = notAssigned
	}
	_, err := ns.aboutPeer(ctx, peer, unix.RTM_NEWNSID, netlink.Acknowledge, func(ae *netlink.AttributeEncoder) {
		ae.Int32(unix.NETNSA_NSID, int32(id))
	})
	if err != nil {
		return 0, err
	}
	return ns.nsid(ctx, peer)
}

// aboutPeer sends one request about peer inside the namespace.
func (ns *NS) aboutPeer(ctx context.Context, peer *NS, kind uint16, flags netlink.HeaderFlags, fill func(*netlink.AttributeEncoder)) ([]netlink.Message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var conn *netlink.Conn
	err := ns.do("dial netlink", func() (err error) {
		conn, err = netlink.Dial(unix.NETLINK_ROUTE, nil)
		return err
	})
	if err != nil {
		return nil, unwrapOp(err)
	}
	defer func() { _ = conn.Close() }()
	deadline := time.Now().Add(netlinkTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	// A cancelled context ends the wait at once.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var answers []netlink.Message
	err = peer.withFd(func(fd int) error {
		ae := netlink.NewAttributeEncoder()
		ae.Uint32(unix.NETNSA_FD, uint32(fd))
		if fill != nil {
			fill(ae)
		}
		attrs, err := ae.Encode()
		if err != nil {
			return err
		}
		answers, err = conn.Execute(netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags},
			Data:   append(make([]byte, 4), attrs...), // struct rtgenmsg, padded
		})
		return err
	})
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return answers, err
}

func decodeNSID(data []byte) (int, error) {
	if len(data) < 4 {
		return 0, errors.New("the kernel's answer is short")
	}
	ad, err := netlink.NewAttributeDecoder(data[4:])
	if err != nil {
		return 0, err
	}
	id := notAssigned
	for ad.Next() {
		if ad.Type() == unix.NETNSA_NSID {
			id = int(ad.Int32())
		}
	}
	return id, ad.Err()
}
