package policy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/rtnl"
)

// cutter deletes the connections that changes deny, after the changes: to look for them takes the kernel longer than most changes do.
type cutter struct {
	conn    *nft.Conn
	pending map[netip.Addr]struct{} // addresses whose connections are to be looked at; guarded by Client.mu, as running
	running bool
	stop    context.CancelFunc
	done    sync.WaitGroup
	hurry   chan struct{} // closed when there is no time to wait for more changes
	idle    chan struct{} // closed when what is running ends
}

// gatherFor is how long the connections of a change may outlive it, so that those of many changes are looked for at once.
const gatherFor = 5 * time.Millisecond

// cutSoon has the connections of the touched addresses looked at.
func (c *Client) cutSoon(w *world, touched map[netip.Addr]struct{}) error {
	if c.config.KeepLive || w.lay == nil || len(touched) == 0 {
		return nil
	}
	k := &c.cutter
	if k.conn == nil {
		conn, err := nft.Open(c.ns)
		if err != nil {
			return err
		}
		k.conn = conn
	}
	if k.pending == nil {
		k.pending = touched
	} else {
		maps.Copy(k.pending, touched)
	}
	if !k.running {
		k.running = true
		ctx, stop := context.WithCancel(context.Background())
		k.stop, k.hurry, k.idle = stop, make(chan struct{}), make(chan struct{})
		hurry, idle := k.hurry, k.idle
		k.done.Add(1)
		go func() {
			defer k.done.Done()
			defer stop()
			defer close(idle)
			c.cutPending(ctx, hurry)
		}()
	}
	return nil
}

// cutPending works until nothing is pending.
func (c *Client) cutPending(ctx context.Context, hurry <-chan struct{}) {
	for {
		select {
		case <-hurry:
		case <-time.After(gatherFor):
		}
		c.mu.Lock()
		k := &c.cutter
		touched := k.pending
		k.pending = nil
		if touched == nil || c.ns == 0 {
			k.running = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		list, err := connections(ctx, k.conn, touched)
		if err == nil {
			c.mu.Lock()
			if c.world != nil && c.ns != 0 {
				list, err = c.denied(ctx, c.world, list)
			} else {
				list = nil
			}
			c.mu.Unlock()
		}
		for i := 0; err == nil && i < len(list); i++ {
			err = k.conn.DeleteConnection(ctx, &list[i])
		}
		if err != nil && ctx.Err() == nil {
			c.report(Plan{}, c.fail("update", err))
		}
	}
}

// finishCutting has what cutSoon began done at once.
func (c *Client) finishCutting() {
	c.mu.Lock()
	running, hurry, idle := c.cutter.running, c.cutter.hurry, c.cutter.idle
	c.cutter.hurry = nil
	c.mu.Unlock()
	if !running || hurry == nil {
		return
	}
	close(hurry)
	select {
	case <-idle:
	case <-time.After(longestCut):
	}
}

// longestCut bounds how long Close waits for connections to be cut.
const longestCut = 5 * time.Second

// stopCutting ends what cutSoon began.
func (c *Client) stopCutting() error {
	if c.cutter.stop != nil {
		c.cutter.stop()
	}
	c.cutter.done.Wait()
	if c.cutter.conn == nil {
		return nil
	}
	return c.cutter.conn.Close()
}

// cut deletes all connections that are denied now.
func (c *Client) cut(ctx context.Context, w *world) error {
	if c.config.KeepLive || w.lay == nil {
		return nil
	}
	list, err := connections(ctx, c.conn, nil)
	if err == nil {
		list, err = c.denied(ctx, w, list)
	}
	for i := 0; err == nil && i < len(list); i++ {
		err = c.conn.DeleteConnection(ctx, &list[i])
	}
	return err
}

// connections lists those of the touched addresses, or all with nil.
func connections(ctx context.Context, from *nft.Conn, touched map[netip.Addr]struct{}) (list []nft.Connection, err error) {
	err = from.Connections(ctx, func(conn *nft.Connection) {
		if isTouched(touched, conn.Src.Addr()) || isTouched(touched, conn.Peer.Addr()) {
			list = append(list, *conn)
		}
	})
	// A kernel without connection tracking has none to cut.
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing connections: %w", err)
	}
	return list, nil
}

// denied returns those of the connections that are denied in w.
func (c *Client) denied(ctx context.Context, w *world, list []nft.Connection) (denied []nft.Connection, err error) {
	var own map[netip.Addr]bool
	for i := range list {
		conn := &list[i]
		outside := w.outcast(conn.Src.Addr()) || w.outcast(conn.Peer.Addr())
		if !outside && (w.owners[conn.Src.Addr()] == nil && w.owners[conn.Peer.Addr()] == nil || w.ev.Evaluate(packetOf(conn)).Allowed) {
			continue
		}
		if w.owners[conn.Src.Addr()] == nil || w.owners[conn.Peer.Addr()] == nil {
			if own == nil {
				if own, err = c.hostAddrs(ctx); err != nil {
					return nil, err
				}
			}
			if w.spares(conn, own) || outside && own[conn.Peer.Addr()] && !w.outcast(conn.Src.Addr()) {
				continue
			}
		}
		denied = append(denied, *conn)
	}
	return denied, nil
}

func isTouched(touched map[netip.Addr]struct{}, a netip.Addr) bool {
	_, ok := touched[a]
	return ok || touched == nil
}

// outcast says that an address is one of Config.Local that no pod has.
func (w *world) outcast(a netip.Addr) bool {
	return w.fenced() && w.owners[a] == nil && slices.ContainsFunc(w.cfg.Local, func(p netip.Prefix) bool { return p.Contains(a) })
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
	ns, err := c.namespace()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return rtnl.OwnAddrs(ctx, ns)
}
