package nat

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/rtnl"
	"github.com/podplumb/podplumb/netns"
)

// Conntrack's netlink numbers (linux/netfilter/nfnetlink_conntrack.h);
// x/sys/unix lacks them.
const (
	ctGet    = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	ctDelete = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE

	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaFilter     = 25

	ctaTupleIP    = 1
	ctaTupleProto = 2

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNum = 1
	ctaSrcPort  = 2
	ctaDstPort  = 3

	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2

	// Bits of the filter flags (net/netfilter/nf_internals.h).
	matchIPSrc    = 1 << 0
	matchIPDst    = 1 << 1
	matchProtoNum = 1 << 3
	matchSrcPort  = 1 << 4
	matchDstPort  = 1 << 5
)

// flowTimeout bounds each exchange with conntrack when the context does not.
const flowTimeout = 30 * time.Second

// fewFlows is how many filtered deletions, each a walk through the whole
// connection table, are done before one listing is cheaper.
const fewFlows = 8

// forget deletes the connections that flows name.
func (c *Client) forget(ctx context.Context, flows []flow) error {
	if len(flows) == 0 {
		return nil
	}
	err := c.deleteFlows(ctx, flows)
	if err != nil && c.ct != nil {
		// Answers may be left on the socket.
		_ = c.ct.Close()
		c.ct = nil
	}
	return err
}

func (c *Client) deleteFlows(ctx context.Context, flows []flow) error {
	if c.ct == nil {
		// Kept: closing a netfilter socket waits for the kernel to finish
		// deleting nftables objects, some 20 ms.
		nl, err := nft.Dial(c.ns)
		if err != nil {
			return fmt.Errorf("opening a conntrack socket: %w", err)
		}
		c.ct = nl
	}
	nl := c.ct
	limit := time.Now().Add(flowTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(limit) {
		limit = d
	}
	if err := nl.SetDeadline(limit); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = nl.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if i := slices.Index(flows, questions); i >= 0 {
		if c.untracked() {
			return nil
		}
		if err := deleteQuestions(nl); err != nil {
			return fmt.Errorf("deleting questions to name servers: %w", err)
		}
		flows = slices.DeleteFunc(slices.Clone(flows), func(f flow) bool { return f == questions })
	}
	if len(flows) > fewFlows {
		return c.deleteListed(ctx, flows, 0)
	}
	for _, f := range flows {
		err := errNoFilter
		if f.key.Addr.Is4() && !f.key.node() {
			err = deleteFlow(nl, f)
		}
		if errors.Is(err, errNoFilter) {
			err = c.deleteListed(ctx, []flow{f}, f.key.Port)
		}
		if err != nil {
			return fmt.Errorf("deleting connections to %s: %w", f.key, err)
		}
	}
	return nil
}

// deleteQuestions deletes what UDP clients have with any name server.
func deleteQuestions(nl *netlink.Conn) error {
	for _, family := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		list, err := listFlows(nl, family, UDP, portDNS)
		if err != nil {
			return err
		}
		for _, m := range list {
			orig, _, ok := decodeConnection(m.Data)
			if !ok || orig.proto != UDP || orig.dst.Port() != portDNS {
				continue
			}
			if err := deleteExactly(nl, orig); err != nil {
				return err
			}
		}
	}
	return nil
}

// untracked says that the namespace has no connections at all, so that the
// table that all namespaces share need not be walked through.
func (c *Client) untracked() bool {
	ns, err := netns.Open(fmt.Sprintf("/proc/self/fd/%d", c.ns))
	if err != nil {
		return false
	}
	defer ns.Close()
	n, err := ns.Sysctl("net.netfilter.nf_conntrack_count")
	return err == nil && n == "0"
}

// deleteExactly deletes one connection, if it is still there.
func deleteExactly(nl *netlink.Conn, orig tuple) error {
	ae := netlink.NewAttributeEncoder()
	ae.Nested(ctaTupleOrig, func(ae *netlink.AttributeEncoder) error {
		encodeTuple(ae, orig)
		return nil
	})
	_, err := execute(nl, ctDelete, netlink.Request|netlink.Acknowledge, orig.dst.Addr(), ae)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// errNoFilter says that the kernel cannot find the flow by itself: before
// Linux 6.11 a deletion cannot be filtered, and a filter on an IPv6 address
// matches all the other addresses instead (seen up to 6.18).
var errNoFilter = errors.New("no filter for this flow")

func noFilter(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT)
}

// deleteFlow lets the kernel find and delete the connections of one flow.
func deleteFlow(nl *netlink.Conn, f flow) error {
	ae := netlink.NewAttributeEncoder()
	ae.Nested(ctaTupleOrig, func(ae *netlink.AttributeEncoder) error {
		encodeTuple(ae, tuple{dst: netip.AddrPortFrom(f.key.Addr, f.key.Port), proto: f.key.Proto})
		return nil
	})
	reply := uint32(0)
	if f.target.IsValid() {
		reply = matchIPSrc | matchProtoNum | matchSrcPort
		ae.Nested(ctaTupleReply, func(ae *netlink.AttributeEncoder) error {
			encodeTuple(ae, tuple{src: f.target, proto: f.key.Proto})
			return nil
		})
	}
	ae.Nested(ctaFilter, func(ae *netlink.AttributeEncoder) error {
		ae.Uint32(ctaFilterOrigFlags, matchIPDst|matchProtoNum|matchDstPort)
		ae.Uint32(ctaFilterReplyFlags, reply)
		return nil
	})
	_, err := execute(nl, ctDelete, netlink.Request|netlink.Acknowledge, f.key.Addr, ae)
	if noFilter(err) {
		return errNoFilter
	}
	return err
}

// deleteListed lists the connections of each family and protocol, with a port
// only those to it, and deletes the ones that flows name one by one.
func (c *Client) deleteListed(ctx context.Context, flows []flow, port uint16) error {
	nl := c.ct
	gone := make(map[flow]bool, len(flows))
	type kind struct {
		v4    bool
		proto Proto
	}
	kinds := map[kind]netip.Addr{}
	var own map[netip.Addr]bool
	for _, f := range flows {
		gone[f] = true
		kinds[kind{f.key.Addr.Is4(), f.key.Proto}] = f.key.Addr
		if f.key.node() && own == nil {
			addrs, err := c.hostAddrs(ctx)
			if err != nil {
				return err
			}
			own = addrs
		}
	}
	for kind, family := range kinds {
		list, err := listFlows(nl, family, kind.proto, port)
		if err != nil {
			return fmt.Errorf("listing connections: %w", err)
		}
		for _, m := range list {
			orig, reply, ok := decodeConnection(m.Data)
			if !ok || orig.proto != kind.proto {
				continue
			}
			key := Key{Addr: orig.dst.Addr(), Port: orig.dst.Port(), Proto: orig.proto}
			named := gone[flow{key: key}] || gone[flow{key: key, target: reply.src}]
			if own[key.Addr] {
				node := Key{Addr: unspecified(key.Addr), Port: key.Port, Proto: key.Proto}
				named = named || gone[flow{key: node}] || gone[flow{key: node, target: reply.src}]
			}
			if !named {
				continue
			}
			if err := deleteExactly(nl, orig); err != nil {
				return fmt.Errorf("deleting a connection to %s: %w", key, err)
			}
		}
	}
	return nil
}

// hostAddrs lists the host's addresses, those that node ports can be served
// on.
func (c *Client) hostAddrs(ctx context.Context) (map[netip.Addr]bool, error) {
	ns, err := netns.Open(fmt.Sprintf("/proc/self/fd/%d", c.ns))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return rtnl.OwnAddrs(ctx, ns)
}
