package netns

import (
	"errors"
	"io/fs"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const supported = true

// threadNetNS is the namespace of the calling thread. /proc/self would be that
// of the main thread.
const threadNetNS = "/proc/thread-self/ns/net"

// openHere opens the namespace of the calling thread: that of a socket made on
// it. What is looked up in threadNetNS the kernel has to forget again when the
// threads end, over which those can hold each other up for milliseconds; but
// to ask a socket takes CAP_NET_ADMIN.
func openHere() (fd int, err error) {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		fd, err = unix.IoctlRetInt(s, unix.SIOCGSKNS)
		_ = unix.Close(s)
	}
	if err != nil {
		fd, err = unix.Open(threadNetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	return fd, err
}

// identifyHere returns the ID of the namespace of the calling thread.
func identifyHere() (ID, error) {
	fd, err := openHere()
	if err != nil {
		return ID{}, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return ID{Dev: st.Dev, Ino: st.Ino}, err
}

// currentFile opens the namespace of the calling thread.
func currentFile() (*os.File, ID, error) {
	fd, err := openHere()
	if err != nil {
		return nil, ID{}, err
	}
	id, err := identify(fd, threadNetNS)
	if err != nil {
		_ = unix.Close(fd)
		return nil, ID{}, err
	}
	return os.NewFile(uintptr(fd), threadNetNS), id, nil
}

// visit is the stay of a locked thread in another namespace.
type visit struct {
	home int // the namespace to return to, -1 once left
}

// depart locks the calling goroutine to its thread and lets move take the thread
// to another namespace. Only goroutines of this package may call it: one that
// cannot return has to end.
func depart(move func() error) (*visit, error) {
	runtime.LockOSThread()
	home, err := openHere()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, explain(err, advice{fs.ErrNotExist, "cannot find the way back home (mount /proc of this process's pid namespace)"})
	}
	if err := move(); err != nil {
		_ = unix.Close(home)
		runtime.UnlockOSThread()
		return nil, explain(err,
			advice{fs.ErrPermission, "entering and making namespaces needs CAP_SYS_ADMIN (run as root, or inside `unshare -Urn`)"},
			advice{unix.ENOSPC, "there are too many network namespaces (sysctl user.max_net_namespaces)"})
	}
	return &visit{home: home}, nil
}

// explain adds the advice that fits, also to what every operation can run into.
func explain(err error, advices ...advice) error {
	advices = append(advices, advice{unix.EMFILE, "the process has too many open files (ulimit -n)"})
	for _, a := range advices {
		if errors.Is(err, a.when) {
			return &hint{a.say, err}
		}
	}
	return err
}

// enter departs to ns.
func (ns *NS) enter() (*visit, error) {
	return depart(func() error { return ns.withFd(moveTo) })
}

// moveTo takes the thread to the namespace of fd. setns(2) wants CAP_SYS_ADMIN even of a thread that is there already, which
// CAP_NET_ADMIN alone should be enough for.
func moveTo(fd int) error {
	err := netns.Set(netns.NsHandle(fd))
	if errors.Is(err, fs.ErrPermission) && staysIn(fd) {
		return nil
	}
	return err
}

// staysIn reports whether the thread is in the namespace of fd.
func staysIn(fd int) bool {
	var there unix.Stat_t
	here, err := identifyHere()
	return err == nil && unix.Fstat(fd, &there) == nil && here == ID{Dev: there.Dev, Ino: there.Ino}
}

// leave brings the thread home and unlocks it; further calls do nothing. When it fails
// the thread stays locked, so that the runtime destroys it at the end of the goroutine.
func (v *visit) leave() error {
	if v.home < 0 {
		return nil
	}
	err := moveTo(v.home)
	_ = unix.Close(v.home)
	v.home = -1
	if err != nil {
		return &hint{"the thread cannot return to its own namespace and is thrown away", err}
	}
	runtime.UnlockOSThread()
	return nil
}

// outcome is how a function ended: it returned err, or panicked, or else called
// runtime.Goexit.
type outcome struct {
	returned bool
	err      error
	panicked any
}

// away runs fn on a goroutine of its own whose thread enter has moved, so that
// the caller's thread is never in danger, and ends as fn ended. fn may leave early.
func away(op, object string, enter func() (*visit, error), fn func(*visit) error) error {
	done := make(chan outcome, 1)
	go aside(func() {
		var out outcome
		defer func() { done <- out }()
		v, err := enter()
		if err != nil {
			out = outcome{returned: true, err: opError(op, object, err)}
			return
		}
		defer func() {
			out.panicked = recover()
			if err := v.leave(); err != nil {
				out.err = errors.Join(out.err, opError(op, object, err))
			}
		}()
		out.err = fn(v)
		out.returned = true
	})
	out := <-done
	switch {
	case out.panicked != nil:
		panic(out.panicked)
	case !out.returned:
		runtime.Goexit()
	}
	return out.err
}

// aside runs fn on any thread but the main one. That one stands for the whole
// process in /proc/PID/ns/net, and the runtime cannot destroy it.
func aside(fn func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		runtime.UnlockOSThread()
		fn()
		return
	}
	// While this goroutine holds the main thread, the next one starts on another.
	settled := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		close(settled)
		fn()
	}()
	<-settled
	runtime.UnlockOSThread()
}

func (ns *NS) do(op string, fn func() error) error {
	if here, err := ns.stay(op, fn); here {
		return err
	}
	return away(op, ns.object(), ns.enter, func(*visit) error { return fn() })
}

// stay runs fn on the caller's thread if that is in the namespace already, and sees to it that it is still there afterwards: to wake
// another thread costs more than most of what is done in a namespace.
func (ns *NS) stay(op string, fn func() error) (here bool, err error) {
	runtime.LockOSThread()
	if ns.withFd(func(fd int) error { here = staysIn(fd); return nil }) != nil || !here {
		runtime.UnlockOSThread()
		return false, nil
	}
	defer func() {
		if now, ierr := identifyHere(); ierr != nil || now != ns.id {
			if lost := ns.withFd(moveTo); lost != nil {
				// Locked, it ends with the caller's goroutine.
				err = errors.Join(err, opError(op, ns.object(), &hint{"the thread cannot return to the namespace and is thrown away", lost}))
				return
			}
		}
		runtime.UnlockOSThread()
	}()
	return true, fn()
}

// unshareNet makes a namespace without letting the caller's thread into it.
func unshareNet() (file *os.File, id ID, err error) {
	enter := func() (*visit, error) {
		return depart(func() error { return unix.Unshare(unix.CLONE_NEWNET) })
	}
	err = away("new", "namespace", enter, func(*visit) error {
		file, id, err = currentFile()
		return err
	})
	if err != nil && file != nil {
		_ = file.Close()
		file = nil
	}
	return file, id, unwrapOp(err)
}
