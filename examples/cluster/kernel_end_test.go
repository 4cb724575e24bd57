package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/netns"
)

// length is how long an undisturbed run takes.
func length(t *testing.T, machine *kerneltest.Machine) time.Duration {
	t.Helper()
	begin := time.Now()
	machine.Run(t, 0)
	return time.Since(begin)
}

// A run that is interrupted anywhere on its way, once or twice, by ^C or otherwise, leaves nothing.
func TestInterrupted(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	whole := length(t, machine)
	const points = 12
	for i := range points {
		at := time.Duration((float64(i) + rand.Float64()) / points * float64(whole))
		signal := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}[i%3]
		example := machine.Start(t, [][]string{nil, {"-keep", "-dns=false"}}[i%2]...)
		time.Sleep(at)
		example.Signal(signal)
		if i%4 == 3 {
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
			example.Signal(signal)
		}
		code := example.Wait(t)
		t.Logf("%v after %v of %v: exit code %d", signal, at.Round(time.Millisecond), whole.Round(time.Millisecond), code)
		if code == 0 && i%2 == 1 { // the signal came when everything was done and the cluster was to stay
			machine.Run(t, 0, "-down")
		}
		example.InterruptedCleanly(t, machine)
	}
}

// A run that is killed cannot clean up. Its containers end by themselves, and the next run or -down removes the rest.
func TestKilled(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	whole := length(t, machine)
	const points = 4
	for i := range points {
		example := machine.Start(t)
		time.Sleep(time.Duration((float64(i) + rand.Float64()) / points * float64(whole)))
		example.Signal(syscall.SIGKILL)
		example.Wait(t)
		kerneltest.Eventually(t, "containers end", func() bool { return len(machine.Processes(t)) == 0 })
		left := len(machine.Traces(t)) > 0
		if i%2 == 0 {
			stdout, _ := machine.Run(t, 0)
			require.Contains(t, stdout, "taken down: 10 namespaces")
		} else {
			stdout, _ := machine.Run(t, 0, "-down")
			require.Truef(t, left || strings.HasPrefix(stdout, "nothing to remove"), stdout)
		}
		machine.NothingLeft(t)
	}
}

func TestKilledWhileKept(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	example := machine.Start(t, "-keep")
	kerneltest.Eventually(t, "containers run", func() bool { return len(machine.Processes(t)) > 3 })
	example.Signal(syscall.SIGKILL)
	example.Wait(t)
	require.NotEmpty(t, machine.Processes(t), "detached containers outlive the program")
	stdout, _ := machine.Run(t, 0)
	require.Contains(t, stdout, "removed what a killed run had left: ")
}

func TestTwoAtATime(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	first := machine.Start(t, "-dns=false")
	kerneltest.Eventually(t, "the first has begun", func() bool { return len(machine.Traces(t)) > 0 })
	for _, args := range [][]string{nil, {"-down"}} {
		_, stderr := machine.Run(t, 1, args...)
		require.Equal(t, fmt.Sprintf("cluster: %q is running in another process\n", machine.Name), stderr)
	}
	require.Equal(t, 0, first.Wait(t), first.Stderr())
}

// Whoever reads the output may go away, like head after its lines.
func TestReaderGoesAway(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	example := machine.StartWithClosedOutput(t, "-dns=false")
	require.Equal(t, 0, example.Wait(t), example.Stderr())
}

// A shell of somebody else in a pod's namespace is not ours to kill.
func TestShellInsideAtDown(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	machine.Run(t, 0, "-keep", "-dns=false")
	ns, err := netns.OpenName("podplumb-" + machine.Name + ".pod.default.pod-1")
	require.NoError(t, err)
	defer ns.Close()
	shell := exec.Command("/bin/sh", "-c", "read line")
	stdin, err := shell.StdinPipe() // it waits for a line from there
	require.NoError(t, err)
	defer stdin.Close()
	require.NoError(t, ns.Start(shell))
	defer func() {
		require.NoError(t, shell.Process.Kill())
		_ = shell.Wait() // killed, as it should be
	}()
	stdout, _ := machine.Run(t, 0, "-down")
	require.Contains(t, stdout, fmt.Sprintf("still there: process %d (sh) in pod.default.pod-1; its namespace goes when it ends\n", shell.Process.Pid))
	machine.NothingLeft(t)
	require.NoError(t, shell.Process.Signal(syscall.Signal(0)), "the shell still runs")
}

// Names that somebody else has given stay, however much they look like ours.
func TestOtherNamesStay(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	name := "podplumb-" + machine.Name + "-other.node.a"
	ns, err := netns.Create(name)
	require.NoError(t, err)
	defer func() {
		ns.Close()
		require.NoError(t, netns.Remove(name))
	}()
	machine.Run(t, 0, "-dns=false")
	machine.Run(t, 0, "-down")
	_, err = os.Stat(netns.RunDir + "/" + name)
	require.NoError(t, err)
}
