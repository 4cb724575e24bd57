package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/cni/plugin"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/examples/node/agent"
)

// What else the test binary is, by the name that it is called.
const (
	pluginName = "podplumb-cni"
	agentName  = "podplumb-node"
)

// TestMain makes the test binary the plugin, the agent, and process 1 of the nodes too: nothing has to be built besides.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case pluginName:
		plugin.Main(nil)
		return
	case agentName:
		run.Main(agent.Run)
	}
	if dir := os.Getenv(envNode); dir != "" {
		if err := beNode(dir); err != nil {
			fmt.Fprintln(os.Stderr, "node:", err)
			os.Exit(1)
		}
		return
	}
	code := kerneltest.Main(m, agent.Run)
	if made.dir != "" {
		_ = os.RemoveAll(made.dir)
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

var made struct {
	once sync.Once
	dir  string
	err  error
}

// programs returns a directory with the plugin and the agent, links to this program.
func programs(t testing.TB) string {
	t.Helper()
	made.once.Do(func() {
		var self string
		if self, made.err = os.Executable(); made.err != nil {
			return
		}
		if made.dir, made.err = os.MkdirTemp("", "podplumb-e2e-bin"); made.err != nil {
			return
		}
		for _, name := range []string{pluginName, agentName} {
			made.err = errors.Join(made.err, os.Symlink(self, filepath.Join(made.dir, name)))
		}
	})
	require.NoError(t, made.err)
	return made.dir
}
