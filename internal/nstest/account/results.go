package account

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Results maps each test of a run to its outcome.
type Results map[Test]Outcome

// Outcome is the last word of go test on a test.
type Outcome string

// The outcomes.
const (
	Absent  Outcome = ""     // it never started
	Pass    Outcome = "pass" // it ran to its end
	Fail    Outcome = "fail" // it failed, or did not come to its end
	Skipped Outcome = "skip" // it skipped itself
)

func (o Outcome) String() string {
	switch o {
	case Absent:
		return "not started"
	case Skipped:
		return "skipped"
	default:
		return string(o)
	}
}

// ran reports whether the test did its work. A failure counts: go test has told about it already.
func (o Outcome) ran() bool { return o == Pass || o == Fail }

// Tests returns the tests and subtests that have that outcome, sorted.
func (r Results) Tests(o Outcome) []Test {
	var tests []Test
	for t, got := range r {
		if got == o {
			tests = append(tests, t)
		}
	}
	slices.SortFunc(tests, Test.compare)
	return tests
}

// Write stores the results as lines "outcome<TAB>import path<TAB>test" that ReadResults reads.
func (r Results) Write(w io.Writer) error {
	out := bufio.NewWriter(w)
	for t, o := range r {
		fmt.Fprintf(out, "%s\t%s\t%s\n", string(o), t.Package, t.Name)
	}
	return out.Flush()
}

// ReadResults reads a file that Write made. A file that does not exist gives no results: that stage did not run.
func ReadResults(path string) (Results, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Results{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("account: read results: %w", err)
	}
	r := Results{}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 3 {
			return nil, fmt.Errorf("account: read results %s: not a result: %q", path, line)
		}
		r[Test{Package: f[1], Name: f[2]}] = Outcome(f[0])
	}
	return r, nil
}
