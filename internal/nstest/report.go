package nstest

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
)

// probes remembers what was found out about this machine.
var probes = struct {
	sync.Mutex
	results map[Feature]error
}{results: map[Feature]error{}}

func mustRun() bool      { return os.Getenv("PODPLUMB_KERNEL_TESTS") == "must" }
func deferToGuest() bool { return os.Getenv("PODPLUMB_GUEST") == "defer" }

// InGuest reports whether the test runs in the guest of internal/vmtest.
func InGuest() bool { return os.Getenv("PODPLUMB_IN_GUEST") == "1" }

// reportFile is the file of this process in PODPLUMB_KERNEL_REPORT.
var reportFile = sync.OnceValues(func() (*os.File, error) {
	dir := os.Getenv("PODPLUMB_KERNEL_REPORT")
	if dir == "" {
		return nil, nil
	}
	return os.CreateTemp(dir, "report-*.tsv")
})

// report appends a line about the test to the report, if one is wanted.
func report(t testing.TB, what string, f Feature) {
	t.Helper()
	file, err := reportFile()
	if err == nil && file != nil {
		// One write a line: tests that run in parallel must not mix theirs.
		_, err = file.WriteString(fmt.Sprintf("%s\t%s\t%s\t%s\n", what, importPath(), t.Name(), f))
	}
	if err != nil {
		t.Fatalf("write the kernel report: %v", err)
	}
}

// importPath returns the import path of the package whose tests run here.
var importPath = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return strings.TrimSuffix(info.Path, ".test")
})
