package container

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// Program starts this very program once more inside the pod's namespace, with other arguments. To end when this process does, it
// has to use [FollowStarter].
func Program(config Config, name string, args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = name
	return start(config, cmd)
}

// errStarterGone ends what follows its starter.
var errStarterGone = errors.New("the process that started this one is gone")

// FollowStarter returns a context that ends with ctx and, in a process of Program that is not detached, with the process that
// started it.
func FollowStarter(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		if waitForStarter() {
			cancel(errStarterGone)
		}
	}()
	return ctx
}

// waitForStarter returns true when the pipe on standard input closes: its other end is in the process that has started this
// one. It returns false at once in a process that is detached.
func waitForStarter() bool {
	var stat syscall.Stat_t
	if err := syscall.Fstat(0, &stat); err != nil || stat.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return false
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // nothing ever comes; it ends
	return true
}
