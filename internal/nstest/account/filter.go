package account

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// event is one line of "go test -json"; see "go doc test2json".
type event struct {
	Action     string
	Package    string
	ImportPath string // instead of Package in what a build says
	Test       string
	Output     string
}

// Filter copies a stream of "go test -json" to w as the lines that go test prints, and returns the outcome of every test and subtest, and of
// every package that failed under an empty name. Of a test that
// passed only its verdict is shown, and of its passing subtests nothing; of one that was skipped, the reason; of one that failed, everything.
func Filter(w io.Writer, r io.Reader) (Results, error) {
	f := filter{w: w, packages: map[string]*transcript{}, results: Results{}}
	in := json.NewDecoder(r)
	for {
		var e event
		if err := in.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("account: read go test -json: %w", err)
		}
		f.take(e)
	}
	for name := range f.packages { // go test itself was cut off
		f.end(name)
	}
	return f.results, f.err
}

type filter struct {
	w        io.Writer
	packages map[string]*transcript
	results  Results
	err      error
}

// transcript is what a package has written so far.
type transcript struct {
	shown strings.Builder             // decided: it will be printed
	open  map[string]*strings.Builder // by test: not decided
	order []string                    // of open
}

func (f *filter) take(e event) {
	if e.Action == "build-output" {
		f.print(e.Output)
	}
	if e.Package == "" {
		return
	}
	p := f.packages[e.Package]
	if p == nil {
		p = &transcript{open: map[string]*strings.Builder{}}
		f.packages[e.Package] = p
	}
	switch e.Action {
	case "output":
		if e.Test == "" && strings.HasPrefix(e.Output, "FAIL\t") { // the package's last line: what is open by now will not end
			f.abandon(e.Package, p)
		}
		p.write(e.Test, e.Output)
	case "pass", "fail", "skip":
		o := Outcome(e.Action)
		if e.Test == "" {
			f.end(e.Package)
			if o == Fail {
				f.results[Test{Package: e.Package}] = o
			}
			return
		}
		f.results[Test{Package: e.Package, Name: e.Test}] = o
		p.decide(e.Test, o)
	}
}

// end prints a package.
func (f *filter) end(name string) {
	p := f.packages[name]
	delete(f.packages, name)
	f.abandon(name, p)
	f.print(p.shown.String())
}

// abandon takes the tests that have no verdict as failed: they were running when their package died.
func (f *filter) abandon(name string, p *transcript) {
	for _, test := range p.order {
		if p.open[test] != nil {
			f.results[Test{Package: name, Name: test}] = Fail
			p.decide(test, Fail)
		}
	}
}

func (f *filter) print(s string) {
	if _, err := io.WriteString(f.w, s); err != nil && f.err == nil {
		f.err = fmt.Errorf("account: print: %w", err)
	}
}

func (p *transcript) write(test, output string) {
	switch {
	case strings.HasPrefix(output, "=== "): // progress
	case test == "" && output == "PASS\n": // the package's own line follows
	case test == "":
		p.shown.WriteString(output)
	default:
		b := p.open[test]
		if b == nil {
			b = &strings.Builder{}
			p.open[test] = b
			p.order = append(p.order, test)
		}
		b.WriteString(output)
	}
}

func (p *transcript) decide(test string, o Outcome) {
	b := p.open[test]
	if b == nil {
		return
	}
	p.open[test] = nil
	if o != Pass {
		p.shown.WriteString(b.String())
		return
	}
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "--- PASS: ") && !strings.Contains(test, "/") {
			p.shown.WriteString(line)
		}
	}
}
