//go:build linux

package netns_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

var nameCount atomic.Int64

// newName returns a name that no other test or process uses.
func newName(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("podplumb-test-%d-%d", os.Getpid(), nameCount.Add(1))
	t.Cleanup(func() { _ = netns.Remove(name) })
	return name
}

// here returns the namespace of the calling thread.
func here(t testing.TB) string {
	t.Helper()
	link, err := os.Readlink("/proc/thread-self/ns/net")
	require.NoError(t, err)
	return link
}

func idOf(t testing.TB, ns *netns.NS) string {
	t.Helper()
	id, err := ns.ID()
	require.NoError(t, err)
	return id.String()
}

func TestHandle(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	home := here(t)
	ns, err := netns.New()
	require.NoError(t, err)
	require.Equal(t, home, here(t), "New must not move the caller")
	require.NotEqual(t, home, idOf(t, ns))
	require.Empty(t, ns.Path())
	require.Empty(t, ns.Name())
	require.Equal(t, idOf(t, ns), ns.String())
	require.Positive(t, ns.Fd())

	current, err := netns.Current()
	require.NoError(t, err)
	require.Equal(t, home, idOf(t, current))
	require.False(t, ns.Equal(current))
	require.NoError(t, ns.Do(func() error {
		inside, err := netns.Current()
		require.NoError(t, err)
		require.True(t, ns.Equal(inside))
		return inside.Close()
	}))

	self, err := netns.OpenPID(os.Getpid())
	require.NoError(t, err)
	require.True(t, self.Equal(current))
	require.Equal(t, fmt.Sprintf("/proc/%d/ns/net", os.Getpid()), self.Path())
	require.NoError(t, self.Close())
	require.NoError(t, current.Close())

	// By the path of a descriptor the same namespace is found again.
	again, err := netns.Open(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()))
	require.NoError(t, err)
	require.True(t, again.Equal(ns))
	require.NoError(t, again.Close())
	require.False(t, again.Equal(ns), "a closed handle equals nothing")
	require.NoError(t, ns.Close())
}

func TestClosedHandle(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns, err := netns.New()
	require.NoError(t, err)
	open := nstest.New(t)
	require.NoError(t, ns.Close())
	ctx := t.Context()
	_, idErr := ns.ID()
	_, readErr := ns.Sysctl("net.ipv4.ip_forward")
	_, dialErr := ns.DialContext(ctx, "tcp", "127.0.0.1:1")
	_, nameErr := ns.DialContext(ctx, "tcp", "localhost:1")
	_, listenErr := ns.Listen(ctx, "tcp", "127.0.0.1:0")
	_, packetErr := ns.ListenPacket(ctx, "udp", "[::1]:0")
	_, nsidErr := ns.NSID(ctx, open)
	_, peerErr := open.NSID(ctx, ns)
	_, assignErr := open.AssignNSID(ctx, ns, -1)
	for i, err := range []error{
		ns.Close(), ns.Do(func() error { t.Error("fn ran"); return nil }), ns.Pin(filepath.Join(t.TempDir(), "pin")),
		ns.Start(child("nothing")), ns.StartMounted(child("nothing")),
		ns.SetSysctl("net.ipv4.ip_forward", "1"),
		idErr, readErr, dialErr, nameErr, listenErr, packetErr, nsidErr, peerErr, assignErr,
	} {
		require.ErrorIs(t, err, fs.ErrClosed, "error %d", i)
		require.ErrorContains(t, err, "open the namespace again")
	}
	require.Equal(t, -1, ns.Fd())
	require.Error(t, ns.Close())
}

// Every fault has its own error, which says what to do.
func TestOpenErrors(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	dir := t.TempDir()
	file, fifo, sock := filepath.Join(dir, "file"), filepath.Join(dir, "fifo"), filepath.Join(dir, "sock")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	l, err := net.Listen("unix", sock)
	require.NoError(t, err)
	defer func() { _ = l.Close() }()

	gone := child("nothing")
	require.NoError(t, gone.Run())

	for _, c := range []struct {
		open func() (*netns.NS, error)
		is   error
		says []string
	}{
		{func() (*netns.NS, error) { return netns.Open("") }, fs.ErrInvalid, []string{"empty"}},
		{func() (*netns.NS, error) { return netns.Open(dir + "/none") }, fs.ErrNotExist, []string{"open " + dir + "/none", "vanished"}},
		{func() (*netns.NS, error) { return netns.Open(file + "/below") }, fs.ErrNotExist, []string{"vanished"}},
		{func() (*netns.NS, error) { return netns.Open(file) }, netns.ErrNotNamespace, []string{"a regular file", "give the path"}},
		{func() (*netns.NS, error) { return netns.Open(dir) }, netns.ErrNotNamespace, []string{"a directory"}},
		{func() (*netns.NS, error) { return netns.Open(fifo) }, netns.ErrNotNamespace, []string{"a FIFO"}},
		{func() (*netns.NS, error) { return netns.Open(sock) }, netns.ErrNotNamespace, []string{"a socket"}},
		{func() (*netns.NS, error) { return netns.Open("/dev/null") }, netns.ErrNotNamespace, []string{"a device"}},
		{func() (*netns.NS, error) { return netns.Open("/proc/self/ns/mnt") }, netns.ErrNotNamespace, []string{"a mount namespace"}},
		{func() (*netns.NS, error) { return netns.Open("/proc/self/ns/user") }, netns.ErrNotNamespace, []string{"a user namespace"}},
		{func() (*netns.NS, error) { return netns.Open("/proc/self/ns/pid") }, netns.ErrNotNamespace, []string{"a PID namespace"}},
		{func() (*netns.NS, error) { return netns.Open("/proc/self/ns/uts") }, netns.ErrNotNamespace, []string{"a UTS namespace"}},
		{func() (*netns.NS, error) { return netns.OpenPID(0) }, fs.ErrInvalid, []string{"positive"}},
		{func() (*netns.NS, error) { return netns.OpenPID(-1) }, fs.ErrInvalid, []string{"positive"}},
		{func() (*netns.NS, error) { return netns.OpenPID(gone.Process.Pid) }, fs.ErrNotExist, []string{"whether the process still runs"}},
		{func() (*netns.NS, error) { return netns.OpenName("podplumb-none") }, fs.ErrNotExist, []string{"open podplumb-none", "see List"}},
	} {
		ns, err := c.open()
		require.Nil(t, ns)
		require.ErrorIs(t, err, c.is)
		var op *netns.OpError
		require.ErrorAs(t, err, &op)
		require.Equal(t, "open", op.Op)
		require.True(t, strings.HasPrefix(err.Error(), "netns: open "), err.Error())
		for _, say := range c.says {
			require.ErrorContains(t, err, say)
		}
		var not *netns.NotNamespaceError
		require.Equal(t, c.is == netns.ErrNotNamespace, errors.As(err, &not))
	}
}

// A zombie's namespace is gone, though its directory in /proc is not.
func TestOpenZombie(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	cmd := child("nothing")
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Wait() }()
	path := fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid)
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(stat), ") Z ")
	}, waitFor, tick)
	_, err := netns.OpenPID(cmd.Process.Pid)
	require.ErrorIs(t, err, fs.ErrNotExist)
}
