package vmtest

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Config describes the machine. The zero Config works.
type Config struct {
	Kernel  Kernel
	Init    string        // the program that calls Guest; empty means the running one
	Tools   []string      // programs of the host that the guest gets too, by name or absolute path; nil means DefaultTools. Missing ones are left out.
	Memory  int           // MiB; 0 means 1024
	CPUs    int           // 0 means 1
	Boot    time.Duration // for the boot; 0 means 60 s
	Total   time.Duration // for everything; 0 means the boot, each job's Timeout (10 minutes where it has none) and half a minute
	Console io.Writer     // gets all that the kernel prints; nil keeps only its end, for errors
	Append  string        // more words for the kernel's command line

	// Counted makes the guest's clock count instructions, one a nanosecond, and jump over the time when nothing runs: what it measures does
	// not depend on what else the host does. It is for benchmarks, takes longer, and has one CPU.
	Counted bool
}

// DefaultTools are the programs that kernel tests and people at a prompt use.
func DefaultTools() []string {
	return []string{"ip", "bridge", "tc", "ss", "nft", "conntrack", "ipvsadm", "tcpdump", "iperf3", "ping", "sysctl", "setpriv",
		"/bin/sh", "sleep", "cat", "true", "false", "kill"}
}

// Job is one program to run in the guest.
type Job struct {
	Args    []string      // the program's path on the host, and its arguments
	Dir     string        // working directory, the same path in the guest; its testdata folder is copied. Empty means the host's.
	Env     []string      // KEY=VALUE besides what every job gets (see JobEnv)
	Files   []string      // more files and folders of the host, at the same paths
	Outputs []string      // files that the job writes and the host wants, at the same paths; those that do not exist are left out
	Report  string        // folder of the host for the files that the job writes into $PODPLUMB_KERNEL_REPORT; empty means no reports
	Timeout time.Duration // then SIGQUIT, and five seconds later SIGKILL; 0 means never
	Stdout  io.Writer
	Stderr  io.Writer
}

// Result is how a job ended.
type Result struct {
	Exit     int    // its exit code; -1 when a signal ended it
	Signal   string // that signal's name
	TimedOut bool   // the guest ended it because of Job.Timeout
	Elapsed  time.Duration
}

// Err describes a failed job; nil means that it exited with 0.
func (r Result) Err() error {
	switch {
	case r.TimedOut:
		return &guestError{err: ErrTimeout, detail: "the job took longer than " + r.Elapsed.Round(time.Second).String()}
	case r.Signal != "":
		return &guestError{err: errSignal, detail: r.Signal}
	case r.Exit != 0:
		return &guestError{err: errExit, detail: strconv.Itoa(r.Exit)}
	}
	return nil
}

// guestReport is where the guest's tests write their report lines.
const guestReport = "/run/podplumb-report"

// JobEnv returns the environment that a job gets by default: the host's variables that steer Go and podplumb's tests, and those
// that mark the guest.
func JobEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		key, _, _ := strings.Cut(kv, "=")
		switch {
		case key == "PODPLUMB_GUEST", key == "PODPLUMB_KERNEL_REPORT", key == "PODPLUMB_KERNEL_TESTS", key == "PODPLUMB_IN_GUEST":
		case strings.HasPrefix(key, "PODPLUMB_"), key == "GODEBUG", key == "GORACE", key == "GOTRACEBACK", key == "GOMAXPROCS",
			key == "GOGC", key == "TZ", key == "TERM":
			env = append(env, kv)
		}
	}
	return append(env, "PODPLUMB_IN_GUEST=1", "PODPLUMB_KERNEL_TESTS=must", "HOME=/root", "USER=root", "TMPDIR=/tmp",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

// TestJob is the job of a compiled test binary: it finds the files that the -test flags name and the timeout that they set.
// dir is the package's folder; empty means the current one.
func TestJob(dir, binary string, args ...string) (Job, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Job{}, err
	}
	if binary, err = filepath.Abs(binary); err != nil {
		return Job{}, err
	}
	job := Job{Args: append([]string{binary}, args...), Dir: dir, Report: os.Getenv("PODPLUMB_KERNEL_REPORT")}
	outputDir := dir
	var outputs []string
	for i, arg := range args {
		key, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		if !ok && i+1 < len(args) {
			value = args[i+1]
		}
		switch key {
		case "test.coverprofile", "test.cpuprofile", "test.memprofile", "test.blockprofile", "test.mutexprofile", "test.trace",
			"test.testlogfile":
			outputs = append(outputs, value)
		case "test.gocoverdir":
			job.Outputs = append(job.Outputs, value)
		case "test.outputdir":
			outputDir = value
		case "test.timeout":
			if d, err := time.ParseDuration(value); err == nil && d > 0 {
				job.Timeout = d + 10*time.Second // the test's own alarm shows its goroutines: let it be first
			}
		}
	}
	for _, o := range outputs {
		if !filepath.IsAbs(o) {
			o = filepath.Join(outputDir, o)
		}
		job.Outputs = append(job.Outputs, o)
	}
	return job, nil
}
