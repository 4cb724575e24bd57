package vmtest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/internal/nstest/account"
)

// Deferred is the tests of one package that run in the guest, as a rule because a host run left them to it.
type Deferred struct {
	ImportPath string
	Tests      []string // names as testing.T.Name gives them, sorted
	Features   []string // what the host's kernel lacks, sorted
}

// ReadReport collects the "guest" lines of all files in a report folder, sorted by import path. Lines of other kinds are left out;
// a malformed line is an error.
func ReadReport(dir string) ([]Deferred, error) {
	report, err := account.ReadReport(dir)
	if err != nil {
		return nil, fmt.Errorf("vmtest: %w", err)
	}
	byPath := map[string]*Deferred{}
	for test, asked := range report {
		for feature, answer := range asked {
			if answer != account.AnswerGuest {
				continue
			}
			d := byPath[test.Package]
			if d == nil {
				d = &Deferred{ImportPath: test.Package}
				byPath[test.Package] = d
			}
			d.Tests = append(d.Tests, test.Name)
			d.Features = append(d.Features, feature)
		}
	}
	out := make([]Deferred, 0, len(byPath))
	for _, path := range slices.Sorted(maps.Keys(byPath)) {
		d := byPath[path]
		slices.Sort(d.Tests)
		slices.Sort(d.Features)
		out = append(out, Deferred{ImportPath: path, Tests: slices.Compact(d.Tests), Features: slices.Compact(d.Features)})
	}
	return out, nil
}

// Pattern is the value for -test.run that selects exactly these tests.
func (d Deferred) Pattern() string {
	patterns := make([]string, len(d.Tests))
	for i, t := range d.Tests {
		levels := strings.Split(t, "/")
		for j, l := range levels {
			levels[j] = "^" + regexp.QuoteMeta(l) + "$"
		}
		patterns[i] = strings.Join(levels, "/")
	}
	return strings.Join(patterns, "|")
}

// KernelTests lists the kernel tests that the sources below root declare in these packages, in their order. A package without any is an error.
func KernelTests(root string, importPaths []string) ([]Deferred, error) {
	declared, err := account.Declared(root)
	if err != nil {
		return nil, fmt.Errorf("vmtest: %w", err)
	}
	out := make([]Deferred, len(importPaths))
	for i, path := range importPaths {
		out[i].ImportPath = path
		for _, t := range declared {
			if t.Package == path {
				out[i].Tests = append(out[i].Tests, t.Name)
			}
		}
		if out[i].Tests == nil {
			return nil, fmt.Errorf("vmtest: %s declares no kernel test", path)
		}
	}
	return out, nil
}

var outcomeLine = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL|SKIP): (\S+) \(`)

// Judge looks at what the guest said of the tests: the output of a run with -test.v and the reports that were carried back to a folder. Missed are
// those that did not pass and the subtests that were skipped, each with what happened; tooNew are those skipped whose feature came with a later
// kernel than the guest's.
func (d Deferred) Judge(output []byte, reports string) (missed, tooNew []string, err error) {
	guest, err := account.ReadReport(reports)
	if err != nil {
		return nil, nil, fmt.Errorf("vmtest: %w", err)
	}
	outcome := map[string]string{}
	for _, m := range outcomeLine.FindAllSubmatch(output, -1) {
		outcome[string(m[2])] = string(m[1])
	}
	tests := slices.Clone(d.Tests)
	for t, o := range outcome {
		if o == "SKIP" {
			tests = append(tests, t)
		}
	}
	slices.Sort(tests)
	for _, t := range slices.Compact(tests) {
		lacks := guest[account.Test{Package: d.ImportPath, Name: t}].TooOld()
		switch o := outcome[t]; {
		case o == "PASS":
		case o == "SKIP" && len(lacks) > 0:
			tooNew = append(tooNew, t+": needs "+strings.Join(lacks, ", "))
		case o == "":
			missed = append(missed, t+": did not run")
		default:
			missed = append(missed, t+": "+o)
		}
	}
	return missed, tooNew, nil
}
