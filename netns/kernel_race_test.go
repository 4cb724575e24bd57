//go:build linux

package netns_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
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

func init() {
	// In a mount namespace whose /run/netns is yet to be made, many creators at once,
	// ip among them, must not mount the directory on itself more than once.
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
		cmd := child("first-creators", env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}
