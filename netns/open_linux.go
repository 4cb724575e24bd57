package netns

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

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
