package kerneltest

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
)

// reportFile is the file of this process in PODPLUMB_KERNEL_REPORT.
var reportFile = sync.OnceValues(func() (*os.File, error) {
	dir := os.Getenv("PODPLUMB_KERNEL_REPORT")
	if dir == "" {
		return nil, nil
	}
	return os.CreateTemp(dir, "report-*.tsv")
})

// report says where a kernel test ran or did not.
func report(t testing.TB, what, feature string) {
	t.Helper()
	file, err := reportFile()
	if err == nil && file != nil {
		path := "unknown"
		if info, ok := debug.ReadBuildInfo(); ok {
			path = strings.TrimSuffix(info.Path, ".test")
		}
		_, err = fmt.Fprintf(file, "%s\t%s\t%s\t%s\n", what, path, t.Name(), feature)
	}
	if err != nil {
		t.Fatalf("write the kernel report: %v", err)
	}
}
