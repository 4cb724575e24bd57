package kerneltest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/netns"
)

const (
	envExample = "PODPLUMB_KERNELTEST_EXAMPLE" // set: this process is the example and not its tests
	envInside  = "PODPLUMB_KERNELTEST_INSIDE"  // set: this process has the user namespace that it asked for
)

// unavailable says why the tests cannot make network namespaces, when they cannot.
var unavailable error

// Main runs a package's tests and returns the exit code. The test binary is also the example and its containers.
func Main(m *testing.M, example run.Example) int {
	container.Main()
	if os.Getenv(envExample) != "" {
		run.Main(example)
	}
	if os.Getenv(envInside) != "" {
		if err := furnish(); err != nil {
			fmt.Fprintln(os.Stderr, "prepare the user namespace:", err)
			return 1
		}
		return m.Run()
	}
	ns, err := netns.New()
	if err == nil {
		ns.Close()
		return m.Run()
	}
	code, err := inUserNamespace()
	if err == nil {
		return code
	}
	unavailable = err
	return m.Run()
}

// inUserNamespace runs the tests again where they are root.
func inUserNamespace() (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// furnish gives the namespace a /run of its own, where named namespaces and locks are kept, an /etc that it may write to, and a
// loopback device that works.
func furnish() error {
	if err := unix.Mount("", "/", "none", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", filepath.Dir(netns.RunDir), "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	if err := os.Mkdir(netns.RunDir, 0o755); err != nil {
		return err
	}
	if err := ownEtc(); err != nil {
		return err
	}
	ns, err := netns.Current()
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.LoopbackUp()
}

// ownEtc makes /etc a directory of links to what was there.
func ownEtc() error {
	const etc, before = "/etc", "/run/etc"
	entries, err := os.ReadDir(etc)
	if err != nil {
		return err
	}
	if err := os.Mkdir(before, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(etc, before, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount /etc elsewhere: %w", err)
	}
	if err := unix.Mount("tmpfs", etc, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == "netns" {
			continue
		}
		if err := os.Symlink(filepath.Join(before, entry.Name()), filepath.Join(etc, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Require skips the test where network namespaces cannot be made. With PODPLUMB_KERNEL_TESTS=must it fails it. What
// happened is written to a file in PODPLUMB_KERNEL_REPORT, when that is set.
func Require(t testing.TB) {
	t.Helper()
	const feature = "netns"
	if unavailable == nil {
		report(t, "run", feature)
		return
	}
	if os.Getenv("PODPLUMB_KERNEL_TESTS") == "must" {
		report(t, "skip", feature)
		t.Fatalf("PODPLUMB_KERNEL_TESTS=must, and this test needs network namespaces: %v", unavailable)
	}
	report(t, "skip", feature)
	t.Skipf("needs network namespaces: %v (run as root, or allow user namespaces)", unavailable)
}

// Needs skips the test where a feature of the kernel is missing: err says what went wrong when it was tried. With
// PODPLUMB_KERNEL_TESTS=must it fails it, unless PODPLUMB_GUEST=defer leaves it to a guest that has the feature.
func Needs(t testing.TB, feature string, err error) {
	t.Helper()
	must := os.Getenv("PODPLUMB_KERNEL_TESTS") == "must"
	switch {
	case err == nil:
		report(t, "run", feature)
	case must && os.Getenv("PODPLUMB_GUEST") == "defer":
		report(t, "guest", feature)
		t.Skipf("needs %s, which the guest has: %v", feature, err)
	default:
		report(t, "skip", feature)
		if must {
			t.Fatalf("PODPLUMB_KERNEL_TESTS=must, and this test needs %s: %v", feature, err)
		}
		t.Skipf("needs %s: %v", feature, err)
	}
}
