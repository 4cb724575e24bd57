//go:build linux

package netns_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

const (
	waitFor = 15 * time.Second
	tick    = time.Millisecond
)

func TestDoReturns(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	home := here(t)

	var inside string
	require.NoError(t, ns.Do(func() error { inside = here(t); return nil }))
	require.Equal(t, idOf(t, ns), inside)
	require.Equal(t, home, here(t))

	// The caller's error comes back as it is.
	mine := errors.New("mine")
	require.Equal(t, mine, ns.Do(func() error { return mine }))
	require.Equal(t, home, here(t))
}

func TestDoPanics(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	home := here(t)
	require.PanicsWithValue(t, "boom", func() { _ = ns.Do(func() error { panic("boom") }) })
	require.Equal(t, home, here(t))
	var nilPanic *runtime.PanicNilError
	func() {
		defer func() { require.ErrorAs(t, recover().(error), &nilPanic) }()
		_ = ns.Do(func() error { panic(nil) })
	}()
	require.Equal(t, home, here(t))
}

func TestDoGoexits(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	done := make(chan string)
	go func() {
		defer func() { done <- here(t) }()
		_ = ns.Do(func() error { runtime.Goexit(); return nil })
		t.Error("the caller went on after Goexit")
	}()
	require.Equal(t, here(t), <-done)
}

// A test that fails inside Do ends, as outside.
func TestDoSkips(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	ns := nstest.New(t)
	var skipped, after bool
	t.Run("inner", func(t *testing.T) {
		defer func() { skipped = t.Skipped() }()
		_ = ns.Do(func() error { t.SkipNow(); return nil })
		after = true
	})
	require.True(t, skipped)
	require.False(t, after)
}

func TestDoNests(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	a, b := nstest.New(t), nstest.New(t)
	home := here(t)
	require.NoError(t, a.Do(func() error {
		require.Equal(t, idOf(t, a), here(t))
		err := b.Do(func() error {
			require.Equal(t, idOf(t, b), here(t))
			return a.Do(func() error { require.Equal(t, idOf(t, a), here(t)); return nil })
		})
		require.Equal(t, idOf(t, a), here(t))
		require.PanicsWithValue(t, 7, func() { _ = b.Do(func() error { panic(7) }) })
		require.Equal(t, idOf(t, a), here(t))
		inner, newErr := netns.New()
		require.NoError(t, newErr)
		require.Equal(t, idOf(t, a), here(t), "New inside Do must not move the thread")
		return errors.Join(err, inner.Close())
	}))
	require.Equal(t, home, here(t))
}

// Closing the handle does not disturb a Do that runs.
func TestDoWhileClosed(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns, err := netns.New()
	require.NoError(t, err)
	id := idOf(t, ns)
	require.NoError(t, ns.Do(func() error {
		require.NoError(t, ns.Close())
		require.Equal(t, id, here(t))
		return nil
	}))
	require.ErrorIs(t, ns.Do(func() error { return nil }), fs.ErrClosed)
}

// dropAdmin takes CAP_SYS_ADMIN from the calling thread, for good.
func dropAdmin() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	bit := uint32(1) << unix.CAP_SYS_ADMIN
	data[0].Effective &^= bit
	data[0].Permitted &^= bit
	return unix.Capset(&header, &data[0])
}

// A thread that cannot go home is destroyed; the caller is told and stays at home.
func TestDoThrowsLostThreadAway(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	home := here(t)
	mine := errors.New("mine")
	for range 10 {
		var tid int
		err := ns.Do(func() error {
			tid = unix.Gettid()
			return errors.Join(mine, dropAdmin())
		})
		require.ErrorIs(t, err, mine)
		require.ErrorIs(t, err, fs.ErrPermission)
		require.ErrorContains(t, err, "thrown away")
		require.Equal(t, home, here(t))
		require.NotEqual(t, os.Getpid(), tid)
		require.Eventually(t, func() bool {
			_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
			return errors.Is(err, fs.ErrNotExist)
		}, waitFor, tick, "the thread still lives")
	}
	// With a panic on top the panic is what counts.
	require.PanicsWithValue(t, "boom", func() {
		_ = ns.Do(func() error { _ = dropAdmin(); panic("boom") })
	})
}

// The function may lock its thread and forget about it.
func TestDoWithForgottenLock(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	for range 20 {
		require.NoError(t, ns.Do(func() error { runtime.LockOSThread(); return nil }))
	}
}

// Threads, descriptors and namespaces are as before, whatever 64 goroutines do.
func TestDoFromManyGoroutines(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	const goroutines = 64
	spaces := make([]*netns.NS, 4)
	for i := range spaces {
		spaces[i] = nstest.New(t)
	}
	home := here(t)
	work := func() {
		faults := make(chan string, 4*goroutines)
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() { roam(spaces, g, home, func(fault string) { faults <- fault }) })
		}
		wg.Wait()
		close(faults)
		for fault := range faults {
			t.Error(fault)
		}
	}
	// The runtime keeps the threads of one round for the next: at most one for each of
	// the two visits that a goroutine makes at a time.
	before := threads(t)
	work()
	nstest.Leaks(t)
	for range 5 {
		work()
	}
	require.LessOrEqual(t, threads(t), before+2*goroutines+16)
}

// roam uses every way in and out of the namespaces.
func roam(spaces []*netns.NS, g int, home string, fault func(string)) {
	check := func(what, want string) {
		if got, _ := os.Readlink("/proc/thread-self/ns/net"); got != want {
			fault(fmt.Sprintf("%s: in %s, not in %s", what, got, want))
		}
	}
	for r := range 8 {
		a, b := spaces[(g+r)%len(spaces)], spaces[(g+2*r+1)%len(spaces)]
		func() {
			defer func() { _ = recover() }()
			_ = a.Do(func() error {
				check("Do", a.String())
				_ = b.Do(func() error { check("inner Do", b.String()); runtime.Gosched(); return nil })
				check("after the inner Do", a.String())
				if r%4 == 0 {
					panic("now and then")
				}
				return nil
			})
		}()
		check("after Do", home)
	}
	ns, err := netns.New()
	if err != nil {
		fault(err.Error())
		return
	}
	check("after New", home)
	if err := ns.Close(); err != nil {
		fault(err.Error())
	}
}

func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	return len(tasks)
}

// The main thread stands for the process in /proc: it never enters a namespace.
func TestMainThreadStays(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	for range 500 {
		require.NoError(t, ns.Do(func() error {
			require.NotEqual(t, os.Getpid(), unix.Gettid())
			return nil
		}))
	}
}

// Close races with everything else: each call works or is refused as closed.
func TestCloseRaces(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	for range 20 {
		ns, err := netns.New()
		require.NoError(t, err)
		id := idOf(t, ns)
		var wg sync.WaitGroup
		errs := make(chan error, 64)
		for g := range 16 {
			wg.Go(func() {
				if g == 7 {
					errs <- ns.Close()
					return
				}
				errs <- ns.Do(func() error {
					if got, _ := os.Readlink("/proc/thread-self/ns/net"); got != id {
						return fmt.Errorf("in %s, not in %s", got, id)
					}
					return nil
				})
				_, err := ns.Sysctl("net.ipv4.ip_forward")
				errs <- err
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			if err != nil {
				require.ErrorIs(t, err, fs.ErrClosed)
			}
		}
	}
}

// Do in the namespace that the caller is in runs on the caller's thread, and undoes what becomes of that.
func TestDoStays(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Current()
	require.NoError(t, err)
	other := nstest.New(t)
	before, thread := here(t), unix.Gettid()
	mine := errors.New("mine")
	require.Equal(t, mine, home.Do(func() error {
		require.Equal(t, thread, unix.Gettid())
		require.NoError(t, other.Do(func() error { require.NotEqual(t, thread, unix.Gettid()); return nil }))
		require.NoError(t, unix.Setns(other.Fd(), unix.CLONE_NEWNET))
		return mine
	}))
	require.Equal(t, before, here(t))
	require.PanicsWithValue(t, "boom", func() { _ = home.Do(func() error { panic("boom") }) })
	require.NoError(t, home.Do(home.Close))
	require.ErrorIs(t, home.Do(func() error { return nil }), fs.ErrClosed)
	require.Equal(t, before, here(t))
}
