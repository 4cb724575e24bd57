package kerneltest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// RequireHost skips the test unless it runs as the machine's root and finds the programs. With PODPLUMB_KERNEL_TESTS=must it fails it, save
// in the guest, which has no programs.
func RequireHost(t testing.TB, programs ...string) {
	t.Helper()
	err := notRoot()
	for _, program := range programs {
		if _, missing := exec.LookPath(program); missing != nil {
			err = errors.Join(err, missing)
		}
	}
	feature := "root, " + strings.Join(programs, ", ")
	if err == nil {
		report(t, "run", feature)
		return
	}
	report(t, "skip", feature)
	if os.Getenv("PODPLUMB_KERNEL_TESTS") == "must" && os.Getenv("PODPLUMB_IN_GUEST") == "" {
		t.Fatalf("PODPLUMB_KERNEL_TESTS=must, and this test needs %s: %v", feature, err)
	}
	t.Skipf("needs %s: %v (run `make setup`, and the test as root)", feature, err)
}

// notRoot says why this process is not root outside of user namespaces.
func notRoot() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("user id %d", os.Geteuid())
	}
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return err
	}
	if all := []string{"0", "0", "4294967295"}; strings.Join(strings.Fields(string(text)), " ") != strings.Join(all, " ") {
		return errors.New("a user namespace")
	}
	return nil
}
