package nat_test

import (
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

// TestOwn: a table without an owner is taken over, and Clients that share a socket own it in turn, as long as the socket is open.
func TestOwn(t *testing.T) {
	nstest.Require(t, nstest.NFTOwner)
	ns := nstest.New(t)
	var socket *os.File
	require.NoError(t, ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err == nil {
			socket = os.NewFile(uintptr(fd), "shared")
			err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		}
		return err
	}))
	defer socket.Close()
	open := func(c nat.Config) *nat.Client {
		t.Helper()
		c.NetNS = ns
		client, err := nat.New(c)
		require.NoError(t, err)
		t.Cleanup(func() { client.Close() })
		return client
	}
	network := func(s string) nat.Change {
		return nat.Change{SetNetworks: []nat.Network{{Prefix: netip.MustParsePrefix(s)}}}
	}
	shared := open(nat.Config{Socket: socket})
	require.NoError(t, shared.Own(t.Context()), "there is no table")
	first := open(nat.Config{})
	_, err := first.Update(t.Context(), network("10.1.0.0/16"))
	require.NoError(t, err)
	require.False(t, remove(t, ns))
	require.ErrorIs(t, shared.Own(t.Context()), fs.ErrPermission)
	require.NoError(t, first.Close())
	require.NoError(t, shared.Own(t.Context()))
	require.NoError(t, shared.Own(t.Context()), "it is the owner")
	require.NoError(t, shared.Close())
	require.False(t, remove(t, ns), "the socket is open")

	for _, net := range []string{"10.2.0.0/16", "fd02::/64"} {
		c := open(nat.Config{Socket: socket})
		_, err := c.Update(t.Context(), network(net))
		require.NoError(t, err)
		require.NoError(t, c.Close())
		require.False(t, remove(t, ns))
	}
	c := open(nat.Config{Socket: socket})
	have, err := c.Read(t.Context())
	require.NoError(t, err)
	require.Len(t, have.Networks, 3)
	_, err = nat.New(nat.Config{NetNS: ns, Socket: os.Stdin})
	require.Error(t, err, "that is no netlink socket")
	require.NoError(t, c.Close())
	require.NoError(t, socket.Close())
	require.True(t, remove(t, ns), "nobody owns it")
}

// remove has an outsider delete the table, and says whether it could.
func remove(t *testing.T, ns interface{ Start(*exec.Cmd) error }) bool {
	t.Helper()
	cmd := exec.Command("nft", "delete", "table", "inet", nat.DefaultTable)
	require.NoError(t, ns.Start(cmd))
	return cmd.Wait() == nil
}
