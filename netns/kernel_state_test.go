//go:build linux

package netns_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

func TestSysctl(t *testing.T) {
	nstest.Require(t, nstest.Veth)
	nstest.Leaks(t)
	a, b := nstest.Pair(t)
	for _, key := range []string{"net.ipv4.ip_forward", "net/ipv6/conf/all/forwarding", "net.ipv4.conf.eth0.rp_filter"} {
		outside, outsideErr := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
		for _, want := range []string{"1", "0", "1"} {
			require.NoError(t, a.NS.SetSysctl(key, want))
			got, err := a.NS.Sysctl(key)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		other, err := b.NS.Sysctl(key)
		require.NoError(t, err)
		require.Equal(t, "0", other, "%s of another namespace", key)
		again, againErr := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
		require.Equal(t, outside, again, "%s of the caller's namespace", key)
		require.Equal(t, outsideErr == nil, againErr == nil)
	}
	// A link whose name holds a dot.
	nstest.AddBridge(t, a.NS, "br0.7")
	for _, key := range []string{"net.ipv4.conf.br0/7.forwarding", "net/ipv4/conf/br0.7/forwarding"} {
		require.NoError(t, a.NS.SetSysctl(key, "0"))
		got, err := a.NS.Sysctl(key)
		require.NoError(t, err)
		require.Equal(t, "0", got)
	}
	// Values of several words, and of several lines, come as they are.
	ports, err := a.NS.Sysctl("net.ipv4.ip_local_port_range")
	require.NoError(t, err)
	require.Equal(t, []string{"32768", "60999"}, strings.Fields(ports))

	for key, is := range map[string]error{
		"net.ipv4.no_such_setting":      fs.ErrNotExist,
		"net.ipv4.conf.eth9.forwarding": fs.ErrNotExist,
		"kernel.hostname":               fs.ErrInvalid,
		"net.ipv4.../../kernel":         fs.ErrInvalid,
	} {
		_, err := a.NS.Sysctl(key)
		require.ErrorIs(t, err, is)
		require.ErrorContains(t, err, "netns: read sysctl "+key+": ")
		require.ErrorIs(t, a.NS.SetSysctl(key, "1"), is)
	}
	err = a.NS.SetSysctl("net.ipv4.ip_forward", "no number")
	require.ErrorIs(t, err, unix.EINVAL)
	require.ErrorContains(t, err, `does not take the value "no number"`)
	_, err = a.NS.Sysctl("net.ipv4.conf")
	require.ErrorIs(t, err, unix.EISDIR)
}

// 64 goroutines set what only their namespace sees.
func TestSysctlConcurrently(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	spaces := []*netns.NS{nstest.New(t), nstest.New(t), nstest.New(t), nstest.New(t)}
	for i, ns := range spaces {
		require.NoError(t, ns.SetSysctl("net.ipv4.ip_default_ttl", fmt.Sprint(100+i)))
	}
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for r := range 10 {
				i := (g + r) % len(spaces)
				got, err := spaces[i].Sysctl("net.ipv4.ip_default_ttl")
				if err != nil || got != fmt.Sprint(100+i) {
					t.Errorf("namespace %d: %q %v", i, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestNSID(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	a, b, c := nstest.New(t), nstest.New(t), nstest.New(t)
	_, err := a.NSID(t.Context(), b)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "AssignNSID")
	id, err := a.AssignNSID(t.Context(), b, 17)
	require.NoError(t, err)
	require.Equal(t, 17, id)
	id, err = a.NSID(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, 17, id)
	_, err = b.NSID(t.Context(), a)
	require.ErrorIs(t, err, fs.ErrNotExist, "the number has a direction")

	_, err = a.AssignNSID(t.Context(), b, 18)
	require.ErrorIs(t, err, fs.ErrExist, "b has one")
	_, err = a.AssignNSID(t.Context(), c, 17)
	require.ErrorIs(t, err, fs.ErrExist, "17 is b")
	chosen, err := a.AssignNSID(t.Context(), c, -1)
	require.NoError(t, err)
	require.NotEqual(t, 17, chosen)
	require.GreaterOrEqual(t, chosen, 0)
	_, err = a.AssignNSID(t.Context(), c, 1<<40)
	require.ErrorIs(t, err, fs.ErrInvalid)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.NSID(ctx, b)
	require.ErrorIs(t, err, context.Canceled)
	ctx, cancel = context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	_, err = a.NSID(ctx, b)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// The kernel names the peer of a veth pair by the same number that ip shows.
func TestNSIDAgreesWithIP(t *testing.T) {
	nstest.Require(t, nstest.Veth)
	nstest.Require(t, nstest.Tool("ip"))
	a, b := nstest.Pair(t)
	id, err := a.NS.NSID(t.Context(), b.NS) // the pair has made the kernel assign one
	require.NoError(t, err)
	require.Contains(t, nstest.Run(t, a.NS, "ip", "-o", "link", "show", a.Link), fmt.Sprintf("link-netnsid %d", id))
	require.Contains(t, nstest.Run(t, a.NS, "ip", "netns", "list-id"), fmt.Sprintf("nsid %d", id))
}

// A pinned namespace outlives all that was in it, with its state.
func TestPin(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	dir := t.TempDir()
	pin := filepath.Join(dir, "pin")
	ns, err := netns.New()
	require.NoError(t, err)
	id := idOf(t, ns)
	require.NoError(t, ns.SetSysctl("net.ipv4.ip_default_ttl", "77"))
	require.NoError(t, ns.Pin(pin))
	cmd := child("rest")
	require.NoError(t, ns.Start(cmd))
	require.NoError(t, ns.Close())
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()

	again, err := netns.Open(pin)
	require.NoError(t, err)
	require.Equal(t, pin, again.Path())
	require.Empty(t, again.Name())
	require.Equal(t, id, idOf(t, again))
	ttl, err := again.Sysctl("net.ipv4.ip_default_ttl")
	require.NoError(t, err)
	require.Equal(t, "77", ttl)

	require.ErrorIs(t, again.Pin(pin), fs.ErrExist)
	require.ErrorIs(t, again.Pin("relative"), fs.ErrInvalid)
	require.ErrorIs(t, again.Pin(filepath.Join(dir, "none", "pin")), fs.ErrNotExist)
	second := filepath.Join(dir, "second")
	require.NoError(t, again.Pin(second))
	require.NoError(t, netns.Unpin(second))
	require.NoFileExists(t, second)
	require.NoError(t, netns.Unpin(pin))
	require.NoFileExists(t, pin)
	require.ErrorIs(t, netns.Unpin(pin), fs.ErrNotExist)
	require.NoError(t, again.Close())

	// What is no namespace is left alone.
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	require.ErrorIs(t, netns.Unpin(file), netns.ErrNotNamespace)
	require.ErrorIs(t, netns.Unpin("/proc/self/ns/mnt"), netns.ErrNotNamespace)
	require.ErrorIs(t, netns.Unpin("relative"), fs.ErrInvalid)
	require.FileExists(t, file)
}

// A pin under /run/netns is a name.
func TestPinAsName(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	name := newName(t)
	require.NoError(t, ns.Pin(filepath.Join(netns.RunDir, name)))
	named, err := netns.OpenName(name)
	require.NoError(t, err)
	require.True(t, named.Equal(ns))
	require.NoError(t, named.Close())
	require.ErrorIs(t, ns.Pin(filepath.Join(netns.RunDir, name)), fs.ErrExist)
	require.NoError(t, netns.Unpin(filepath.Join(netns.RunDir, name)))
	_, err = netns.OpenName(name)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// With its last holder the namespace goes: the kernel removes the other end of its veth
// pair.
func TestNamespaceDies(t *testing.T) {
	nstest.Require(t, nstest.Veth)
	nstest.Leaks(t)
	a := nstest.New(t)
	b, err := netns.New()
	require.NoError(t, err)
	nstest.Join(t, a, "eth0", b, "eth0")
	require.NoError(t, b.Close())
	require.Eventually(t, func() bool {
		_, err := a.Sysctl("net.ipv4.conf.eth0.forwarding")
		return err != nil
	}, waitFor, tick)
}
