package kerneltest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/netns"
)

// NothingLeft requires that the machine's own namespace has a loopback device and nothing else, and that no namespace,
// mount, process or file of a run remains.
func (m *Machine) NothingLeft(t testing.TB) {
	t.Helper()
	require.NoError(t, m.ns.Do(func() error {
		links, err := net.Interfaces()
		if err != nil || len(links) != 1 {
			return fmt.Errorf("the machine's own network has %v: %w", links, err)
		}
		return nil
	}))
	if nft, err := exec.LookPath("nft"); err == nil {
		var out bytes.Buffer
		cmd := exec.Command(nft, "list", "ruleset")
		cmd.Stdout, cmd.Stderr = &out, &out
		require.NoError(t, m.ns.Start(cmd))
		require.NoError(t, cmd.Wait(), out.String())
		require.Empty(t, out.String(), "rules in the machine's own network")
	}
	require.Empty(t, m.Traces(t))
}

// Traces lists what there is of a run on this machine: namespaces, mounts, processes, files.
func (m *Machine) Traces(t testing.TB) []string {
	t.Helper()
	var found []string
	prefix := "podplumb-" + m.Name + "."
	names, err := filepath.Glob(filepath.Join(netns.RunDir, prefix+"*"))
	require.NoError(t, err)
	found = append(found, names...)
	names, err = filepath.Glob(filepath.Join("/etc/netns", prefix+"*"))
	require.NoError(t, err)
	found = append(found, names...)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	require.NoError(t, err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, "/"+prefix) {
			found = append(found, "mount "+strings.TrimSpace(line))
		}
	}
	for _, pid := range m.Processes(t) {
		found = append(found, "process "+pid)
	}
	if _, err := os.Stat(filepath.Join(run.Dir, m.Name)); err == nil {
		found = append(found, filepath.Join(run.Dir, m.Name))
	}
	return found
}

// Processes lists the processes of a run.
func (m *Machine) Processes(t testing.TB) []string {
	t.Helper()
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(t, err)
	var found []string
	for _, path := range environs {
		environ, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended, or is not ours
		}
		for variable := range bytes.SplitSeq(environ, []byte{0}) {
			if string(variable) == container.Marker+"="+m.Name {
				found = append(found, filepath.Base(filepath.Dir(path)))
			}
		}
	}
	return found
}

// Eventually waits for a moment until done is true.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 seconds", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
