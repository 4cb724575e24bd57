package main_test

import (
	_ "embed" // the README
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	main "github.com/podplumb/podplumb/examples/pod"
)

//go:embed README.md
var readme string

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m, main.Run)) }

func TestPod(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	stdout, stderr := machine.Run(t, 0)
	require.Empty(t, stderr)
	machine.Readme(t, readme, "sudo go run ./examples/pod", "pod", stdout)
}

func TestVerbose(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	stdout, _ := machine.Run(t, 0, "-v")
	require.Contains(t, stdout, "    + ", "the plan of the links")
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
		example.Signal(syscall.SIGINT)
		example.InterruptedCleanly(t, machine)
	}
}

func TestUsage(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	machine.Run(t, 2, "-no-such-flag")
	_, stderr := machine.Run(t, 2, "extra")
	require.Equal(t, "pod: unexpected argument \"extra\"\n", stderr)
	machine.Run(t, 0, "-h")
	_, stderr = machine.Run(t, 1, "-name", "Not_A_Name")
	require.Contains(t, stderr, "lower-case letters")
}
