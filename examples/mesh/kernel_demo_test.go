package main

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

// The demo holds, leaves nothing, and prints what README.md shows.
func TestDemo(t *testing.T) {
	m := kerneltest.NewMachine(t)
	stdout, stderr := m.Run(t, 0)
	require.Empty(t, stderr)
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	m.Readme(t, string(readme), "sudo go run ./examples/mesh", "mesh", stdout)
}

// A demo that is interrupted at any moment leaves nothing.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 250 * time.Millisecond, 600 * time.Millisecond} {
		m := kerneltest.NewMachine(t)
		e := m.Start(t)
		time.Sleep(after)
		e.Signal(syscall.SIGINT)
		e.InterruptedCleanly(t, m)
	}
}

func TestUsage(t *testing.T) {
	m := kerneltest.NewMachine(t)
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"-nonsense"}, []string{"flag provided but not defined"}},
		{[]string{"extra"}, []string{"unexpected argument"}},
	} {
		_, stderr := m.Run(t, 2, c.args...)
		for _, text := range c.says {
			require.Contains(t, stderr, text)
		}
	}
	e := kerneltest.StartIn(t, newNS(t), "node", "-f", t.TempDir(), "-trust-domain", "No Domain", "-dns", "here")
	require.Equal(t, 1, e.Wait(t))
	for _, text := range []string{"-node: which node is this?", "-trust-domain:", "-dns:"} {
		require.Contains(t, e.Stderr(), text)
	}
	e = kerneltest.StartIn(t, newNS(t), "proxy", "-f", t.TempDir())
	require.Equal(t, 1, e.Wait(t))
	for _, text := range []string{"-pod: which pod is this?", "-workload-api:"} {
		require.Contains(t, e.Stderr(), text)
	}
}
