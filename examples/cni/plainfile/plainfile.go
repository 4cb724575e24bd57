package plainfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// dirMode is that of directories that have to be made.
const dirMode = 0o700

// Open is os.OpenFile. With unix.O_CREAT it also makes the file's directory, if that is missing.
func Open(path string, flags int, mode uint32) (*os.File, error) {
	fd, err := open(path, flags, mode)
	if err == unix.ENOENT && flags&unix.O_CREAT != 0 {
		if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
			return nil, err
		}
		fd, err = open(path, flags, mode)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func open(path string, flags int, mode uint32) (fd int, err error) {
	for {
		if fd, err = unix.Open(path, flags|unix.O_CLOEXEC, mode); err != unix.EINTR {
			return fd, err
		}
	}
}

// most is the size of the files that Read is for.
const most = 512

// Read returns the beginning of a file, 512 bytes at most.
func Read(path string) ([]byte, error) {
	fd, err := open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	b := make([]byte, most)
	for {
		n, err := unix.Read(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		return b[:n], nil
	}
}

// Overwrite writes a small file in place: ext4 flushes one that was truncated, which costs milliseconds. What is killed in between may
// leave the end of what was there before, so the texts should be of one length.
func Overwrite(path string, text []byte) error {
	f, err := Open(path, unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// Lock waits for an exclusive lock of f until ctx ends. The kernel releases it when f is closed or its holder dies.
func Lock(ctx context.Context, f *os.File) error {
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case nil:
			return nil
		case unix.EWOULDBLOCK, unix.EINTR:
		default:
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lock %s: another process has it: %w", f.Name(), context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}
