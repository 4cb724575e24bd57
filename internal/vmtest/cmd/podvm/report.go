package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/internal/vmtest"
)

// runReport runs the tests that a host run deferred into dir.
func runReport(ctx context.Context, c vmtest.Config, dir string, flags []string, verbose bool) (int, error) {
	deferred, err := vmtest.ReadReport(dir)
	if err != nil {
		return exitFault, err
	}
	if len(deferred) == 0 {
		fmt.Println("no test was deferred to the guest")
		return 0, nil
	}
	report := os.Getenv("PODPLUMB_KERNEL_REPORT")
	if report == "" {
		report = dir
	}
	return runTests(ctx, c, deferred, report, flags, verbose)
}

// runPackages runs all kernel tests of the packages, which the sources below the working folder declare.
func runPackages(ctx context.Context, c vmtest.Config, args []string, verbose bool) (int, error) {
	paths, flags := args, []string(nil)
	if i := slices.Index(args, "--"); i >= 0 {
		paths, flags = args[:i], args[i+1:]
	}
	if len(paths) == 0 {
		return 2, errors.New("podvm: packages: which?")
	}
	tests, err := vmtest.KernelTests(".", paths)
	if err != nil {
		return exitFault, err
	}
	report := os.Getenv("PODPLUMB_KERNEL_REPORT")
	if report == "" {
		if report, err = os.MkdirTemp("", "podvm-report-"); err != nil {
			return exitFault, err
		}
		defer os.RemoveAll(report)
	}
	return runTests(ctx, c, tests, report, flags, verbose)
}

// runTests compiles the packages and runs the tests in one boot. What the guest reports goes into the folder.
func runTests(ctx context.Context, c vmtest.Config, tests []vmtest.Deferred, report string, flags []string, verbose bool) (int, error) {
	if len(flags) > 0 && flags[0] == "--" {
		flags = flags[1:]
	}
	if err := vmtest.Check(); err != nil {
		return exitFault, err
	}
	work, err := os.MkdirTemp("", "podvm-")
	if err != nil {
		return exitFault, err
	}
	defer os.RemoveAll(work)
	var jobs []vmtest.Job
	var outs []*packageOutput
	for i, d := range tests {
		binary := filepath.Join(work, fmt.Sprint(i)+".test")
		folder, err := compile(ctx, d.ImportPath, binary)
		if err != nil {
			return 1, err
		}
		args := append([]string{"-test.v", "-test.timeout=10m", "-test.run=" + d.Pattern()}, flags...)
		job, err := vmtest.TestJob(folder, binary, args...)
		if err != nil {
			return exitFault, err
		}
		out := &packageOutput{w: os.Stdout, verbose: verbose}
		job.Stdout, job.Stderr, job.Report = out, out, report
		jobs, outs = append(jobs, job), append(outs, out)
	}
	results, runErr := vmtest.Run(ctx, c, jobs)
	code := 0
	for i, r := range results {
		missed, tooNew, err := tests[i].Judge(outs[i].all.Bytes(), report)
		if err != nil {
			return exitFault, err
		}
		for _, line := range tooNew {
			fmt.Printf("    too new for the guest's kernel: %s\n", line)
		}
		if r.Err() == nil && len(missed) == 0 {
			fmt.Printf("ok  \t%s\t%.3fs\t(guest: %d tests)\n", tests[i].ImportPath, r.Elapsed.Seconds(), len(tests[i].Tests)-len(tooNew))
			continue
		}
		code = 1
		outs[i].show()
		for _, m := range missed {
			fmt.Printf("    guest: %s\n", m)
		}
		if err := r.Err(); err != nil && (r.Signal != "" || r.TimedOut) {
			fmt.Println(err)
		}
		fmt.Printf("FAIL\t%s\t%.3fs\t(guest)\n", tests[i].ImportPath, r.Elapsed.Seconds())
	}
	if runErr != nil {
		for i, d := range tests[len(results):] {
			outs[len(results)+i].show()
			fmt.Printf("FAIL\t%s\t(guest: did not end)\n", d.ImportPath)
		}
		return exitFault, runErr
	}
	return code, nil
}

// compile builds a package's test binary without cgo, so that the guest needs no C library for it, and returns the package's folder.
func compile(ctx context.Context, importPath, binary string) (string, error) {
	var dir bytes.Buffer
	list := exec.CommandContext(ctx, "go", "list", "-json=Dir", importPath)
	list.Stdout, list.Stderr = &dir, os.Stderr
	if err := list.Run(); err != nil {
		return "", fmt.Errorf("podvm: go list %s: %w", importPath, err)
	}
	var pkg struct{ Dir string }
	if err := json.Unmarshal(dir.Bytes(), &pkg); err != nil {
		return "", fmt.Errorf("podvm: go list %s: %w", importPath, err)
	}
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, importPath)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("podvm: go test -c %s: %w", importPath, err)
	}
	if _, err := os.Stat(binary); err != nil {
		return "", fmt.Errorf("podvm: %s has no tests: %w", importPath, err)
	}
	return pkg.Dir, nil
}

// packageOutput keeps what the tests of a package print and shows, as it comes, what go test would: with verbose everything, else a
// line for each top-level test that ends.
type packageOutput struct {
	w       io.Writer
	verbose bool
	all     bytes.Buffer
	line    []byte
}

func (p *packageOutput) Write(b []byte) (int, error) {
	p.all.Write(b)
	if p.verbose {
		return p.w.Write(b)
	}
	p.line = append(p.line, b...)
	for {
		line, rest, ok := bytes.Cut(p.line, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		if s := string(line); strings.HasPrefix(s, "--- ") {
			fmt.Fprintln(p.w, s)
		}
		p.line = rest
	}
}

// show prints everything, unless it was shown as it came.
func (p *packageOutput) show() {
	if !p.verbose {
		_, _ = p.w.Write(p.all.Bytes())
	}
}
