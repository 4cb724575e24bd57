package netns_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/podplumb/podplumb/internal/nstest"
)

// envChild names what this test binary does instead of running its tests.
const envChild = "PODPLUMB_NETNS_CHILD"

// children are the programs that the tests start: this binary, in another role.
var children = map[string]func() error{}

func TestMain(m *testing.M) {
	if child, ok := children[os.Getenv(envChild)]; ok {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(nstest.Main(m))
}

// child returns a command that runs a child.
func child(t testing.TB, name string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), envChild+"="+name), env...)
	return cmd
}
