//go:build linux

package netns_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

func TestStart(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	home := here(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			var out bytes.Buffer
			cmd := child("look")
			cmd.Stdout = &out
			if err := ns.Start(cmd); err != nil {
				t.Error(err)
				return
			}
			if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "net "+ns.String()+"\n") {
				t.Errorf("%v, in %s", err, out.String())
			}
		})
	}
	wg.Wait()
	require.Equal(t, home, here(t))

	// A running process can be found by its number.
	cmd := child("rest")
	require.NoError(t, ns.Start(cmd))
	inside, err := netns.OpenPID(cmd.Process.Pid)
	require.NoError(t, err)
	require.True(t, inside.Equal(ns))
	require.NoError(t, inside.Close())
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	_, err = netns.OpenPID(cmd.Process.Pid)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestStartErrors(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	err := ns.Start(exec.Command("podplumb-no-such-program"))
	require.ErrorIs(t, err, exec.ErrNotFound)
	require.ErrorContains(t, err, "netns: start podplumb-no-such-program: ")
	require.ErrorIs(t, ns.Start(nil), fs.ErrInvalid)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.ErrorIs(t, ns.Start(exec.Command(file)), fs.ErrPermission)
	cmd := child("nothing")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	require.ErrorIs(t, ns.Start(cmd), fs.ErrInvalid)
	require.Nil(t, cmd.Process)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cmd = exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = child("nothing").Env
	require.ErrorIs(t, ns.Start(cmd), context.Canceled)
}

// A process with a death signal outlives the thread that started it, as long as this
// process lives.
func TestStartWithDeathSignal(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	for _, start := range []func(*exec.Cmd) error{ns.Start, ns.StartMounted} {
		cmd := child("rest")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		require.NoError(t, start(cmd))
		// Many threads die; the one that counts must not be among them.
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { runtime.LockOSThread(); time.Sleep(5 * time.Millisecond) })
		}
		wg.Wait()
		time.Sleep(20 * time.Millisecond)
		require.NoError(t, cmd.Process.Signal(syscall.Signal(0)), "the process died with a thread")
		require.NoError(t, cmd.Process.Kill())
		require.Error(t, cmd.Wait())
	}
}

func init() {
	// A parent that starts a process and is then killed.
	children["parent"] = func() error {
		ns, err := netns.New()
		if err != nil {
			return err
		}
		cmd := child("rest")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := ns.Start(cmd); err != nil {
			return err
		}
		fmt.Println(cmd.Process.Pid)
		return cmd.Wait()
	}
}

func TestDeathSignalOfParent(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	parent := child("parent")
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	var pid int
	_, err = fmt.Fscan(out, &pid)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, 0))
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, waitFor, tick, "the process outlives its parent")
}

// As under `ip netns exec`, /sys shows the namespace's links; here it does not change.
func TestStartMounted(t *testing.T) {
	nstest.Require(t, nstest.Veth)
	nstest.Leaks(t)
	a, _ := nstest.Pair(t)
	home, mnt := here(t), readlink(t, "/proc/thread-self/ns/mnt")
	run := func(start func(*exec.Cmd) error) string {
		var out bytes.Buffer
		cmd := child("look")
		cmd.Stdout, cmd.Stderr = &out, &out
		require.NoError(t, start(cmd))
		require.NoError(t, cmd.Wait(), out.String())
		return out.String()
	}
	mounted := run(a.NS.StartMounted)
	require.Contains(t, mounted, "net "+a.NS.String()+"\n")
	require.Contains(t, mounted, "link eth0\n")
	require.NotContains(t, mounted, "mnt "+mnt+"\n")
	plain := run(a.NS.Start)
	require.Contains(t, plain, "net "+a.NS.String()+"\n")
	require.Contains(t, plain, "mnt "+mnt+"\n")
	require.Equal(t, home, here(t))
	require.Equal(t, mnt, readlink(t, "/proc/thread-self/ns/mnt"))
}

// Files of /etc/netns/NAME lie over those of /etc.
func TestStartMountedOverEtc(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	name := newName(t)
	ns, err := netns.Create(name)
	require.NoError(t, err)
	defer func() { _ = netns.Remove(name); _ = ns.Close() }()
	privateEtc(t, map[string]string{
		"netns/" + name + "/hosts":                  "192.0.2.1 only-here\n",
		"netns/" + name + "/podplumb-nothing-below": "",
	})
	var out bytes.Buffer
	cmd := child("look")
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, ns.StartMounted(cmd))
	require.NoError(t, cmd.Wait())
	require.Contains(t, out.String(), `hosts "192.0.2.1 only-here\n"`)
	hosts, err := os.ReadFile("/etc/hosts")
	require.NoError(t, err)
	require.NotContains(t, string(hosts), "only-here")
}

// privateEtc covers /etc, in the mount namespace of the tests, by files of the test's
// own, and copies of what package net reads and remembers for a while.
func privateEtc(t *testing.T, files map[string]string) {
	t.Helper()
	for _, name := range []string{"hosts", "resolv.conf", "nsswitch.conf"} {
		if text, err := os.ReadFile(filepath.Join("/etc", name)); err == nil {
			files[name] += string(text)
		}
	}
	require.NoError(t, unix.Mount("tmpfs", "/etc", "tmpfs", 0, "mode=755"))
	t.Cleanup(func() { require.NoError(t, unix.Unmount("/etc", unix.MNT_DETACH)) })
	for path, text := range files {
		path = filepath.Join("/etc", path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
}

func readlink(t testing.TB, path string) string {
	t.Helper()
	link, err := os.Readlink(path)
	require.NoError(t, err)
	return link
}
