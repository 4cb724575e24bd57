package veth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// linkSysctls reads and writes the sysctls of one link. Its methods must run inside the link's namespace: /proc/sys/net shows that of
// the calling thread.
type linkSysctls struct{ link string }

func (s linkSysctls) path(name, link string) string {
	return "/proc/sys/" + strings.ReplaceAll(strings.ReplaceAll(name, ".", "/"), placeholder, link)
}

func (s linkSysctls) read(name string) (string, error) {
	// Bare calls, as in write.
	fd, err := unix.Open(s.path(name, s.link), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", sysctlError(name, err)
	}
	defer func() { _ = unix.Close(fd) }()
	b := make([]byte, 256)
	n, err := unix.Read(fd, b)
	if err != nil {
		return "", sysctlError(name, err)
	}
	if n == len(b) { // few are so long
		long, err := os.ReadFile(s.path(name, s.link))
		return sysctlValue(string(long)), sysctlError(name, err)
	}
	return sysctlValue(string(b[:n])), nil
}

func (s linkSysctls) write(name, value string) error {
	// The bare calls, in the hot path of an attachment: the runtime's poller has no business with these files.
	fd, err := unix.Open(s.path(name, s.link), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return sysctlError(name, err)
	}
	_, err = unix.Write(fd, []byte(value))
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	return sysctlError(name, err)
}

// restore gives the link the value that new links of the namespace get.
func (s linkSysctls) restore(name string) error {
	if !strings.Contains(name, placeholder) {
		return nil // the namespace's own setting: what it was before is not known
	}
	value, err := linkSysctls{"default"}.read(name)
	if err != nil {
		return err
	}
	return s.write(name, value)
}

func (s linkSysctls) isOn(name string) (bool, error) {
	v, err := s.read(name)
	return v != "0" && v != "", err
}

// optional forgives a sysctl that this kernel, or a namespace without IPv6, does not have.
func optional(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func sysctlError(name string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("sysctl %s: %w", name, err)
}
