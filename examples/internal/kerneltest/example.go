package kerneltest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/netns"
)

// Machine is a network namespace in which examples are started, as in the one of a machine.
type Machine struct {
	Name string // of the runs on it, different from that of all other tests that may be under way

	ns *netns.NS
}

var machines atomic.Int32

// NewMachine makes a namespace and checks at the end of the test that nobody has left anything in it, and that nothing is
// left of its runs.
func NewMachine(t testing.TB) *Machine {
	t.Helper()
	Require(t)
	ns, err := netns.New()
	require.NoError(t, err)
	m := &Machine{Name: fmt.Sprintf("test-%d-%d", os.Getpid(), machines.Add(1)), ns: ns}
	require.NoError(t, ns.LoopbackUp())
	t.Cleanup(func() {
		defer ns.Close()
		defer func() { _, _ = run.Down(m.Name) }() // a test that has failed is not to spoil the machine for others
		m.NothingLeft(t)
	})
	return m
}

// Example is a running example.
type Example struct {
	cmd            *exec.Cmd
	stdout, stderr lockedBuffer
	done           chan struct{}
	err            error // of Wait; read it after done
}

// Start starts the example of this package with the given arguments, after the one that gives it the machine's run name.
func (m *Machine) Start(t testing.TB, args ...string) *Example {
	t.Helper()
	return m.start(t, nil, args)
}

// StartIn starts the example of this package with these arguments and no others, in a namespace that the test has made.
func StartIn(t testing.TB, ns *netns.NS, args ...string) *Example {
	t.Helper()
	return launch(t, ns, nil, args)
}

// StartWithClosedOutput starts the example with an output that nobody reads any more.
func (m *Machine) StartWithClosedOutput(t testing.TB, args ...string) *Example {
	t.Helper()
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, reader.Close())
	defer writer.Close()
	return m.start(t, writer, args)
}

func (m *Machine) start(t testing.TB, stdout *os.File, args []string) *Example {
	t.Helper()
	return launch(t, m.ns, stdout, append([]string{"-name", m.Name}, args...))
}

func launch(t testing.TB, ns *netns.NS, stdout *os.File, args []string) *Example {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	e := &Example{done: make(chan struct{})}
	e.cmd = exec.Command(self, args...)
	e.cmd.Env = append(os.Environ(), envExample+"=1", "GORACE=atexit_sleep_ms=0") // the race detector would sleep for a second at each exit
	e.cmd.Stdout, e.cmd.Stderr = &e.stdout, &e.stderr
	if stdout != nil {
		e.cmd.Stdout = stdout
	}
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a shell does it: ^C goes to this group
	e.cmd.WaitDelay = 5 * time.Second                       // a container that holds our pipes for longer is a leak
	require.NoError(t, ns.Start(e.cmd))
	go func() {
		e.err = e.cmd.Wait()
		close(e.done)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-e.cmd.Process.Pid, syscall.SIGKILL)
		<-e.done
	})
	return e
}

// Run runs the example to its end and requires the exit code.
func (m *Machine) Run(t testing.TB, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	e := m.Start(t, args...)
	got := e.Wait(t)
	require.Equalf(t, code, got, "exit code of %v\n%s\n%s", args, e.Stdout(), e.Stderr())
	return e.Stdout(), e.Stderr()
}

// Signal sends a signal to the example as a terminal does: to its process group.
func (e *Example) Signal(signal syscall.Signal) {
	_ = syscall.Kill(-e.cmd.Process.Pid, signal)
}

// InterruptedCleanly requires that an example that got a signal ends with the exit code for it (or with 0, when it was
// through; or dies from it, when it had not yet begun) and that nothing is left.
func (e *Example) InterruptedCleanly(t testing.TB, m *Machine) {
	t.Helper()
	require.Contains(t, []int{0, 130, -1}, e.Wait(t), e.Stderr())
	m.NothingLeft(t)
}

// Wait returns the exit code, -1 after death by a signal.
func (e *Example) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-e.done:
	case <-time.After(2 * time.Minute):
		t.Fatalf("the example does not end\n%s\n%s", e.Stdout(), e.Stderr())
	}
	require.NotErrorIs(t, e.err, exec.ErrWaitDelay, "a process that outlives the example holds its output")
	return e.cmd.ProcessState.ExitCode()
}

// Stdout is what the example has printed so far.
func (e *Example) Stdout() string { return e.stdout.String() }

// Stderr is what the example has complained about so far.
func (e *Example) Stderr() string { return e.stderr.String() }

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
