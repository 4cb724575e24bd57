package nstest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

// envInner makes the tests called Inner run: they are run by others, to look at
// how they end.
const envInner = "PODPLUMB_NSTEST_INNER"

func inner(t *testing.T) {
	t.Helper()
	if os.Getenv(envInner) == "" {
		t.Skip("runs as a part of another test")
	}
}

// runInner runs one test of this binary in a process of its own.
func runInner(t *testing.T, name string, env ...string) (out string, report []string, err error) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run", "^"+name+"$")
	cmd.Env = append(os.Environ(), append([]string{envInner + "=1", "PODPLUMB_KERNEL_REPORT=" + dir}, env...)...)
	printed, err := cmd.CombinedOutput()
	files, globErr := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, globErr)
	for _, file := range files {
		text, readErr := os.ReadFile(file)
		require.NoError(t, readErr)
		report = append(report, strings.Split(strings.TrimSpace(string(text)), "\n")...)
	}
	return string(printed), report, err
}

const path = "github.com/podplumb/podplumb/internal/nstest"

func TestInnerMissingTool(t *testing.T) {
	inner(t)
	nstest.Require(t, nstest.Tool("no-such-tool"))
	t.Log("went on")
}

func TestInnerMissingFeature(t *testing.T) {
	inner(t)
	nstest.Require(t, missing(t))
	t.Log("went on")
}

func TestInnerPresent(t *testing.T) {
	inner(t)
	nstest.Require(t, nstest.NetNS)
	t.Log("went on")
}

// missing returns a feature that this kernel lacks and the guest has.
func missing(t *testing.T) nstest.Feature {
	t.Helper()
	for _, f := range []nstest.Feature{nstest.IPVS, nstest.VLANFiltering, nstest.WireGuard, nstest.Geneve, nstest.VRF} {
		if nstest.Probe(f) != nil {
			return f
		}
	}
	t.Skip("this kernel has every feature of the guest")
	return ""
}

func TestRequire(t *testing.T) {
	gone := string(missing(t))
	for name, c := range map[string]struct {
		test      string
		env       []string
		fails     bool
		says      string
		silent    string
		wantLines []string
	}{
		"present": {
			test: "TestInnerPresent", says: "went on",
			wantLines: []string{"run\t" + path + "\tTestInnerPresent\tnetns"},
		},
		"present, must": {
			test: "TestInnerPresent", env: []string{"PODPLUMB_KERNEL_TESTS=must"}, says: "went on",
			wantLines: []string{"run\t" + path + "\tTestInnerPresent\tnetns"},
		},
		"missing tool": {
			test: "TestInnerMissingTool", says: "--- SKIP", silent: "went on",
			wantLines: []string{"skip\t" + path + "\tTestInnerMissingTool\ttool no-such-tool"},
		},
		"missing tool, must": {
			test: "TestInnerMissingTool", env: []string{"PODPLUMB_KERNEL_TESTS=must"}, fails: true, says: "install no-such-tool", silent: "went on",
			wantLines: []string{"skip\t" + path + "\tTestInnerMissingTool\ttool no-such-tool"},
		},
		"missing tool, must, inside the guest": {
			test: "TestInnerMissingTool", env: []string{"PODPLUMB_KERNEL_TESTS=must", "PODPLUMB_IN_GUEST=1"}, says: "--- SKIP", silent: "went on",
			wantLines: []string{"skip\t" + path + "\tTestInnerMissingTool\ttool no-such-tool"},
		},
		"missing tool, must, guest": { // the guest has no tools
			test: "TestInnerMissingTool", env: []string{"PODPLUMB_KERNEL_TESTS=must", "PODPLUMB_GUEST=defer"}, fails: true, silent: "went on",
			wantLines: []string{"skip\t" + path + "\tTestInnerMissingTool\ttool no-such-tool"},
		},
		"missing feature": {
			test: "TestInnerMissingFeature", says: "--- SKIP", silent: "went on",
			wantLines: []string{"skip\t" + path + "\tTestInnerMissingFeature\t" + gone},
		},
		"missing feature, must": {
			test: "TestInnerMissingFeature", env: []string{"PODPLUMB_KERNEL_TESTS=must"}, fails: true, silent: "went on",
			wantLines: []string{"guest\t" + path + "\tTestInnerMissingFeature\t" + gone},
		},
		"missing feature, must, guest": {
			test: "TestInnerMissingFeature", env: []string{"PODPLUMB_KERNEL_TESTS=must", "PODPLUMB_GUEST=defer"}, says: "--- SKIP", silent: "went on",
			wantLines: []string{"guest\t" + path + "\tTestInnerMissingFeature\t" + gone},
		},
	} {
		t.Run(name, func(t *testing.T) {
			env := append([]string{"PODPLUMB_KERNEL_TESTS=", "PODPLUMB_GUEST="}, c.env...)
			out, report, err := runInner(t, c.test, env...)
			if c.fails {
				require.Error(t, err, out)
			} else {
				require.NoError(t, err, out)
			}
			require.Contains(t, out, c.says)
			if c.silent != "" {
				require.NotContains(t, out, c.silent)
			}
			require.Equal(t, c.wantLines, report)
		})
	}
}

func TestInnerLeaks(t *testing.T) {
	inner(t)
	nstest.Leaks(t)
	switch os.Getenv(envInner) {
	case "fd":
		f, err := os.Open("/dev/null")
		require.NoError(t, err)
		kept = append(kept, f)
	case "namespace":
		ns, err := netns.New()
		require.NoError(t, err)
		kept = append(kept, ns)
	case "goroutine":
		go func() { select {} }()
	case "name":
		ns, err := netns.Create("podplumb-leak")
		require.NoError(t, err)
		require.NoError(t, ns.Close())
	case "pin":
		ns, err := netns.New()
		require.NoError(t, err)
		require.NoError(t, ns.Pin(os.Getenv("PIN")))
		require.NoError(t, ns.Close())
	case "thread":
		ns := nstest.New(t)
		stuck := make(chan struct{})
		go func() { _ = ns.Do(func() error { close(stuck); select {} }) }()
		<-stuck
	}
}

// kept keeps what a test leaks from being collected.
var kept []any

func TestLeaksAreFound(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	pin := filepath.Join(t.TempDir(), "pin")
	t.Cleanup(func() { _ = netns.Remove("podplumb-leak"); _ = netns.Unpin(pin) })
	var wg sync.WaitGroup
	for what, want := range map[string]string{
		"fd":        "leak: 1 file descriptors more; new ones: [0-9]+ -> /dev/null",
		"namespace": `leak: 1 file descriptors more; new ones: [0-9]+ -> net:\[`,
		"goroutine": "leak: goroutine [0-9]+ .select",
		"name":      "leak: a namespace is mounted on /run/netns/podplumb-leak",
		"pin":       "leak: a namespace is mounted on " + pin,
		"thread":    "leak: threads in a foreign namespace",
	} {
		wg.Go(func() { // each waits whether the leak goes by itself
			out, _, err := runInner(t, "TestInnerLeaks", envInner+"="+what, "PIN="+pin)
			if err == nil || !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("%s: %v\n%s", what, err, out)
			}
		})
	}
	wg.Wait()
	out, _, err := runInner(t, "TestInnerLeaks", envInner+"=nothing")
	require.NoError(t, err, out)
}

// Without root the tests run again in a user namespace, as root of it, and their
// exit code comes through.
func TestMainWithoutRoot(t *testing.T) {
	nstest.Require(t, nstest.Root)
	nstest.Require(t, nstest.Tool("setpriv"))
	self := filepath.Join(t.TempDir(), "tests")
	binary, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(self, binary, 0o755))
	for dir := self; dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	for test, fails := range map[string]bool{"TestInnerUser": false, "TestInnerFails": true} {
		cmd := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", self, "-test.v", "-test.run", "^"+test+"$")
		cmd.Env = append(os.Environ(), envInner+"=1", "PODPLUMB_KERNEL_REPORT=") // a folder that only root writes to
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		require.Equal(t, fails, err != nil, "%s", out)
		require.Contains(t, string(out), "uid 0 in a namespace of its own")
	}
}

func TestInnerUser(t *testing.T) {
	inner(t)
	ns := nstest.New(t)
	require.Error(t, nstest.Probe(nstest.Root))
	named, err := netns.Create("podplumb-user")
	require.NoError(t, err)
	names, err := netns.List()
	require.NoError(t, err)
	require.Equal(t, []string{"podplumb-user"}, names, "the directory is private")
	require.NoError(t, netns.Remove("podplumb-user"))
	require.NoError(t, named.Close())
	t.Logf("uid %d in a namespace of its own, %s", os.Getuid(), ns)
}

func TestInnerFails(t *testing.T) {
	inner(t)
	t.Logf("uid %d in a namespace of its own", os.Getuid())
	t.Fail()
}
