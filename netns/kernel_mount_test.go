//go:build linux

package netns_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

// mounts returns the lines of a mountinfo (proc(5)) whose mount point is path.
func mounts(t testing.TB, mountinfo, path string) []string {
	t.Helper()
	all, err := os.ReadFile(mountinfo)
	require.NoError(t, err)
	var found []string
	for line := range strings.Lines(string(all)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == path {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// A name reaches the mount namespaces that were made from ours, and so does its removal.
func TestMountPropagation(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	first, err := netns.Create(newName(t)) // makes the directory a shared mount
	require.NoError(t, err)
	defer func() { require.NoError(t, first.Close()) }()
	top := mounts(t, "/proc/self/mountinfo", netns.RunDir)
	require.NotEmpty(t, top)
	require.Contains(t, top[len(top)-1], " shared:")

	other := child("rest")
	other.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	require.NoError(t, other.Start())
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	theirs := fmt.Sprintf("/proc/%d/mountinfo", other.Process.Pid)
	require.Len(t, mounts(t, theirs, first.Path()), 1, "inherited")

	second, err := netns.Create(newName(t))
	require.NoError(t, err)
	require.Len(t, mounts(t, theirs, second.Path()), 1, "propagated")
	require.NoError(t, netns.Remove(second.Name()))
	require.Empty(t, mounts(t, theirs, second.Path()), "the unmount propagates")
	require.NoError(t, second.Close())
	require.NoError(t, netns.Remove(first.Name()))
	require.Empty(t, mounts(t, theirs, first.Path()))
}

// Without the right to mount nothing is left behind, and the error says what is missing.
func TestCreateWithoutPermission(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	name := newName(t)
	cmd := child("create-unprivileged", "NAME="+name)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "CAP_SYS_ADMIN")
	require.NoFileExists(t, filepath.Join(netns.RunDir, name))
}

func init() {
	// A program that root executes has what is in the bounding set.
	children["create-unprivileged"] = func() error {
		runtime.LockOSThread()
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0); err != nil {
			return err
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		if err := os.Setenv(envChild, "unprivileged"); err != nil {
			return err
		}
		return syscall.Exec(self, []string{self}, os.Environ())
	}
	children["unprivileged"] = func() error {
		for _, try := range []func() error{
			func() error { _, err := netns.New(); return err },
			func() error { _, err := netns.Create(os.Getenv("NAME")); return err },
		} {
			err := try()
			if !errors.Is(err, fs.ErrPermission) {
				return fmt.Errorf("want a permission error, not %v", err)
			}
			fmt.Println(err)
		}
		return nil
	}
}

func init() {
	children["open-init"] = func() error {
		// Who is root in the first user namespace becomes somebody; in another one root
		// is nobody already.
		if err := syscall.Setgroups(nil); err == nil {
			if err := syscall.Setuid(65534); err != nil {
				return err
			}
		}
		_, err := netns.OpenPID(1)
		if !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("want a permission error, not %v", err)
		}
		fmt.Println(err)
		return nil
	}
}

// The namespace of somebody else's process is out of reach.
func TestOpenWithoutPermission(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	out, err := child("open-init").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "netns: open pid 1: the caller may not look at it (run as root, or as the owner of the process): permission denied")
}
