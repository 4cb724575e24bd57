// The serviceproxy example keeps the Services of a cluster on one node, in place of kube-proxy. It takes the objects from
// a Kubernetes API server or from a directory of manifests, and hands every change to package service, which turns it into
// one small change in the kernel.
//
//	serviceproxy --kubeconfig FILE              follow an API server (in a pod: its own service account)
//	serviceproxy --manifests DIR                follow a directory
//	serviceproxy --manifests DIR --dry-run      say what would change in the kernel, and change nothing
//	serviceproxy explain SRC DST:PORT[/udp]     say what the node does with a packet, and why
//	serviceproxy --cleanup                      remove all that it has left in the kernel
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/podplumb/podplumb/examples/internal/run"
)

func main() { run.Main(Run) }

// Run is the example.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	do := serve
	if len(args) > 0 && args[0] == "explain" {
		do, args = explain, args[1:]
	}
	o, code, ok := parse(args, stderr)
	if !ok {
		return code
	}
	switch {
	case o.cleanup:
		do = cleanup
	case o.dryRun:
		do = dryRun
	}
	level := slog.LevelInfo
	if o.verbosity >= 2 {
		level = slog.LevelDebug
	}
	err := do(ctx, o, stdout, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})))
	var usage *usageError
	switch {
	case err == nil:
		return run.Proved
	case errors.As(err, &usage):
		fmt.Fprintln(stderr, "serviceproxy:", err)
		return run.Usage
	case ctx.Err() != nil:
		return run.Interrupted
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		err = fmt.Errorf("%w (it needs root, or CAP_NET_ADMIN)", err)
	}
	fmt.Fprintln(stderr, "serviceproxy:", err)
	return run.Failed
}

// usageError is a fault of the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }
