package nstest

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/podplumb/podplumb/netns"
)

// New returns a fresh namespace whose loopback device is up. It is closed at the
// end of the test. It requires [NetNS].
func New(t testing.TB) *netns.NS {
	t.Helper()
	Require(t, NetNS)
	ns, err := netns.New()
	if err != nil {
		t.Fatalf("make a namespace: %v", err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	if err := ns.LoopbackUp(); err != nil {
		t.Fatal(err)
	}
	return ns
}

// Run runs a program inside ns and returns what it printed, both outputs together, without
// the final newline. The test fails if the program does; it requires the [Tool].
func Run(t testing.TB, ns *netns.NS, name string, args ...string) string {
	t.Helper()
	out, err := TryRun(t, ns, name, args...)
	if err != nil {
		t.Fatalf("in %s: %s %s: %v\n%s", ns, name, strings.Join(args, " "), err, out)
	}
	return out
}

// TryRun is Run for a program that may fail.
func TryRun(t testing.TB, ns *netns.NS, name string, args ...string) (string, error) {
	t.Helper()
	Require(t, Tool(name))
	var out strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := ns.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	return strings.TrimSuffix(out.String(), "\n"), err
}
