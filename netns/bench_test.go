//go:build linux

package netns_test

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

const threadNetNS = "/proc/thread-self/ns/net"

// versusFloor runs both in turns, in small batches, and reports the time of ours as a
// multiple of the kernel floor: the bare system calls on a thread that is locked
// already.
func versusFloor(b *testing.B, ours, floor func() error) {
	b.Helper()
	var oursTook, floorTook time.Duration
	measure := func(fn func() error, into *time.Duration, n int) {
		start := time.Now()
		for range n {
			if err := fn(); err != nil {
				b.Fatal(err)
			}
		}
		*into += time.Since(start)
	}
	runtime.LockOSThread()
	measure(floor, new(time.Duration), 3)
	runtime.UnlockOSThread()
	b.ResetTimer()
	for left := b.N; left > 0; left -= 16 {
		n := min(left, 16)
		measure(ours, &oursTook, n)
		b.StopTimer()
		runtime.LockOSThread()
		measure(floor, &floorTook, n)
		runtime.UnlockOSThread()
		b.StartTimer()
	}
	b.ReportMetric(float64(oursTook)/float64(floorTook), "x-floor")
}

// bareVisit is a stay in the namespace behind fd and nothing else.
func bareVisit(move func() error, inside func() error) error {
	home, err := unix.Open(threadNetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(home) }()
	if err := move(); err != nil {
		return err
	}
	if err := inside(); err != nil {
		return err
	}
	return unix.Setns(home, unix.CLONE_NEWNET)
}

func BenchmarkDo(b *testing.B) {
	ns := nstest.New(b)
	fd := ns.Fd()
	nothing := func() error { return nil }
	versusFloor(b,
		func() error { return ns.Do(nothing) },
		func() error {
			return bareVisit(func() error { return unix.Setns(fd, unix.CLONE_NEWNET) }, nothing)
		})
}

func BenchmarkNew(b *testing.B) {
	nstest.Require(b, nstest.NetNS)
	versusFloor(b,
		func() error {
			ns, err := netns.New()
			if err != nil {
				return err
			}
			return ns.Close()
		},
		func() error {
			return bareVisit(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() error {
				fd, err := unix.Open(threadNetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return err
				}
				return unix.Close(fd)
			})
		})
}

// The floor of a name is what `ip netns` does too: a file, a mount, an unmount and an
// unlink.
func BenchmarkCreateRemove(b *testing.B) {
	nstest.Require(b, nstest.NetNS)
	ns, err := netns.Create("podplumb-bench")
	if err != nil {
		b.Fatal(err)
	}
	_ = ns.Close()
	_ = netns.Remove("podplumb-bench")
	const path = netns.RunDir + "/podplumb-bench"
	versusFloor(b,
		func() error {
			ns, err := netns.Create("podplumb-bench")
			if err != nil {
				return err
			}
			_ = ns.Close()
			return netns.Remove("podplumb-bench")
		},
		func() error {
			return bareVisit(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() error {
				fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0)
				if err != nil {
					return err
				}
				_ = unix.Close(fd)
				if err := unix.Mount(threadNetNS, path, "none", unix.MS_BIND, ""); err != nil {
					return err
				}
				if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
					return err
				}
				return unix.Unlink(path)
			})
		})
}

// A sysctl costs a file and a stay.
func BenchmarkSysctl(b *testing.B) {
	ns := nstest.New(b)
	fd := ns.Fd()
	buf := make([]byte, 64)
	versusFloor(b,
		func() error { _, err := ns.Sysctl("net.ipv4.ip_forward"); return err },
		func() error {
			return bareVisit(func() error { return unix.Setns(fd, unix.CLONE_NEWNET) }, func() error {
				f, err := unix.Open("/proc/sys/net/ipv4/ip_forward", unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return err
				}
				defer func() { _ = unix.Close(f) }()
				_, err = unix.Read(f, buf)
				return err
			})
		})
}

// A dial inside against the same dial by a thread that is inside already.
func BenchmarkDial(b *testing.B) {
	ns := nstest.New(b)
	l, err := ns.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	fd, to := ns.Fd(), l.Addr().String()
	hangUp := func(c net.Conn, err error) error {
		if err != nil {
			return err
		}
		_, _ = c.Read(make([]byte, 1)) // the server closes first, so its port is the one that waits
		return c.Close()
	}
	versusFloor(b,
		func() error { return hangUp(ns.DialContext(context.Background(), "tcp", to)) },
		func() error {
			var c net.Conn
			err := bareVisit(func() error { return unix.Setns(fd, unix.CLONE_NEWNET) }, func() (err error) {
				c, err = new(net.Dialer).Dial("tcp", to)
				return err
			})
			return hangUp(c, err)
		})
}

// A process started inside against one started outside.
func BenchmarkStart(b *testing.B) {
	ns := nstest.New(b)
	versusFloor(b,
		func() error {
			cmd := child("nothing")
			if err := ns.Start(cmd); err != nil {
				return err
			}
			return cmd.Wait()
		},
		func() error { return child("nothing").Run() })
}
