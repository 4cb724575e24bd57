package e2e_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/internal/run"
)

// TestMain also is process 1 of the nodes.
func TestMain(m *testing.M) {
	if dir := os.Getenv(envNode); dir != "" {
		if err := beNode(dir); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			os.Exit(1)
		}
		return
	}
	code := kerneltest.Main(m, func(context.Context, []string, io.Writer, io.Writer) int { return run.Failed })
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

const patience = 30 * time.Second

// eventually waits until done returns nil.
func eventually(t testing.TB, what string, done func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
	}
}

var built struct {
	once sync.Once
	dir  string
	err  error
}

// programs returns a directory with the programs under test, and cnitool, built once.
func programs(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "podplumb-e2e-bin"); built.err != nil {
			return
		}
		for name, pkg := range map[string]string{
			"podplumb-cni": "github.com/podplumb/podplumb/examples/cni",
			"node":         "github.com/podplumb/podplumb/examples/node",
			"cnitool":      "github.com/containernetworking/cni/cnitool",
		} {
			cmd := exec.Command("go", "build", "-o", filepath.Join(built.dir, name), pkg)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				built.err = fmt.Errorf("build %s: %w\n%s", pkg, err, out)
				return
			}
		}
	})
	require.NoError(t, built.err)
	return built.dir
}
