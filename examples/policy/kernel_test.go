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
	main "github.com/podplumb/podplumb/examples/policy"
)

//go:embed README.md
var readme string

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m, main.Run)) }

func TestPolicy(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	stdout, stderr := machine.Run(t, 0)
	require.Empty(t, stderr)
	require.Equal(t, 2, strings.Count(stdout, "\nok "), stdout)
	require.Contains(t, stdout, "84 went through, 0 did not", "without policies all is open")
	require.Contains(t, stdout, "36 went through, 48 did not", "with policies most is not")
	machine.Readme(t, readme, "sudo go run ./examples/policy", "policy", stdout)
}

func TestVerbose(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	stdout, _ := machine.Run(t, 0, "-v")
	require.Contains(t, stdout, "    + ", "the plans")
	require.Contains(t, stdout, "web -> database TCP/5432 over IPv6: packets: ")
	require.Contains(t, stdout, "Evaluate: denied: default/web is isolated for egress by ")
}

// Ranges, exceptions that are for one family only, ports without a name, tiers above and below, a host network pod, a pod that has several
// ports of one name.
func TestOwnManifests(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	stdout, stderr := machine.Run(t, 0, "-f", "testdata/tiers")
	require.Empty(t, stderr)
	require.NotContains(t, stdout, "FAILED")
	require.Contains(t, stdout, "IPv4 no, IPv6 yes")
}

func TestInterrupted(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	begin := time.Now()
	machine.Run(t, 0)
	length := time.Since(begin)
	const points = 6
	for i := range points {
		example := machine.Start(t)
		time.Sleep(length * time.Duration(i) / points)
		example.Signal(syscall.SIGINT)
		example.InterruptedCleanly(t, machine)
	}
}
