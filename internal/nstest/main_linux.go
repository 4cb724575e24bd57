package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/netns"
)

// envInside marks the run inside the user namespace.
const envInside = "PODPLUMB_NSTEST_INSIDE"

// unprivileged says why kernel tests cannot run in this process, when they cannot.
var unprivileged error

func runMain(m *testing.M) int {
	if os.Getenv(envInside) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "nstest: prepare the user namespace:", err)
			return 1
		}
		return m.Run()
	}
	ns, err := netns.New()
	if err == nil {
		_ = ns.Close()
		return m.Run()
	}
	code, err := again()
	if err == nil {
		return code
	}
	// Tests that need no kernel run all the same; Require tells the others.
	unprivileged = fmt.Errorf("neither root nor a user namespace is to be had: %w", err)
	return m.Run()
}

// again runs this test binary in a new user, mount and network namespace.
func again() (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s)
		case err := <-done:
			if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
				return 0, err
			}
			if code := cmd.ProcessState.ExitCode(); code >= 0 {
				return code, nil
			}
			return 2, nil // killed by a signal
		}
	}
}

// furnish makes the new mount namespace fit for named namespaces and brings the
// loopback device up.
func furnish() error {
	if err := unix.Mount("", "/", "none", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := os.MkdirAll(netns.RunDir, 0o755); err != nil {
		// /run belongs to root; cover it for the tests.
		if err := mountTmpfs(filepath.Dir(netns.RunDir)); err != nil {
			return err
		}
		if err := os.Mkdir(netns.RunDir, 0o755); err != nil {
			return err
		}
	}
	if err := mountTmpfs(netns.RunDir); err != nil {
		return err
	}
	here, err := netns.Current()
	if err != nil {
		return err
	}
	return errors.Join(here.LoopbackUp(), here.Close())
}

func mountTmpfs(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs on %s: %w", dir, err)
	}
	return nil
}
