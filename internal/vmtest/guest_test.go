//go:build linux

package vmtest_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/vmtest"
)

// TestMain makes the test binary what it tests: the guest's init and modprobe, and the jobs that run there.
func TestMain(m *testing.M) {
	vmtest.Guest()
	if role := os.Getenv("PODPLUMB_VMTEST_ROLE"); role != "" {
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

// play is what the test binary does as a job in the guest.
func play(role string) int {
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
	}
	switch role {
	case "exit":
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
		return 3
	case "panic":
		panic("a job fell")
	case "signal":
		check(unix.Kill(os.Getpid(), unix.SIGKILL))
	case "hang":
		time.Sleep(time.Hour)
	case "orphan":
		check(exec.Command("sleep", "1000").Start())
	case "alone": // nothing is left of the job before this one
		out, err := os.ReadDir("/proc")
		check(err)
		for _, e := range out {
			name, _ := os.ReadFile("/proc/" + e.Name() + "/comm")
			if strings.TrimSpace(string(name)) == "sleep" {
				fmt.Println("sleep still runs")
			}
		}
	case "environment":
		fmt.Println(os.Getenv("PODPLUMB_IN_GUEST"), os.Getenv("PODPLUMB_KERNEL_TESTS"), os.Getenv("PODPLUMB_GUEST"), os.Getenv("MINE"))
		dir, err := os.Getwd()
		check(err)
		fmt.Println(dir)
		data, err := os.ReadFile("testdata/hello.txt")
		check(err)
		fmt.Print(string(data))
		links, err := net.Interfaces()
		check(err)
		fmt.Println(len(links), links[0].Name, links[0].Flags&net.FlagUp != 0)
	case "autoload":
		loaded, err := os.ReadFile("/proc/modules")
		check(err)
		fmt.Println("before:", strings.Contains(string(loaded), "sctp "))
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP)
		check(err)
		check(unix.Close(s))
		loaded, err = os.ReadFile("/proc/modules")
		check(err)
		fmt.Println("after:", strings.Contains(string(loaded), "\nsctp ") || strings.HasPrefix(string(loaded), "sctp "))
		fmt.Println(exec.Command("/sbin/modprobe", "ip-vs-rr").Run(), exec.Command("/sbin/modprobe", "-q", "no-such-thing").Run())
	case "files":
		check(os.WriteFile(os.Getenv("OUT"), bytes.Repeat([]byte("0123456789abcdef"), 1<<13), 0o644))
		check(os.WriteFile(filepath.Join(os.Getenv("PODPLUMB_KERNEL_REPORT"), "r1"), []byte("run\tp\tTestX\tf\n"), 0o644))
	case "crash":
		check(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
		time.Sleep(time.Minute)
	}
	return 0
}

// requireGuest skips, or fails where kernel tests must run, when the host cannot start the machine.
func requireGuest(t *testing.T) {
	t.Helper()
	if os.Getenv("PODPLUMB_IN_GUEST") != "" {
		t.Skip("a guest in the guest")
	}
	err := vmtest.Check()
	if err == nil {
		_, err = vmtest.Fetch(t.Context(), vmtest.Kernel{})
	}
	if err == nil {
		return
	}
	if os.Getenv("PODPLUMB_KERNEL_TESTS") == "must" {
		require.NoError(t, err)
	}
	t.Skip(err)
}

// role makes a job of this test binary.
func role(name string, env ...string) (vmtest.Job, *bytes.Buffer, *bytes.Buffer) {
	var stdout, stderr bytes.Buffer
	return vmtest.Job{Args: []string{os.Args[0]}, Env: append(env, "PODPLUMB_VMTEST_ROLE="+name), Stdout: &stdout, Stderr: &stderr,
		Timeout: 30 * time.Second}, &stdout, &stderr
}

func TestGuest(t *testing.T) {
	requireGuest(t)
	t.Setenv("PODPLUMB_GUEST", "defer")
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "testdata"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "testdata", "hello.txt"), []byte("hello\n"), 0o644))
	report, out := filepath.Join(dir, "report"), filepath.Join(dir, "profile")

	exit, exitOut, exitErr := role("exit")
	fall, _, fallErr := role("panic")
	signal, _, _ := role("signal")
	hang, _, hangErr := role("hang")
	hang.Timeout = time.Second
	orphan, _, _ := role("orphan")
	alone, aloneOut, _ := role("alone")
	environment, environmentOut, environmentErr := role("environment", "MINE=1")
	environment.Dir = dir
	autoload, autoloadOut, autoloadErr := role("autoload")
	files, _, filesErr := role("files", "OUT="+out)
	files.Outputs, files.Report = []string{out, filepath.Join(dir, "never-written")}, report
	var echo bytes.Buffer
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	dynamic := vmtest.Job{Args: []string{sh, "-c", "echo from $0; exit 7"}, Stdout: &echo}
	absent := vmtest.Job{Args: []string{sh}, Dir: "/proc/none"}

	results, err := vmtest.Run(t.Context(), vmtest.Config{},
		[]vmtest.Job{exit, fall, signal, hang, orphan, alone, environment, autoload, files, dynamic, absent})
	require.NoError(t, err)
	require.Len(t, results, 11)

	require.Equal(t, 3, results[0].Exit)
	require.ErrorContains(t, results[0].Err(), "exit code: 3")
	require.Equal(t, "to stdout\n", exitOut.String())
	require.Equal(t, "to stderr\n", exitErr.String())

	require.Equal(t, 2, results[1].Exit)
	require.Contains(t, fallErr.String(), "panic: a job fell")

	require.Equal(t, -1, results[2].Exit)
	require.Equal(t, "killed", results[2].Signal)
	require.ErrorContains(t, results[2].Err(), "killed")

	require.True(t, results[3].TimedOut)
	require.ErrorIs(t, results[3].Err(), vmtest.ErrTimeout)
	require.Contains(t, hangErr.String(), "time.Sleep", "a job that takes too long shows its goroutines")

	require.NoError(t, results[4].Err())
	require.Less(t, results[4].Elapsed, 20*time.Second, "a job ends with its program, not with its orphans")
	require.NoError(t, results[5].Err())
	require.Empty(t, aloneOut.String())

	require.NoError(t, results[6].Err(), environmentErr)
	require.Equal(t, "1 must  1\n"+dir+"\nhello\n1 lo true\n", environmentOut.String())

	require.NoError(t, results[7].Err(), autoloadErr)
	require.Equal(t, "before: false\nafter: true\n<nil> exit status 1\n", autoloadOut.String())

	require.NoError(t, results[8].Err(), filesErr)
	data, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, bytes.Repeat([]byte("0123456789abcdef"), 1<<13), data)
	lines, err := filepath.Glob(filepath.Join(report, "guest-*-r1"))
	require.NoError(t, err)
	require.Len(t, lines, 1)
	data, err = os.ReadFile(lines[0])
	require.NoError(t, err)
	require.Equal(t, "run\tp\tTestX\tf\n", string(data))

	require.Equal(t, 7, results[9].Exit)
	require.Equal(t, "from "+sh+"\n", echo.String())
	require.Equal(t, 127, results[10].Exit, "a job that cannot start")
}

func TestKernelPanic(t *testing.T) {
	requireGuest(t)
	before, _, _ := role("exit")
	crash, _, _ := role("crash")
	after, _, _ := role("exit")
	results, err := vmtest.Run(t.Context(), vmtest.Config{}, []vmtest.Job{before, crash, after})
	require.ErrorIs(t, err, vmtest.ErrPanic)
	require.Contains(t, err.Error(), "Kernel panic - not syncing: sysrq triggered crash")
	require.Len(t, results, 1, "only the first job ended")
}

func TestWatchdogs(t *testing.T) {
	requireGuest(t)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	job, _, _ := role("hang")
	_, err := vmtest.Run(t.Context(), vmtest.Config{Boot: 100 * time.Millisecond}, []vmtest.Job{job})
	require.ErrorIs(t, err, vmtest.ErrBoot)
	_, err = vmtest.Run(t.Context(), vmtest.Config{Total: 200 * time.Millisecond}, []vmtest.Job{job})
	require.ErrorIs(t, err, vmtest.ErrTimeout)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = vmtest.Run(ctx, vmtest.Config{}, []vmtest.Job{job})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "images are removed")
}

func TestBadJobs(t *testing.T) {
	requireGuest(t)
	_, err := vmtest.Run(t.Context(), vmtest.Config{}, []vmtest.Job{{}})
	require.ErrorContains(t, err, "jobs[0]: no program")
	_, err = vmtest.Run(t.Context(), vmtest.Config{}, []vmtest.Job{{Args: []string{"/no/such/program"}}})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = vmtest.Run(t.Context(), vmtest.Config{Append: "rdinit=/nothing"}, []vmtest.Job{{Args: []string{os.Args[0]}}})
	require.ErrorIs(t, err, vmtest.ErrPanic)
}
