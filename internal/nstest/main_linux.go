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

// envInside marks the run inside the namespaces that Main has made.
const envInside = "PODPLUMB_NSTEST_INSIDE"

// unprivileged says why kernel tests cannot run in this process, when they cannot.
var unprivileged error

func runMain(m *testing.M) int {
	if os.Getenv(envInside) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "nstest: prepare the namespaces of the tests:", err)
			return 1
		}
		return m.Run()
	}
	ns, err := netns.New()
	root := err == nil
	if root {
		_ = ns.Close()
	}
	if root && InGuest() {
		return m.Run() // the guest is for this run alone
	}
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	if !root {
		attr.Cloneflags |= unix.CLONE_NEWUSER | unix.CLONE_NEWNET
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	code, err := again(attr)
	switch {
	case err == nil:
		return code
	case root:
		return m.Run()
	}
	// Tests that need no kernel run all the same; Require tells the others.
	unprivileged = fmt.Errorf("neither root nor a user namespace is to be had: %w", err)
	return m.Run()
}

// again runs this test binary once more and returns its exit code.
func again(attr *syscall.SysProcAttr) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = attr
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }() // its exit code says what came of it
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s)
		case <-done:
			if code := cmd.ProcessState.ExitCode(); code >= 0 {
				return code, nil
			}
			fmt.Fprintln(os.Stderr, "nstest: the tests ended with", cmd.ProcessState)
			return 2, nil
		}
	}
}

// furnish makes the new mount namespace fit for named namespaces and brings the
// loopback device up.
func furnish() error {
	// A test binary that a test starts makes namespaces of its own.
	if err := os.Unsetenv(envInside); err != nil {
		return err
	}
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
