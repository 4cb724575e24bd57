package policy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/rtnl"
	"github.com/podplumb/podplumb/netns"
)

// cut deletes the connections that are denied now: those of the touched addresses, or of any with nil.
func (c *Client) cut(ctx context.Context, w *world, touched map[netip.Addr]struct{}) error {
	if c.config.KeepLive || w.lay == nil || touched != nil && len(touched) == 0 {
		return nil
	}
	var denied []nft.Connection
	var host []nft.Connection // denied unless they are the host's own
	for _, family := range []nft.Family{nft.FamilyIPv4, nft.FamilyIPv6} {
		err := c.conn.Connections(ctx, family, func(conn *nft.Connection) {
			if !isTouched(touched, conn.Src.Addr()) && !isTouched(touched, conn.Peer.Addr()) {
				return
			}
			switch verdict := w.ev.Evaluate(packetOf(conn)); {
			case verdict.Allowed:
			case w.owners[conn.Src.Addr()] == nil || w.owners[conn.Peer.Addr()] == nil:
				host = append(host, *conn)
			default:
				denied = append(denied, *conn)
			}
		})
		// A kernel without connection tracking has none to cut.
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listing connections: %w", err)
		}
	}
	if len(host) > 0 {
		own, err := c.hostAddrs(ctx)
		if err != nil {
			return err
		}
		for i := range host {
			if !w.spares(&host[i], own) {
				denied = append(denied, host[i])
			}
		}
	}
	for i := range denied {
		if err := c.conn.DeleteConnection(ctx, &denied[i]); err != nil {
			return err
		}
	}
	return nil
}

func isTouched(touched map[netip.Addr]struct{}, a netip.Addr) bool {
	_, ok := touched[a]
	return ok || touched == nil
}

// spares says that a connection which Evaluate denies is one of the host's, which has more addresses than its Node tells of.
func (w *world) spares(conn *nft.Connection, own map[netip.Addr]bool) bool {
	verdict := w.ev.Evaluate(packetOf(conn))
	return own[conn.Src.Addr()] || own[conn.Peer.Addr()] && verdict.By.Direction == Egress && verdict.By.Reason == ByIsolation
}

// packetOf is the first packet of a connection as policies see it: with the destination translated, and the source not yet.
func packetOf(conn *nft.Connection) Packet {
	p := Packet{Src: conn.Src.Addr(), Dst: conn.Peer.Addr()}
	for _, proto := range transports {
		if n, _ := proto.number(); n == conn.Proto {
			p.Protocol, p.Port = proto, conn.Peer.Port()
		}
	}
	return p
}

// hostAddrs lists the host's addresses.
func (c *Client) hostAddrs(ctx context.Context) (map[netip.Addr]bool, error) {
	ns, err := netns.Open(fmt.Sprintf("/proc/thread-self/fd/%d", c.ns))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	conn, err := rtnl.Open(ns)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	list, err := conn.Addrs(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("listing the host's addresses: %w", err)
	}
	own := make(map[netip.Addr]bool, len(list))
	for _, a := range list {
		own[a.Prefix.Addr()] = true
	}
	return own, nil
}
