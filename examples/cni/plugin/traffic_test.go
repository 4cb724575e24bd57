package plugin_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

// Addresses of the link between a node and the world outside.
const (
	node4, node6       = "192.0.2.1", "2001:db8:ff::1"
	outside4, outside6 = "192.0.2.2", "2001:db8:ff::2"
)

// outside gives the node a link to a namespace that knows nothing of its pods.
func (n *node) outside(t testing.TB) *netns.NS {
	t.Helper()
	world, err := netns.New()
	require.NoError(t, err)
	t.Cleanup(func() { world.Close() })
	require.NoError(t, world.LoopbackUp())
	path := filepath.Join(n.dir, "outside")
	require.NoError(t, world.Pin(path))
	t.Cleanup(func() { _ = netns.Unpin(path) })
	links, err := veth.New(veth.Config{NetNS: n.ns, Owner: "test"})
	require.NoError(t, err)
	defer links.Close()
	prefix := netip.MustParsePrefix
	_, err = links.Sync(t.Context(), veth.State{Pairs: []veth.Pair{{
		Host: veth.Host{Name: "uplink", Addresses: []netip.Prefix{prefix(node4 + "/24"), prefix(node6 + "/64")}},
		Pod:  veth.Pod{NetNS: path, Name: "eth0", Addresses: []netip.Prefix{prefix(outside4 + "/24"), prefix(outside6 + "/64")}},
	}}})
	require.NoError(t, err)
	return world
}

// serve answers each TCP connection with the address that it comes from.
func serve(t testing.TB, ns *netns.NS, address string) {
	t.Helper()
	l, err := ns.Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprint(c, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
			}()
		}
	}()
}

// ask connects and returns the address that the server saw.
func ask(t testing.TB, from *netns.NS, address string) string {
	t.Helper()
	seen, err := tryAsk(t.Context(), from, address, 20*time.Second)
	require.NoError(t, err)
	return seen
}

func tryAsk(ctx context.Context, from *netns.NS, address string, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := from.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	b, err := io.ReadAll(c)
	return string(b), err
}

// on is an address with a port.
func on(addr string, port int) string {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port)).String()
}
