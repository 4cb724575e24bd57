package main_test

import (
	_ "embed" // the README
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	main "github.com/podplumb/podplumb/examples/overlay"
)

//go:embed README.md
var readme string

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m, main.Run)) }

func TestOverlay(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	stdout, stderr := machine.Run(t, 0)
	require.Empty(t, stderr)
	require.Equal(t, 4, strings.Count(stdout, "\nok "), "four conditions")
	require.NotContains(t, stdout, "FAILED")
	machine.Readme(t, readme, "sudo go run ./examples/overlay", "overlay", stdout)
}

func TestInterrupted(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	begin := time.Now()
	machine.Run(t, 0)
	length := time.Since(begin)
	const points = 8
	for i := range points {
		example := machine.Start(t)
		time.Sleep(length * time.Duration(i) / points)
		example.Signal(syscall.SIGTERM)
		example.InterruptedCleanly(t, machine)
	}
}

func TestKilled(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	example := machine.Start(t)
	kerneltest.Eventually(t, "servers run", func() bool { return len(machine.Processes(t)) > 0 })
	example.Signal(syscall.SIGKILL)
	require.Equal(t, -1, example.Wait(t))
	require.NotEmpty(t, machine.Traces(t))
	kerneltest.Eventually(t, "servers end with the example", func() bool { return len(machine.Processes(t)) == 0 })
	stdout, _ := machine.Run(t, 0)
	require.Contains(t, stdout, "removed what a killed run had left: 7 namespaces")
}
