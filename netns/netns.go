package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// RunDir is the directory of the named namespaces, the one that `ip netns`
// uses (ip-netns(8)).
const RunDir = "/run/netns"

// NS is an open network namespace. It is made by [New], [Create] and the Open
// functions; the zero NS is not valid and its methods return an error that Is
// [fs.ErrInvalid].
type NS struct {
	file *os.File
	path string
	name string
	id   ID
}

// ID identifies a namespace among those alive on this machine: the device and
// inode of its nsfs file (namespaces(7)). The kernel may give the inode of a
// namespace that has died to a new one, so compare IDs only while a handle is open.
type ID struct {
	Dev, Ino uint64
}

// String returns the form that /proc/PID/ns/net links to: net:[4026531840].
func (id ID) String() string { return "net:[" + strconv.FormatUint(id.Ino, 10) + "]" }

// New makes an anonymous namespace. It lives while the handle, a process or a
// socket in it does, or a pin. As the kernel makes it, its only link is a
// loopback device that is down.
func New() (*NS, error) {
	file, id, err := unshareNet()
	if err != nil {
		return nil, opError("new", "namespace", err)
	}
	return &NS{file: file, id: id}, nil
}

// Create makes a namespace called name, visible to `ip netns` and to [OpenName].
// The name appears together with the namespace behind it: a failed Create leaves
// no name behind. A name that exists gives an error that Is [fs.ErrExist].
func Create(name string) (*NS, error) {
	if err := ValidateName(name); err != nil {
		return nil, opError(opCreate, name, err)
	}
	ns, err := createNamed(name)
	if err != nil {
		return nil, opError(opCreate, name, err)
	}
	return ns, nil
}

// Open opens the namespace that the file at path refers to: a name under
// [RunDir], a pin, or /proc/PID/ns/net. A path that does not exist, or that
// vanished with its process, gives an error that Is [fs.ErrNotExist]; a file that
// is no network namespace one that Is [ErrNotNamespace].
func Open(path string) (*NS, error) {
	if path == "" {
		return nil, opError(opOpen, `""`, fmt.Errorf("the path is empty: %w", fs.ErrInvalid))
	}
	ns, err := openPath(path)
	if err != nil {
		return nil, opError(opOpen, path, err)
	}
	return ns, nil
}

// OpenName opens the namespace that [Create] or `ip netns add` called name.
func OpenName(name string) (*NS, error) {
	if err := ValidateName(name); err != nil {
		return nil, opError(opOpen, name, err)
	}
	ns, err := openNamed(name)
	if err != nil {
		return nil, opError(opOpen, name, err)
	}
	return ns, nil
}

// OpenPID opens the namespace of the process or thread pid (of its main thread,
// when pid is a process). It needs the right to ptrace the process (ptrace(2),
// PTRACE_MODE_READ_FSCREDS).
func OpenPID(pid int) (*NS, error) {
	object := "pid " + strconv.Itoa(pid)
	if pid <= 0 {
		return nil, opError(opOpen, object, fmt.Errorf("a process id is positive: %w", fs.ErrInvalid))
	}
	ns, err := openPath("/proc/" + strconv.Itoa(pid) + "/ns/net")
	if err != nil {
		return nil, opError(opOpen, object, err)
	}
	return ns, nil
}

// Current opens the namespace of the calling thread: inside [NS.Do] that of the
// handle, elsewhere that of the process. Its Path is empty.
func Current() (*NS, error) {
	file, id, err := currentFile()
	if err != nil {
		return nil, opError(opOpen, "the current namespace", err)
	}
	return &NS{file: file, id: id}, nil
}

// List returns the names under [RunDir], sorted. A file there that holds no
// network namespace, such as one that a dead process left half made, is not
// listed. Without the directory there are no names and no error.
func List() ([]string, error) {
	names, err := listNamed()
	if err != nil {
		return nil, opError("list", RunDir, err)
	}
	return names, nil
}

// Remove takes the name away, as `ip netns del` does: a lazy unmount in every mount
// namespace that shares the mount, then an unlink. The namespace itself lives on while
// a process, a socket, a handle or a pin holds it. A name that does not exist, so also
// a second Remove, gives an error that Is [fs.ErrNotExist]. A half-made name is removed
// too.
func Remove(name string) error {
	if err := ValidateName(name); err != nil {
		return opError(opRemove, name, err)
	}
	if err := removeNamed(name); err != nil {
		return opError(opRemove, name, err)
	}
	return nil
}

// Close closes the handle. A [NS.Do] that runs goes on in the namespace to its
// end. Closing twice returns an error that Is [fs.ErrClosed].
func (ns *NS) Close() error {
	if !supported {
		return opError("close", ns.object(), errors.ErrUnsupported)
	}
	if !ns.valid() {
		return opError("close", ns.object(), fs.ErrInvalid)
	}
	if err := ns.file.Close(); err != nil {
		// An *fs.PathError here repeats what the OpError says.
		if p := (*fs.PathError)(nil); errors.As(err, &p) {
			err = p.Err
		}
		return opError("close", ns.object(), err)
	}
	return nil
}

// Fd returns the handle's file descriptor, for libraries that take one, or -1
// when it is closed. It stays the handle's: do not close it, and keep the handle
// open (and reachable, see [runtime.KeepAlive]) while it is in use.
func (ns *NS) Fd() int {
	fd := -1
	_ = ns.withFd(func(f int) error { fd = f; return nil })
	return fd
}

// Path returns the path that the namespace was made or opened by, empty for an
// anonymous one.
func (ns *NS) Path() string {
	if !ns.valid() {
		return ""
	}
	return ns.path
}

// Name returns the name under [RunDir], empty if it was not made or opened by one.
func (ns *NS) Name() string {
	if !ns.valid() {
		return ""
	}
	return ns.name
}

// String names the namespace for people: its name, path or ID.
func (ns *NS) String() string { return ns.object() }

// ID returns the identity of the namespace.
func (ns *NS) ID() (ID, error) {
	if err := ns.alive(); err != nil {
		return ID{}, opError("identify", ns.object(), err)
	}
	return ns.id, nil
}

// Equal reports whether both handles are open and hold the same namespace.
func (ns *NS) Equal(other *NS) bool {
	a, err := ns.ID()
	if err != nil {
		return false
	}
	b, err := other.ID()
	return err == nil && a == b
}

func (ns *NS) valid() bool { return ns != nil && ns.file != nil }

func (ns *NS) object() string {
	switch {
	case !ns.valid():
		return "<nil>"
	case ns.name != "":
		return ns.name
	case ns.path != "":
		return ns.path
	}
	return ns.id.String()
}

// alive returns nil while the handle can be used.
func (ns *NS) alive() error { return ns.withFd(func(int) error { return nil }) }

// withFd lends the descriptor to fn; Close does not recycle the number before
// fn is done.
func (ns *NS) withFd(fn func(fd int) error) error {
	if !supported {
		return errors.ErrUnsupported
	}
	if !ns.valid() {
		return fs.ErrInvalid
	}
	raw, err := ns.file.SyscallConn()
	if err != nil {
		return fs.ErrClosed
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = fn(int(fd)) }); err != nil {
		return fs.ErrClosed
	}
	return result
}

// nameOf returns the name that path has under RunDir, or "".
func nameOf(path string) string {
	dir, name := filepath.Split(filepath.Clean(path))
	if dir == RunDir+"/" || dir == "/var"+RunDir+"/" {
		return name
	}
	return ""
}
