package container

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/podplumb/podplumb/netns"
)

// Marker is the environment variable that all processes of a run carry, with the run's name as its value. Their children
// inherit it, so whoever cleans up finds them all.
const Marker = "PODPLUMB_EXAMPLE_RUN"

// program is what ps shows as the name of a container's process, and by which Main knows it.
const program = "podplumb-container"

// askProgram is the name under which commands call this program, see Config.Tools.
const askProgram = "ask"

// Config says what all containers of a pod have in common.
type Config struct {
	NetNS  *netns.NS // the pod's namespace
	Run    string    // value of Marker
	Pod    string    // the pod's name
	Detach bool      // the processes outlive this one; otherwise they end when it does, even when it is killed
	Log    *os.File  // where output goes; nil: nowhere
	Tools  string    // directory for a link to this program, with which commands can say "ask HOST:PORT"; empty: they cannot
	Env    []string  // environment in addition to this process's own, as NAME=value
	Etc    bool      // what is in /etc/netns/NAME of the named NetNS, such as resolv.conf, lies over its namesakes in /etc
}

// Process is a running container.
type Process struct {
	Ports []uint16 // that it listens on, in the order in which they were asked for

	cmd      *exec.Cmd
	lifeline *os.File
	done     chan struct{}
	err      error // of Wait; read it after done
}

// Serve starts a container that answers on ports such as "tcp/80" or "udp/53", where 0 means any free port, and returns once
// it listens on all of them.
// A port that is taken is an error with the container's own words.
func Serve(ctx context.Context, config Config, name string, ports ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Args = append([]string{program, config.Pod, name}, ports...)
	ready, childReady, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	cmd.ExtraFiles = []*os.File{childReady}
	process, err := start(config, cmd)
	childReady.Close() // the child has its own; ours would keep the pipe open
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	report, err := bufio.NewReader(ready).ReadString('\n')
	numbers, isReady := strings.CutPrefix(report, readyReport)
	switch {
	case isReady && err == nil:
		for _, number := range strings.Fields(numbers) {
			port, _ := strconv.ParseUint(number, 10, 16)
			process.Ports = append(process.Ports, uint16(port))
		}
		return process, nil
	case ctx.Err() != nil:
		err = ctx.Err()
	case report != "":
		err = errors.New(strings.TrimSpace(report))
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("ended before it listened: %w", process.wait())
	}
	process.Kill()
	return nil, fmt.Errorf("container %s of pod %s: %w", name, config.Pod, err)
}

// Command starts a shell command in the pod's namespace.
func Command(config Config, command string) (*Process, error) {
	var process *Process
	err := config.provideTools()
	if err == nil {
		process, err = start(config, exec.Command("/bin/sh", "-c", command))
	}
	if err != nil {
		return nil, fmt.Errorf("command of pod %s: %w", config.Pod, err)
	}
	return process, nil
}

func (c *Config) provideTools() error {
	if c.Tools == "" {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.Env = append(slices.Clone(c.Env), "PATH="+c.Tools+":"+os.Getenv("PATH"))
	if err := os.Symlink(self, filepath.Join(c.Tools, askProgram)); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func start(config Config, cmd *exec.Cmd) (*Process, error) {
	cmd.Env = append(append(os.Environ(), config.Env...), Marker+"="+config.Run)
	if config.Log != nil { // a nil *os.File in the interface would not be a nil interface
		cmd.Stdout, cmd.Stderr = config.Log, config.Log
	}
	// A group of its own keeps the terminal's ^C away from it: it is stopped in order, and its children with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	process := &Process{cmd: cmd, done: make(chan struct{})}
	var childEnd *os.File
	if config.Detach {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	} else {
		// The container holds the reading end as its standard input. When the last writer is gone, it ends too.
		var err error
		if childEnd, process.lifeline, err = os.Pipe(); err != nil {
			return nil, err
		}
		cmd.Stdin = childEnd
	}
	enter := config.NetNS.Start
	if config.Etc {
		enter = config.NetNS.StartMounted
	}
	err := enter(cmd)
	if childEnd != nil {
		childEnd.Close()
	}
	if err != nil {
		if process.lifeline != nil {
			process.lifeline.Close()
		}
		return nil, err
	}
	go func() {
		process.err = cmd.Wait()
		close(process.done)
	}()
	return process, nil
}

// PID is the id of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running tells whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Err says how the process ended, nil for exit code 0. Use it after Done.
func (p *Process) Err() error { return p.err }

func (p *Process) wait() error {
	<-p.done
	return p.err
}

// Stop asks the process and its children to end, and kills them when they have not after the grace period.
func (p *Process) Stop(grace time.Duration) {
	if p.Running() {
		_ = syscall.Kill(-p.PID(), syscall.SIGTERM)
	}
	select {
	case <-p.done:
	case <-time.After(grace):
	}
	p.Kill()
}

// Release gives up the process without waiting for it: one that is not detached ends by itself, another one stays.
func (p *Process) Release() {
	if p.lifeline != nil {
		_ = p.lifeline.Close()
	}
}

// Kill kills the process and its children and returns when it is gone.
func (p *Process) Kill() {
	if p.Running() { // else its number may be someone else's by now
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	}
	<-p.done
	p.Release()
}
