package run

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/podplumb/podplumb/examples/internal/container"
)

// Exit codes of the examples.
const (
	Proved      = 0   // everything holds
	Failed      = 1   // something does not hold, or could not be built
	Usage       = 2   // the command line or the manifests are at fault; nothing was built
	Interrupted = 130 // stopped by a signal
)

// Example is the main function of an example. It returns an exit code. A cancelled context means that somebody pressed ^C.
type Example func(ctx context.Context, args []string, stdout, stderr io.Writer) int

// Main runs an example with the process's arguments and streams, or, in a process that an example has started as a
// container, that container. It does not return.
func Main(example Example) {
	container.Main()
	// The signals stay caught while the example takes things down: a second ^C must not leave half of them behind.
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	// A reader of our output that goes away, such as head, must not kill us before we have cleaned up.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(example(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Parse parses a command line that has flags and nothing else. When ok is false the example ends with the code.
func Parse(flags *flag.FlagSet, args []string, stderr io.Writer) (code int, ok bool) {
	flags.SetOutput(stderr)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return Proved, false
	case err != nil:
		return Usage, false
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "%s: unexpected argument %q\n", flags.Name(), flags.Arg(0))
		return Usage, false
	}
	return 0, true
}

// Verbosity adds the flag -v, which may be given several times.
func Verbosity(flags *flag.FlagSet, level *int, usage string) {
	flags.BoolFunc("v", usage, func(string) error { *level++; return nil })
}

// Explain prints why an example ends early, with advice where there is some, and returns the exit code.
func Explain(ctx context.Context, stderr io.Writer, name string, err error) int {
	switch {
	case ctx.Err() != nil:
		fmt.Fprintf(stderr, "%s: interrupted\n", name)
		return Interrupted
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		fmt.Fprintf(stderr, "%s: %v\n%s: network namespaces need root: sudo go run ./examples/%s\n", name, err, name, name)
	default:
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
	}
	return Failed
}
