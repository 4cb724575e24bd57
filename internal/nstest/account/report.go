package account

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Report holds what nstest.Require recorded: for each test the kernel features that it asked for.
type Report map[Test]Asked

// Asked maps a kernel feature to what came of asking for it.
type Asked map[string]Answer

// Answer is what Require did.
type Answer string

// The answers.
const (
	AnswerRun   Answer = "run"   // the feature is there
	AnswerSkip  Answer = "skip"  // it is missing and the test was skipped
	AnswerGuest Answer = "guest" // it is missing and the test was left to the guest
	AnswerOld   Answer = "old"   // it is missing because the kernel is of an earlier release
)

// ReadReport reads all files of a folder that was PODPLUMB_KERNEL_REPORT. A folder that does not exist is an error.
func ReadReport(dir string) (Report, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("account: read report: %w", err)
	}
	r := Report{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("account: read report: %w", err)
		}
		err = r.read(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("account: read report %s: %w", path, err)
		}
	}
	return r, nil
}

// read adds lines "answer<TAB>import path<TAB>test<TAB>feature".
func (r Report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		f := strings.Split(lines.Text(), "\t")
		if len(f) != 4 || f[1] == "" || f[2] == "" {
			return fmt.Errorf("line %d: %d fields, want 4: %q", n, len(f), lines.Text())
		}
		answer, test := Answer(f[0]), Test{Package: f[1], Name: f[2]}
		if !slices.Contains([]Answer{AnswerRun, AnswerSkip, AnswerGuest, AnswerOld}, answer) {
			return fmt.Errorf("line %d: unknown answer %q", n, f[0])
		}
		if r[test] == nil {
			r[test] = Asked{}
		}
		if old := r[test][f[3]]; old == "" || old == AnswerRun { // what was missing once was not there for all of the test
			r[test][f[3]] = answer
		}
	}
	return lines.Err()
}

// ran reports whether nothing kept the test from doing its work.
func (a Asked) ran() bool { return len(a) > 0 && len(a.missing()) == 0 }

// TooOld lists the features that the kernel was too old for, if those are all that was missing.
func (a Asked) TooOld() []string {
	missing := a.missing()
	for _, feature := range missing {
		if a[feature] != AnswerOld {
			return nil
		}
	}
	return missing
}

// String says what came of the test.
func (a Asked) String() string {
	switch {
	case len(a) == 0:
		return Absent.String()
	case a.ran():
		return string(AnswerRun)
	default:
		return "lacks " + strings.Join(a.missing(), ", ")
	}
}

// missing lists the features that were asked for in vain.
func (a Asked) missing() []string {
	var features []string
	for feature, answer := range a {
		if answer != AnswerRun {
			features = append(features, feature)
		}
	}
	slices.Sort(features)
	return features
}
