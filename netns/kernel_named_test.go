//go:build linux

package netns_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

func TestCreateAndRemove(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	name, home := newName(t), here(t)
	ns, err := netns.Create(name)
	require.NoError(t, err)
	require.Equal(t, home, here(t))
	require.Equal(t, name, ns.Name())
	require.Equal(t, "/run/netns/"+name, ns.Path())
	require.Equal(t, name, ns.String())
	names, err := netns.List()
	require.NoError(t, err)
	require.Contains(t, names, name)

	again, err := netns.OpenName(name)
	require.NoError(t, err)
	require.True(t, again.Equal(ns))
	require.Equal(t, name, again.Name())
	require.NoError(t, again.Close())
	for _, path := range []string{"/run/netns/" + name, "/var/run/../run/netns/" + name, "/var/run/netns/" + name} {
		if _, err := os.Stat("/var/run/netns"); err != nil && strings.HasPrefix(path, "/var") {
			continue // not every system has the old path
		}
		byPath, err := netns.Open(path)
		require.NoError(t, err)
		require.True(t, byPath.Equal(ns))
		require.Equal(t, name, byPath.Name())
		require.NoError(t, byPath.Close())
	}

	taken, err := netns.Create(name)
	require.Nil(t, taken)
	require.ErrorIs(t, err, fs.ErrExist)
	require.ErrorContains(t, err, "create "+name+": the name is taken")
	require.Equal(t, home, here(t), "a refused Create must not move the caller")

	// Without the name the namespace lives on by its handle.
	require.NoError(t, netns.Remove(name))
	require.NoError(t, ns.Do(func() error { return nil }))
	err = netns.Remove(name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "nothing is left to remove")
	_, err = netns.OpenName(name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, ns.Close())
}

// What ip makes we open and remove, and the other way round.
func TestInteropWithIP(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Require(t, nstest.Tool("ip"))
	nstest.Leaks(t)
	ip := func(args ...string) string {
		cmd := exec.Command("ip", args...)
		cmd.Env = child("look").Env
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "ip %s: %s", strings.Join(args, " "), out)
		return string(out)
	}

	self, err := os.Executable()
	require.NoError(t, err)
	ours := newName(t)
	ns, err := netns.Create(ours)
	require.NoError(t, err)
	require.Contains(t, strings.Fields(ip("netns", "list")), ours)
	require.Contains(t, ip("netns", "exec", ours, self), "net "+idOf(t, ns)+"\n")
	inside := child("rest")
	require.NoError(t, ns.Start(inside))
	require.Equal(t, []string{strconv.Itoa(inside.Process.Pid)}, strings.Fields(ip("netns", "pids", ours)))
	require.Equal(t, ours, strings.TrimSpace(ip("netns", "identify", strconv.Itoa(inside.Process.Pid))))
	require.NoError(t, inside.Process.Kill())
	_ = inside.Wait()
	ip("-n", ours, "link", "add", "br7", "type", "bridge")
	require.Contains(t, nstest.Run(t, ns, "ip", "-br", "link"), "br7")
	out, err := exec.Command("ip", "netns", "add", ours).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "File exists")
	ip("netns", "del", ours)
	_, err = netns.OpenName(ours)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, ns.Close())

	theirs := newName(t)
	ip("netns", "add", theirs)
	_, err = netns.Create(theirs)
	require.ErrorIs(t, err, fs.ErrExist)
	names, err := netns.List()
	require.NoError(t, err)
	require.Contains(t, names, theirs)
	ns, err = netns.OpenName(theirs)
	require.NoError(t, err)
	require.Contains(t, ip("netns", "exec", theirs, self), "net "+idOf(t, ns)+"\n")
	require.NoError(t, ns.Close())
	require.NoError(t, netns.Remove(theirs))
	require.NotContains(t, strings.Fields(ip("netns", "list")), theirs)
}

// A file that a killed Create left behind is no name; one that ip left is in the way, and
// can be removed.
func TestHalfMadeNames(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	first, err := netns.Create(newName(t)) // makes the directory
	require.NoError(t, err)
	require.NoError(t, netns.Remove(first.Name()))
	require.NoError(t, first.Close())

	leave := func(mode uint32) string {
		name := newName(t)
		fd, err := unix.Open(filepath.Join(netns.RunDir, name), unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, mode)
		require.NoError(t, err)
		require.NoError(t, unix.Close(fd))
		names, err := netns.List()
		require.NoError(t, err)
		require.NotContains(t, names, name)
		return name
	}
	ours := leave(unix.S_ISVTX)
	_, err = netns.OpenName(ours)
	require.ErrorIs(t, err, fs.ErrNotExist)
	ns, err := netns.Create(ours)
	require.NoError(t, err)
	require.NoError(t, ns.Close())
	require.NoError(t, netns.Remove(ours))

	theirs := leave(0)
	_, err = netns.OpenName(theirs)
	require.ErrorIs(t, err, netns.ErrNotNamespace)
	_, err = netns.Create(theirs)
	require.ErrorIs(t, err, fs.ErrExist)
	require.NoError(t, netns.Remove(theirs))
	ns, err = netns.Create(theirs)
	require.NoError(t, err)
	require.NoError(t, ns.Close())
	require.NoError(t, netns.Remove(theirs))

	// What is no file is never removed.
	dir := filepath.Join(netns.RunDir, newName(t))
	require.NoError(t, os.Mkdir(dir, 0o700))
	require.Error(t, netns.Remove(filepath.Base(dir)))
	require.DirExists(t, dir)
	require.NoError(t, os.Remove(dir))
}

func init() {
	children["churn"] = func() error {
		name := os.Getenv("NAME")
		for {
			ns, err := netns.Create(name)
			if err != nil {
				return err
			}
			_ = ns.Close()
			if err := netns.Remove(name); err != nil {
				return err
			}
		}
	}
}

// A Create that is killed at any moment leaves a namespace or nothing.
func TestKilledCreate(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	for range 30 {
		name := newName(t)
		cmd := child("churn", "NAME="+name)
		var out bytes.Buffer
		cmd.Stderr = &out
		require.NoError(t, cmd.Start())
		time.Sleep(5*time.Millisecond + time.Duration(rand.IntN(20_000))*time.Microsecond)
		require.NoError(t, cmd.Process.Kill())
		_ = cmd.Wait()
		require.Empty(t, out.String())

		ns, err := netns.OpenName(name)
		if err == nil {
			require.NoError(t, ns.Close())
			require.NoError(t, netns.Remove(name))
		} else {
			require.True(t, errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNotNamespace), "%v", err)
			_ = netns.Remove(name)
		}
		ns, err = netns.Create(name)
		require.NoError(t, err)
		require.NoError(t, ns.Close())
		require.NoError(t, netns.Remove(name))
	}
}

// A namespace of another kind under a name is no network namespace.
func TestOtherKinds(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns, err := netns.Create(newName(t))
	require.NoError(t, err)
	require.NoError(t, ns.Close())
	require.NoError(t, netns.Remove(ns.Name()))
	name := newName(t)
	path := filepath.Join(netns.RunDir, name)
	require.NoError(t, os.WriteFile(path, nil, 0o444))
	require.NoError(t, unix.Mount("/proc/self/ns/uts", path, "", unix.MS_BIND, ""))
	names, err := netns.List()
	require.NoError(t, err)
	require.NotContains(t, names, name)
	_, err = netns.OpenName(name)
	require.ErrorIs(t, err, netns.ErrNotNamespace)
	require.NoError(t, netns.Remove(name))
}
