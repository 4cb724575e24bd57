package netns_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

func uniqueName(t *testing.T) string {
	return fmt.Sprintf("podplumb-%d-%s", os.Getpid(), t.Name())
}

func TestNamed(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	name := uniqueName(t)
	ns, err := netns.Create(name)
	require.NoError(t, err)
	names, err := netns.List()
	require.NoError(t, err)
	require.Contains(t, names, name)
	_, err = netns.Create(name)
	require.ErrorIs(t, err, fs.ErrExist)
	again, err := netns.OpenName(name)
	require.NoError(t, err)
	require.True(t, ns.Equal(again))
	require.NoError(t, again.Close())
	require.NoError(t, netns.Remove(name))
	require.ErrorIs(t, netns.Remove(name), fs.ErrNotExist)
	require.NoError(t, ns.Close())
	require.ErrorIs(t, ns.Close(), fs.ErrClosed)
	require.ErrorIs(t, ns.Do(func() error { return nil }), fs.ErrClosed)
}

func TestListen(t *testing.T) {
	ns := nstest.New(t)
	l, err := ns.Listen(context.Background(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	c, err := ns.DialContext(context.Background(), "tcp", l.Addr().String())
	require.NoError(t, err)
	require.NoError(t, c.Close())
	out := nstest.Run(t, ns, "ip", "-br", "link")
	require.Contains(t, out, "lo")
	v, err := ns.Sysctl("net.ipv4.ip_forward")
	require.NoError(t, err)
	require.Equal(t, "0", v)
}
