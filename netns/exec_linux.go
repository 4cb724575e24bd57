package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

func (ns *NS) start(cmd *exec.Cmd, mounted bool) error {
	attr := cmd.SysProcAttr
	if attr != nil && (attr.Cloneflags|attr.Unshareflags)&unix.CLONE_NEWNET != 0 {
		return fmt.Errorf("its SysProcAttr asks for another network namespace: %w", fs.ErrInvalid)
	}
	started := make(chan error, 1)
	go aside(func() {
		v, err := ns.enter()
		if err != nil {
			started <- err
			return
		}
		if mounted {
			// Its mount namespace makes the thread unfit for anything else: this lock
			// is never undone.
			runtime.LockOSThread()
			err = ns.mountView()
		}
		if err == nil {
			err = cmd.Start()
		}
		exited := -1
		if err == nil && attr != nil && attr.Pdeathsig != 0 {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			exited, _ = unix.PidfdOpen(cmd.Process.Pid, 0)
		}
		// The process runs; a thread that cannot come home ends with this goroutine.
		_ = v.leave()
		started <- err
		awaitExit(exited)
	})
	return <-started
}

// awaitExit waits until the process behind a pidfd has ended, and closes it.
func awaitExit(pidfd int) {
	if pidfd < 0 {
		return
	}
	defer func() { _ = unix.Close(pidfd) }()
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		if err != unix.EINTR {
			return
		}
	}
}

// mountView gives the calling thread a mount namespace that fits the network namespace
// it is in.
func (ns *NS) mountView() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return explain(fmt.Errorf("make a mount namespace: %w", err), mountAdvice)
	}
	// What is mounted here must not appear outside.
	if err := unix.Mount("", "/", "none", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make / a slave mount: %w", err)
	}
	var flags uintptr
	var sfs unix.Statfs_t
	if unix.Statfs("/sys", &sfs) == nil && sfs.Flags&unix.ST_RDONLY != 0 {
		flags = unix.MS_RDONLY
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", flags|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return explain(fmt.Errorf("mount /sys: %w", err), mountAdvice)
	}
	if ns.name == "" {
		return nil
	}
	dir := filepath.Join(etcNetNS, ns.name)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		over := filepath.Join("/etc", entry.Name())
		err := unix.Mount(filepath.Join(dir, entry.Name()), over, "none", unix.MS_BIND, "")
		if err != nil && err != unix.ENOENT { // nothing in /etc to lie over
			return fmt.Errorf("mount %s over %s: %w", filepath.Join(dir, entry.Name()), over, err)
		}
	}
	return nil
}
