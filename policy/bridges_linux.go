package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/rtnl"
	"github.com/podplumb/podplumb/netns"
)

// Bridges show packets to the IP hooks where br_netfilter is loaded and turned on, for all of a namespace or for one bridge. These are the
// names of both settings by family (Documentation/networking/ip-sysctl.rst; IFLA_BR_NF_CALL_IPTABLES, linux/if_link.h).
var (
	callSysctl = [families]string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"}
	callOption = [families]string{"nf_call_iptables", "nf_call_ip6tables"}
	ipVersion  = [families]string{"IPv4", "IPv6"}
)

// bridges finds out which bridges show their packets.
type bridges struct {
	files [families]*os.File // the namespace's settings; nil while br_netfilter is not loaded
}

func (b *bridges) close() {
	for _, f := range b.files {
		if f != nil {
			f.Close()
		}
	}
}

// shown says for which families all bridges show their packets. A file of /proc/sys stays that of the namespace it was opened in.
func (b *bridges) shown(inside func(func() error) error) (all [families]bool, err error) {
	for f := range families {
		if b.files[f] == nil {
			err := inside(func() (err error) {
				b.files[f], err = os.Open("/proc/sys/net/bridge/" + callSysctl[f])
				return err
			})
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return all, err
			}
		}
		var text [1]byte
		if _, err := b.files[f].ReadAt(text[:], 0); err != nil {
			// The module went, and its files with it.
			b.files[f].Close()
			b.files[f] = nil
			continue
		}
		all[f] = text[0] != '0'
	}
	return all, nil
}

// seen fails with ErrBridged when one of the addresses is behind a bridge that does not show its packets. nil are all of the world's
// pods of this node.
func (c *Client) seen(ctx context.Context, w *world, addrs []netip.Addr) error {
	if c.config.AllowBridged || w == nil || w.lay == nil {
		return nil
	}
	shown, err := c.bridges.shown(c.inside)
	if err != nil || shown == [families]bool{true, true} {
		return err
	}
	ns, err := c.namespace()
	if err != nil {
		return err
	}
	defer ns.Close()
	conn, err := rtnl.Open(ns)
	if err != nil {
		return err
	}
	defer conn.Close()
	links, err := conn.Bridges(ctx)
	if err != nil || len(links) == 0 {
		return err
	}
	routes, err := conn.Routes(ctx, rtnl.RouteFilter{})
	if err != nil {
		return err
	}
	if addrs == nil {
		addrs = w.localAddrs()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return unseen(links, routes, addrs, func(l *rtnl.Link, f int) bool {
		// Without the module a bridge's own options may be there, and mean nothing.
		option := [families]*bool{l.Bridge.NFCallIPTables, l.Bridge.NFCallIP6Tables}[f]
		return shown[f] || c.bridges.files[f] != nil && option != nil && *option
	})
}

func (c *Client) namespace() (*netns.NS, error) {
	return netns.Open(fmt.Sprintf("/proc/thread-self/fd/%d", c.ns))
}

func (c *Client) inside(f func() error) error {
	ns, err := c.namespace()
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.Do(f)
}

// localAddrs lists the addresses of the pods that are enforced here.
func (w *world) localAddrs() (list []netip.Addr) {
	for a, owners := range w.owners {
		if slices.ContainsFunc(owners, func(p *pod) bool { return p.local }) {
			list = append(list, a)
		}
	}
	return list
}

// unseen looks for a bridge that one of the addresses is behind and that does not show the packets of its family. An address is behind the
// link that the most specific route to it leaves by; one that only a default route leads to may be behind any bridge that no route leaves
// by.
func unseen(bridges []rtnl.Link, routes []rtnl.Route, addrs []netip.Addr, shows func(*rtnl.Link, int) bool) error {
	var hidden [families][]*rtnl.Link
	for i := range bridges {
		for f := range families {
			if l := &bridges[i]; l.Bridge != nil && l.Up() && !shows(l, f) {
				hidden[f] = append(hidden[f], l)
			}
		}
	}
	if len(hidden[four])+len(hidden[six]) == 0 {
		return nil
	}
	routes = slices.DeleteFunc(routes, func(r rtnl.Route) bool { return r.Type != unix.RTN_UNICAST || r.Dst.Addr().IsLinkLocalUnicast() })
	for _, a := range addrs {
		f := addrFamily(a)
		if len(hidden[f]) == 0 {
			continue
		}
		var best rtnl.Route
		for _, r := range routes {
			if r.Dst.Contains(a) && r.Dst.Bits() > best.Dst.Bits() && r.Dst.Bits() > 0 {
				best = r
			}
		}
		for _, l := range hidden[f] {
			behind := best.Index == l.Index && !best.Gateway.IsValid()
			if best.Index == 0 {
				behind = !slices.ContainsFunc(routes, func(r rtnl.Route) bool { return r.Index == l.Index })
			}
			if behind {
				return fmt.Errorf("%w: bridge %s, behind which pod address %s is, does not show %s packets to the IP hooks; "+
					"load br_netfilter and set net.bridge.%s to 1, or %s of the bridge", ErrBridged, l.Name, a, ipVersion[f], callSysctl[f], callOption[f])
			}
		}
	}
	return nil
}

// bridgesEvery is how often Watch looks at the settings of br_netfilter, which tell nobody that they change.
const bridgesEvery = 10 * time.Second

// watchBridges reports a bridge that begins to hide packets: each time that it is found out anew.
func (c *Client) watchBridges(ctx context.Context) {
	var monitor *rtnl.Monitor
	defer func() {
		if monitor != nil {
			monitor.Close()
		}
	}()
	told := ""
	for ctx.Err() == nil {
		if monitor == nil {
			monitor = c.monitorLinks()
		}
		c.mu.Lock()
		err := fs.ErrClosed
		if c.ns != 0 {
			err = c.seen(ctx, c.world, nil)
		}
		c.mu.Unlock()
		switch {
		case ctx.Err() != nil || errors.Is(err, fs.ErrClosed):
			return
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			c.report(Plan{}, c.fail("watch", err))
		}
		wait, stop := context.WithTimeout(ctx, bridgesEvery)
		if monitor == nil {
			<-wait.Done()
		} else if _, err := monitor.Next(wait); err != nil && wait.Err() == nil && !errors.Is(err, rtnl.ErrOverflow) {
			monitor.Close()
			monitor = nil
		}
		stop()
		nft.Sleep(ctx, nft.Settle)
	}
}

// monitorLinks listens to changes of links and routes; nil when that cannot be.
func (c *Client) monitorLinks() *rtnl.Monitor {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ns == 0 {
		return nil
	}
	ns, err := c.namespace()
	if err != nil {
		return nil
	}
	defer ns.Close()
	m, err := rtnl.Watch(ns, rtnl.LinkEvents|rtnl.RouteEvents)
	if err != nil {
		return nil
	}
	return m
}
