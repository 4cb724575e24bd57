package netns

import (
	"io"
	"strconv"

	"golang.org/x/sys/unix"
)

// The files are opened with bare system calls: package os would hand them to its
// poller, which costs more than reading them.

func readSysctl(path string) (string, error) {
	fd, err := unix.Open("/proc/sys/"+path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unix.Close(fd) }()
	var value []byte
	for buf := make([]byte, 4096); ; {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		if n == 0 {
			return string(value), nil
		}
		value = append(value, buf[:n]...)
	}
}

func writeSysctl(path, value string) error {
	fd, err := unix.Open("/proc/sys/"+path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return explain(err, advice{unix.EROFS, "/proc/sys is mounted read-only (run in a privileged container)"})
	}
	defer func() { _ = unix.Close(fd) }()
	// The kernel takes a value in one write or not at all.
	n, err := unix.Write(fd, []byte(value))
	if err == nil && n < len(value) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return explain(err, advice{unix.EINVAL, "the kernel does not take the value " + strconv.Quote(value) + " for this setting"})
	}
	return nil
}
