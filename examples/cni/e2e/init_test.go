package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// envNode makes the test binary process 1 of a node, with the node's directory as its value.
const envNode = "PODPLUMB_E2E_NODE"

// beNode gives a process with mount, process, IPC and host name namespaces of its own the directories and mounts that a container
// runtime expects of a machine, and reaps until it is killed. All that the node is ends with it.
func beNode(dir string) error {
	if err := unix.Mount("", "/", "none", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	_ = unix.Unmount("/sys", unix.MNT_DETACH)
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err := mountCgroups("/sys/fs/cgroup"); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	for _, name := range []string{"/run/netns", "/run/lock", "/var/lib/cni", "/var/lib/containers", filepath.Join(dir, "cni"), filepath.Join(dir, "root")} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			return err
		}
	}
	// Layers of images on a file system that can be below and above an overlay, whatever this machine's is.
	if err := unix.Mount("tmpfs", filepath.Join(dir, "root"), "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	if err := unix.Mount(filepath.Join(dir, "cni"), "/var/lib/cni", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount /var/lib/cni: %w", err)
	}
	if err := unix.Sethostname([]byte(filepath.Base(dir))); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "ready"), nil, 0o600); err != nil {
		return err
	}
	children := make(chan os.Signal, 10)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		<-children
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

// mountCgroups mounts the hierarchies that this process is in: version 2, or those of version 1.
func mountCgroups(dir string) error {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) == 1 {
		if err := unix.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
			return fmt.Errorf("mount cgroup2: %w", err)
		}
		return nil
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	for _, line := range lines {
		fields := strings.SplitN(line, ":", 3)
		if len(fields) != 3 || fields[1] == "" {
			continue
		}
		name, named := strings.CutPrefix(fields[1], "name=")
		options := fields[1]
		if named {
			options = "none," + options
		}
		at := filepath.Join(dir, name)
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("cgroup", at, "cgroup", 0, options); err != nil {
			return fmt.Errorf("mount cgroup %s: %w", fields[1], err)
		}
	}
	return nil
}

// static reports why a program does not run in an empty root directory.
func static(path string) error {
	out, err := exec.Command("ldd", path).CombinedOutput()
	if err == nil && !strings.Contains(string(out), "statically") {
		return errors.New(path + " needs libraries: install busybox-static")
	}
	return nil
}
