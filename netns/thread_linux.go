package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// threadNetNS is the namespace of the calling thread. /proc/self would be that
// of the main thread.
const threadNetNS = "/proc/thread-self/ns/net"

// visit is the stay of a locked thread in another namespace.
type visit struct {
	home int // the namespace to return to
}

// depart locks the calling goroutine to its thread and lets move take the thread
// to another namespace. Only goroutines of this package may call it: one that
// cannot return has to end.
func depart(move func() error) (*visit, error) {
	runtime.LockOSThread()
	home, err := unix.Open(threadNetNS, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &hint{"cannot find the way back home (mount /proc, of this process's pid namespace)", err}
		}
		return nil, err
	}
	if err := move(); err != nil {
		_ = unix.Close(home)
		runtime.UnlockOSThread()
		return nil, err
	}
	return &visit{home: home}, nil
}

// enter departs to ns.
func (ns *NS) enter() (*visit, error) {
	return depart(func() error {
		return ns.withFd(func(fd int) error { return netns.Set(netns.NsHandle(fd)) })
	})
}

// leave brings the thread home and unlocks it. When that fails the thread stays
// locked, so that the runtime destroys it at the end of the goroutine.
func (v *visit) leave() error {
	err := netns.Set(netns.NsHandle(v.home))
	_ = unix.Close(v.home)
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

// away runs fn on a goroutine of its own whose thread depart has moved, so that
// the caller's thread is never in danger, and ends as fn ended.
func away(op, object string, enter func() (*visit, error), fn func() error) error {
	done := make(chan outcome, 1)
	go func() {
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
		out.err = fn()
		out.returned = true
	}()
	out := <-done
	switch {
	case out.panicked != nil:
		panic(out.panicked)
	case !out.returned:
		runtime.Goexit()
	}
	return out.err
}

// unshareNet makes a namespace without letting the caller's thread into it.
func unshareNet() (file *os.File, id ID, err error) {
	enter := func() (*visit, error) {
		return depart(func() error { return unix.Unshare(unix.CLONE_NEWNET) })
	}
	err = away("new", "namespace", enter, func() error {
		file, id, err = openFile(threadNetNS)
		return err
	})
	if err != nil && file != nil {
		_ = file.Close()
		file = nil
	}
	return file, id, unwrapOp(err)
}

// unwrapOp returns the cause of an error that will be wrapped again.
func unwrapOp(err error) error {
	if e := (*OpError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// openFile opens path and makes sure that it is a network namespace.
func openFile(path string) (*os.File, ID, error) {
	// Without O_NONBLOCK a FIFO at path would hang the open.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	switch err {
	case nil:
	case unix.ESRCH, unix.ENOTDIR:
		return nil, ID{}, fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	case unix.ENXIO, unix.ENODEV: // a socket, a device without driver
		return nil, ID{}, &NotNamespaceError{Path: path, Found: "a socket or device"}
	default:
		return nil, ID{}, err
	}
	id, err := identify(fd, path)
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, ID{}, err
	}
	return os.NewFile(uintptr(fd), path), id, nil
}

// identify returns the ID of the network namespace behind fd.
func identify(fd int, path string) (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return ID{}, err
	}
	var sfs unix.Statfs_t
	if err := unix.Fstatfs(fd, &sfs); err != nil {
		return ID{}, err
	}
	if sfs.Type != unix.NSFS_MAGIC {
		return ID{}, &NotNamespaceError{Path: path, Found: fileKind(st.Mode)}
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return ID{}, &NotNamespaceError{Path: path, Found: "a namespace of unknown kind"}
	}
	if kind != unix.CLONE_NEWNET {
		return ID{}, &NotNamespaceError{Path: path, Found: namespaceKind(kind)}
	}
	return ID{Dev: st.Dev, Ino: st.Ino}, nil
}

func fileKind(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a regular file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	}
	return "a file of another kind"
}

func namespaceKind(clone int) string {
	names := map[int]string{
		unix.CLONE_NEWNS:     "a mount",
		unix.CLONE_NEWUTS:    "a UTS",
		unix.CLONE_NEWIPC:    "an IPC",
		unix.CLONE_NEWPID:    "a PID",
		unix.CLONE_NEWUSER:   "a user",
		unix.CLONE_NEWCGROUP: "a cgroup",
		unix.CLONE_NEWTIME:   "a time",
	}
	if name, ok := names[clone]; ok {
		return name + " namespace"
	}
	return fmt.Sprintf("a namespace of kind %#x", clone)
}

func openPath(path string) (*NS, error) {
	file, id, err := openFile(path)
	if err != nil {
		return nil, err
	}
	return &NS{file: file, path: path, name: nameOf(path), id: id}, nil
}
