package vmtest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/internal/nstest/account"
)

// Deferred is the tests of one package that a host run left to the guest.
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

var outcomeLine = regexp.MustCompile(`(?m)^\s*--- (PASS|FAIL|SKIP): (\S+) \(`)

// Missed returns those of the tests that did not pass according to the output of a run with -test.v, each with what happened.
func (d Deferred) Missed(output []byte) []string {
	outcome := map[string]string{}
	for _, m := range outcomeLine.FindAllSubmatch(output, -1) {
		outcome[string(m[2])] = string(m[1])
	}
	var missed []string
	for _, t := range d.Tests {
		switch o := outcome[t]; o {
		case "PASS":
		case "":
			missed = append(missed, t+": did not run")
		default:
			missed = append(missed, t+": "+o)
		}
	}
	return missed
}
