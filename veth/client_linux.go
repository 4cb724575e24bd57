package veth

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/rtnl"
	"github.com/podplumb/podplumb/netns"
)

// kernel is the Linux side of a client.
type kernel struct {
	config Config
	owner  string // tag of bridges
	tag    string // tag of pairs
	node   place
}

// place is a namespace with a connection into it.
type place struct {
	ns   *netns.NS
	conn *rtnl.Conn
	path string // of a pod's namespace; empty: the node's
}

func openKernel(c Config, tag string) (*kernel, error) {
	var ns *netns.NS
	var err error
	if c.NetNS == nil {
		ns, err = netns.Current()
	} else {
		// A handle of our own: the caller may close its own.
		err = c.NetNS.Do(func() (err error) { ns, err = netns.Current(); return err })
	}
	if err != nil {
		return nil, err
	}
	conn, err := rtnl.Open(c.NetNS)
	if err != nil {
		_ = ns.Close()
		return nil, err
	}
	return &kernel{config: c, owner: c.Owner, tag: tag, node: place{ns: ns, conn: conn}}, nil
}

func (k *kernel) close() error { return k.node.close() }

func (p *place) close() error {
	var err error
	if p.conn != nil {
		err = p.conn.Close()
	}
	return errors.Join(err, p.ns.Close())
}

// findPod opens the namespace at path without a connection into it.
func findPod(path string) (*place, error) {
	ns, err := netns.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, netns.ErrNotNamespace):
		return nil, &PodGoneError{NetNS: path, Err: err}
	case err != nil:
		return nil, err
	}
	return &place{ns: ns, path: path}, nil
}

// connect opens the connection, and runs inside while it is there: every visit to a namespace costs a thread.
func (p *place) connect(inside func() error) error {
	return p.ns.Do(func() (err error) {
		if p.conn == nil {
			if p.conn, err = rtnl.Open(nil); err != nil {
				return err
			}
		}
		return inside()
	})
}

// openPod opens the namespace at path and a connection into it.
func openPod(path string) (*place, error) {
	p, err := findPod(path)
	if err != nil {
		return nil, err
	}
	if err := p.connect(func() error { return nil }); err != nil {
		_ = p.close()
		return nil, err
	}
	return p, nil
}

// ownsPair reports whether the link is the node's end of one of this client's pairs.
func (k *kernel) ownsPair(l *rtnl.Link) bool {
	t := parseTag(l.Alias)
	return l.Kind == "veth" && t.owner == k.tag && t.netns != ""
}

func (k *kernel) ownsBridge(l *rtnl.Link) bool {
	return l.Kind == "bridge" && parseTag(l.Alias).owner == k.owner
}

// foreign names the holder of a wanted name.
func foreign(l *rtnl.Link, path string) error {
	return &ForeignError{Name: l.Name, NetNS: path, Kind: l.Kind, Alias: l.Alias}
}

// bridgeIndex finds the bridge that a pair is to be a port of.
func (k *kernel) bridge(ctx context.Context, name string) (rtnl.Link, error) {
	l, err := k.node.conn.LinkByName(ctx, name)
	if err == nil && l.Kind != "bridge" {
		err = foreign(&l, "")
	}
	if err != nil {
		return l, &OpError{Op: "find", Object: "bridge " + name, Err: err}
	}
	return l, nil
}

func (k *kernel) mac(ctx context.Context, name string) (MAC, error) {
	l, err := k.node.conn.LinkByName(ctx, name)
	return MAC(l.MAC), err
}

func (k *kernel) attachments(ctx context.Context, owner string) ([]string, error) {
	links, err := k.node.conn.Links(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range links {
		t := parseTag(links[i].Alias)
		if a, ok := strings.CutPrefix(t.owner, owner+"/"); ok && t.netns != "" && links[i].Kind == "veth" {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// waitUp waits until a link carries packets: the kernel turns a carrier on in the background, and until then packets are dropped. Newer
// kernels do it when they are asked, so there is rarely anything to wait for. port says that the link is a port of a bridge that is up;
// it is enough that the bridge has taken it into service, as a bridge with STP has its own time to forward.
func (k *kernel) waitUp(ctx context.Context, name string, port bool) error {
	up := func(l *rtnl.Link) bool {
		const disabled = 0 // BR_STATE_DISABLED
		return carries(l) && (!port || l.Port != nil && value(l.Port.State) != disabled)
	}
	l, err := k.node.conn.LinkByName(ctx, name)
	if err != nil || up(&l) {
		return err
	}
	m, err := rtnl.Watch(k.node.ns, rtnl.LinkEvents)
	if err != nil {
		return err
	}
	defer m.Close()
	ctx, cancel := context.WithTimeout(ctx, rtnl.DefaultTimeout)
	defer cancel()
	_, err = k.node.conn.WaitLink(ctx, m, name, up)
	return err
}

// Operational states (RFC 2863, include/uapi/linux/if.h).
const (
	operUnknown = 0
	operUp      = 6
)

// carries reports whether a link carries packets. One that never was without a carrier, such as a bridge before its first port, has no
// state.
func carries(l *rtnl.Link) bool {
	return l.OperState == operUp || l.OperState == operUnknown && l.Flags&unix.IFF_LOWER_UP != 0 && l.Up()
}

func ptr[T any](v T) *T { return &v }
