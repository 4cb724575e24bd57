package run_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/netns"
)

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m, nil)) }

func TestRun(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	r, stale, err := run.Start(machine.Name)
	require.NoError(t, err)
	require.False(t, stale.Any())
	ns, err := r.NetNS("a")
	require.NoError(t, err)
	defer ns.Close()
	_, err = container.Command(container.Config{NetNS: ns, Run: machine.Name}, "exec 3<&0; (read line <&3) & (read line <&3) & wait")
	require.NoError(t, err)
	kerneltest.Eventually(t, "shell and children run", func() bool { return len(machine.Processes(t)) == 3 })

	_, _, err = run.Start(machine.Name)
	require.ErrorIs(t, err, run.ErrRunning)
	_, err = run.Down(machine.Name)
	require.ErrorIs(t, err, run.ErrRunning)

	removed, err := r.End()
	require.NoError(t, err)
	require.Equal(t, run.Removed{Processes: 3, Namespaces: 1}, removed)
	machine.NothingLeft(t)
}

func TestKeep(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	r, _, err := run.Start(machine.Name)
	require.NoError(t, err)
	ns, err := r.NetNS("a")
	require.NoError(t, err)
	defer ns.Close()
	require.NoError(t, r.Keep())
	removed, err := r.End()
	require.NoError(t, err)
	require.False(t, removed.Any())

	_, _, err = run.Start(machine.Name)
	require.ErrorIs(t, err, run.ErrKept)
	require.NotEmpty(t, machine.Traces(t))
	removed, err = run.Down(machine.Name)
	require.NoError(t, err)
	require.Equal(t, "1 namespace and 0 processes", removed.String())
}

// Names may be longer than those of files, and stay apart.
func TestLongNames(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	r, _, err := run.Start(machine.Name)
	require.NoError(t, err)
	for _, end := range []string{"a", "b"} {
		name := strings.Repeat("x", 252) + end
		ns, err := r.NetNS(name)
		require.NoError(t, err)
		require.NoError(t, ns.Close())
		log, err := r.Log(name)
		require.NoError(t, err)
		require.Equal(t, log.Name(), r.LogPath(name))
		require.NoError(t, log.Close())
	}
	removed, err := r.End()
	require.NoError(t, err)
	require.Equal(t, run.Removed{Namespaces: 2}, removed)
}

// What a killed run leaves: a lock that nobody holds, namespaces, names that were only half made, logs.
func TestStale(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	dir := filepath.Join(run.Dir, machine.Name)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, file := range []string{"lock", "pod-1.app.log", "ask"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), nil, 0o644))
	}
	ns, err := netns.Create("podplumb-" + machine.Name + ".whole")
	require.NoError(t, err)
	require.NoError(t, ns.Close())
	require.NoError(t, os.WriteFile(filepath.Join(netns.RunDir, "podplumb-"+machine.Name+".half"), nil, 0o444))

	r, stale, err := run.Start(machine.Name)
	require.NoError(t, err)
	require.Equal(t, run.Removed{Namespaces: 2}, stale)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{filepath.Join(dir, "lock")}, files)
	_, err = r.End()
	require.NoError(t, err)
}

// Runs whose names begin alike, and namespaces of others, are left alone.
func TestForeignNames(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	other := "podplumb-" + machine.Name + "-b.node"
	ns, err := netns.Create(other)
	require.NoError(t, err)
	defer func() {
		require.NoError(t, ns.Close())
		require.NoError(t, netns.Remove(other))
	}()
	removed, err := run.Down(machine.Name)
	require.NoError(t, err)
	require.False(t, removed.Any())
	_, err = os.Stat(filepath.Join(netns.RunDir, other))
	require.NoError(t, err)
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "-a", "a-", "A", "a.b", "a/b", "..", "123456789012345678901234567890123"} {
		_, _, err := run.Start(name)
		require.EqualError(t, err, fmt.Sprintf("the name %q is not made of up to 32 lower-case letters, digits and dashes", name))
	}
}
