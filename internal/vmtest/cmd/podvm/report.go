package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/podplumb/podplumb/internal/vmtest"
)

// runReport compiles the packages that a host run's report names and runs the deferred tests in one boot.
func runReport(ctx context.Context, c vmtest.Config, dir string, flags []string, verbose bool) (int, error) {
	if len(flags) > 0 && flags[0] == "--" {
		flags = flags[1:]
	}
	deferred, err := vmtest.ReadReport(dir)
	if err != nil {
		return exitFault, err
	}
	if len(deferred) == 0 {
		fmt.Println("no test was deferred to the guest")
		return 0, nil
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
	for i, d := range deferred {
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
		job.Stdout, job.Stderr = out, out
		if job.Report == "" {
			job.Report = dir
		}
		jobs, outs = append(jobs, job), append(outs, out)
	}
	ended := 0
	results, runErr := vmtest.Run(ctx, c, jobs)
	code := 0
	for i, r := range results {
		ended++
		missed := deferred[i].Missed(outs[i].all.Bytes())
		if r.Err() == nil && len(missed) == 0 {
			fmt.Printf("ok  \t%s\t%.3fs\t(guest: %d tests)\n", deferred[i].ImportPath, r.Elapsed.Seconds(), len(deferred[i].Tests))
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
		fmt.Printf("FAIL\t%s\t%.3fs\t(guest)\n", deferred[i].ImportPath, r.Elapsed.Seconds())
	}
	if runErr != nil {
		for i, d := range deferred[ended:] {
			outs[ended+i].show()
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
