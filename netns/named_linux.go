package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// lockWait bounds the wait for another process that holds the lock of RunDir.
const lockWait = 10 * time.Second

// runDirMu keeps the goroutines of this process from waiting in flock(2), each
// with a thread.
var runDirMu sync.Mutex

// lockRunDir takes the lock that `ip netns` takes on the directory itself.
func lockRunDir(how int) (unlock func(), err error) {
	runDirMu.Lock()
	fd, err := unix.Open(RunDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		runDirMu.Unlock()
		return nil, err
	}
	unlock = func() {
		_ = unix.Close(fd) // the lock goes with its only descriptor
		runDirMu.Unlock()
	}
	pause := 50 * time.Microsecond
	for deadline := time.Now().Add(lockWait); ; {
		err = unix.Flock(fd, how|unix.LOCK_NB)
		if err == nil {
			return unlock, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(deadline) {
			unlock()
			return nil, &hint{"cannot lock " + RunDir + " (see who holds it with lslocks)", err}
		}
		time.Sleep(pause)
		pause = min(2*pause, 10*time.Millisecond)
	}
}

// shareRunDir makes RunDir a shared mount, with all that is below it, so that an
// unmount here unmounts the name in every mount namespace that has it. The
// caller holds the lock: two at once would mount the directory on itself twice.
func shareRunDir() error {
	err := unix.Mount("", RunDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if err == unix.EINVAL { // not a mount point yet
		if err = unix.Mount(RunDir, RunDir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", RunDir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return fmt.Errorf("make %s a shared mount: %w", RunDir, err)
	}
	return nil
}

func createNamed(name string) (*NS, error) {
	path := filepath.Join(RunDir, name)
	// A look without the lock spares the cost of a namespace for nothing.
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil && !halfMade(&st) {
		return nil, unix.EEXIST
	}
	file, id, err := unshareNet()
	if err != nil {
		return nil, err
	}
	ns := &NS{file: file, path: path, name: name, id: id}
	if err := ns.publish(path); err != nil {
		_ = file.Close()
		return nil, err
	}
	return ns, nil
}

// publish puts the namespace on path, a name under RunDir.
func (ns *NS) publish(path string) error {
	if err := os.MkdirAll(RunDir, 0o755); err != nil {
		return cause(err)
	}
	unlock, err := lockRunDir(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if err := shareRunDir(); err != nil {
		return err
	}
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil && halfMade(&st) {
		// Its maker is dead, or it would hold the lock.
		if err := unix.Unlink(path); err != nil {
			return err
		}
	}
	return ns.bind(path, halfMadeMode)
}

// halfMadeMode is the mode of the file under a mount that this package makes. While the
// file is visible, the mount is not there yet; `ip netns` uses mode 0.
const halfMadeMode = unix.S_ISVTX

// halfMade reports whether st is a file that waits for its mount under the lock.
func halfMade(st *unix.Stat_t) bool {
	return st.Mode == unix.S_IFREG|halfMadeMode && st.Size == 0
}

// bind makes the file path and mounts the namespace on it, or leaves nothing.
func (ns *NS) bind(path string, mode uint32) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	_ = unix.Close(fd)
	err = ns.withFd(func(fd int) error {
		return unix.Mount(fmt.Sprintf("/proc/thread-self/fd/%d", fd), path, "none", unix.MS_BIND, "")
	})
	if err != nil {
		_ = unix.Unlink(path)
	}
	return err
}

// unbind takes what bind made away again.
func unbind(path string) error {
	// Old versions of ip could mount one name several times.
	for range 64 {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == unix.EINVAL { // not mounted here, any more
			break
		}
		if err != nil {
			return err
		}
	}
	return unix.Unlink(path)
}

func removeNamed(name string) error {
	unlock, err := lockRunDir(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	return unbind(filepath.Join(RunDir, name))
}

func openNamed(name string) (*NS, error) {
	path := filepath.Join(RunDir, name)
	ns, err := openPath(path)
	if !errors.Is(err, ErrNotNamespace) && !errors.Is(err, fs.ErrPermission) {
		return ns, err
	}
	// Perhaps another Create is between the file and the mount: wait for it.
	unlock, lockErr := lockRunDir(unix.LOCK_SH)
	if lockErr != nil {
		return nil, err
	}
	defer unlock()
	var st unix.Stat_t
	if unix.Lstat(path, &st) == nil && halfMade(&st) {
		return nil, fmt.Errorf("its maker died before the name was done: %w", fs.ErrNotExist)
	}
	return openPath(path)
}

func listNamed() ([]string, error) {
	entries, err := os.ReadDir(RunDir) // sorted
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, cause(err)
	}
	var names []string
	for _, entry := range entries {
		if holdsNetNS(filepath.Join(RunDir, entry.Name())) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

func holdsNetNS(path string) bool {
	file, _, err := openFile(path)
	if err != nil {
		return false
	}
	_ = file.Close()
	return true
}

// cause drops the path from an error of package os, since OpError tells it.
func cause(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}
