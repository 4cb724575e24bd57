//go:build linux

package netns_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
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
	byPath, err := netns.Open("/var/run/netns/" + name)
	require.NoError(t, err)
	require.True(t, byPath.Equal(ns))
	require.Equal(t, name, byPath.Name())
	require.NoError(t, errors.Join(again.Close(), byPath.Close()))

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
		out, err := exec.Command("ip", args...).CombinedOutput()
		require.NoError(t, err, "ip %s: %s", strings.Join(args, " "), out)
		return string(out)
	}

	ours := newName(t)
	ns, err := netns.Create(ours)
	require.NoError(t, err)
	require.Contains(t, strings.Fields(ip("netns", "list")), ours)
	require.Equal(t, idOf(t, ns), strings.TrimSpace(ip("netns", "exec", ours, "readlink", "/proc/self/ns/net")))
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
	require.Equal(t, idOf(t, ns), strings.TrimSpace(ip("netns", "exec", theirs, "readlink", "/proc/self/ns/net")))
	require.NoError(t, ns.Close())
	require.NoError(t, netns.Remove(theirs))
	require.NotContains(t, strings.Fields(ip("netns", "list")), theirs)
}

// Of many that create one name exactly one succeeds; a name that is listed can be opened.
func TestCreatorsRace(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	for range 5 {
		name := newName(t)
		stop := make(chan struct{})
		var watch, wg sync.WaitGroup
		watch.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if ns, err := netns.OpenName(name); err == nil {
					_ = ns.Close()
				} else if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("a half-made name is visible: %v", err)
				}
			}
		})
		made := make(chan *netns.NS, 64)
		for range 64 {
			wg.Go(func() {
				ns, err := netns.Create(name)
				switch {
				case err == nil:
					made <- ns
				case !errors.Is(err, fs.ErrExist):
					t.Errorf("a loser's error: %v", err)
				}
			})
		}
		wg.Wait()
		close(stop)
		watch.Wait()
		require.Len(t, made, 1)
		require.NoError(t, (<-made).Close())
		require.NoError(t, netns.Remove(name))
	}
}

func TestCreateRacesWithIP(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Require(t, nstest.Tool("ip"))
	nstest.Leaks(t)
	for range 20 {
		name := newName(t)
		theirs := exec.Command("ip", "netns", "add", name)
		require.NoError(t, theirs.Start())
		time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		ns, err := netns.Create(name)
		theirErr := theirs.Wait()
		if err == nil {
			require.Error(t, theirErr, "both made %s", name)
			require.NoError(t, ns.Close())
		} else {
			require.ErrorIs(t, err, fs.ErrExist)
			require.NoError(t, theirErr, "nobody made %s", name)
		}
		ns, err = netns.OpenName(name)
		require.NoError(t, err)
		require.NoError(t, ns.Close())
		require.NoError(t, netns.Remove(name))
	}
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
		cmd := child(t, "churn", "NAME="+name)
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
	nstest.Require(t, nstest.Tool("sleep"))
	nstest.Leaks(t)
	first, err := netns.Create(newName(t)) // makes the directory a shared mount
	require.NoError(t, err)
	defer func() { require.NoError(t, first.Close()) }()
	top := mounts(t, "/proc/self/mountinfo", netns.RunDir)
	require.NotEmpty(t, top)
	require.Contains(t, top[len(top)-1], " shared:")

	other := exec.Command("sleep", "60")
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

func init() {
	// In a mount namespace whose /run/netns is yet to be made, many creators at once, ip among
	// them, must not mount the directory on itself more than once.
	children["first-creators"] = func() error {
		if err := unix.Mount("", "/", "none", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
			return err
		}
		covered, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return err
		}
		onRunDir := func(info []byte) int { return strings.Count(string(info), " "+netns.RunDir+" ") }
		errs := make([]error, 40)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				if i%4 == 3 && os.Getenv("IP") != "" {
					if out, err := exec.Command("ip", "netns", "add", fmt.Sprint("n", i)).CombinedOutput(); err != nil {
						errs[i] = fmt.Errorf("%w: %s", err, out)
					}
					return
				}
				ns, err := netns.Create(fmt.Sprint("n", i))
				if err == nil {
					err = ns.Close()
				}
				errs[i] = err
			})
		}
		wg.Wait()
		names, err := netns.List()
		if err == nil && len(names) != len(errs) {
			err = fmt.Errorf("%d names, not %d", len(names), len(errs))
		}
		info, infoErr := os.ReadFile("/proc/self/mountinfo")
		if n := onRunDir(info) - onRunDir(covered); n != 1 {
			err = errors.Join(err, fmt.Errorf("%d mounts on %s", n, netns.RunDir))
		}
		return errors.Join(append(errs, err, infoErr)...)
	}
}

func TestFirstCreatorsRace(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	for range 3 {
		env := []string{}
		if nstest.Probe(nstest.Tool("ip")) == nil {
			env = append(env, "IP=yes")
		}
		cmd := child(t, "first-creators", env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}

// Without the right to mount nothing is left behind, and the error says what is missing.
func TestCreateWithoutPermission(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	name := newName(t)
	cmd := child(t, "create-unprivileged", "NAME="+name)
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
			func() error {
				ns, err := netns.Current()
				if err != nil {
					return err
				}
				defer func() { _ = ns.Close() }()
				return ns.Do(func() error { return nil })
			},
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
