// The policy example shows what network policies do: it builds a small network of the pods of some manifests, asks from every
// pod for every port of every other one before and after the policies, over IPv4 and IPv6, and holds what packets say against
// what policy.Evaluate says.
//
//	sudo go run ./examples/policy                        the shop that is shipped: web, api, database and a default deny
//	sudo go run ./examples/policy -f DIR                 any manifests
//	go run ./examples/policy explain web database:5432   why is this allowed, or not?
//	go run ./examples/policy lint                        what in the policies has no effect?
//	go run ./examples/policy diff OLD NEW                what does a change open and close?
//
// Only the first two need root.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/podplumb/podplumb/examples/internal/report"
	"github.com/podplumb/podplumb/examples/internal/run"
)

func main() { run.Main(Run) }

//go:embed manifests
var shipped embed.FS

type options struct {
	manifests string
	name      string
	out       *report.Printer
}

// Run is the example.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o := options{out: report.New(stdout)}
	flags := flag.NewFlagSet("policy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.manifests, "f", "", "`directory` (or file) of manifests; empty: the shop that is shipped")
	flags.StringVar(&o.name, "name", "policy", "name of this run, part of the names of its namespaces")
	run.Verbosity(flags, &o.out.Verbose, "print what is changed in the kernel, and the reason of each answer")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: policy [flags] [explain FROM TO:PORT | lint | diff OLD NEW]")
		flags.PrintDefaults()
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return run.Proved
	case err != nil:
		return run.Usage
	}
	verb, rest := flags.Arg(0), flags.Args()
	want := map[string]int{"": 0, "explain": 3, "lint": 1, "diff": 3}
	if n, known := want[verb]; !known || n != len(rest) {
		fmt.Fprintf(stderr, "policy: unexpected arguments %q\n", rest)
		flags.Usage()
		return run.Usage
	}
	var err error
	switch verb {
	case "explain":
		err = explain(&o, rest[1], rest[2])
	case "lint":
		err = lint(&o)
	case "diff":
		err = diff(&o, rest[1], rest[2])
	default:
		return enforce(ctx, &o, stderr)
	}
	switch {
	case errors.Is(err, errFound):
		return run.Failed
	case err != nil:
		fmt.Fprintf(stderr, "policy: %v\n", err)
		return run.Usage
	}
	return run.Proved
}

// errFound says that a verb has done its work and has bad news.
var errFound = errors.New("found something")
