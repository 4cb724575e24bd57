package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/podplumb/podplumb/internal/vmtest"
)

// runBinaries runs one test binary with its arguments, or, when a second "--" ends the list of binaries, several with the same
// arguments. The exit code is that of the first that failed.
func runBinaries(ctx context.Context, c vmtest.Config, args []string) (int, error) {
	if len(args) == 0 {
		return 2, errors.New("podvm: which test binary?")
	}
	binaries, flags := args[:1], args[1:]
	if i := slices.Index(args, "--"); i > 0 {
		binaries, flags = args[:i], args[i+1:]
	}
	var jobs []vmtest.Job
	for _, b := range binaries {
		job, err := vmtest.TestJob("", b, flags...)
		if err != nil {
			return exitFault, err
		}
		job.Stdout, job.Stderr = os.Stdout, os.Stderr
		jobs = append(jobs, job)
	}
	results, err := vmtest.Run(ctx, c, jobs)
	if err != nil {
		return exitFault, err
	}
	code := 0
	for i, r := range results {
		if r.Signal != "" || r.TimedOut {
			fmt.Fprintf(os.Stderr, "%s: %v\n", binaries[i], r.Err())
		}
		switch {
		case code != 0 || r.Err() == nil:
		case r.Exit > 0:
			code = r.Exit
		default:
			code = 1
		}
	}
	return code, nil
}
