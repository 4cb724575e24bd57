package vmtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("vmtest: report: %w", err)
	}
	byPath := map[string]*Deferred{}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("vmtest: report: %w", err)
		}
		err = readReport(f, byPath)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("vmtest: report %s: %w", f.Name(), err)
		}
	}
	out := make([]Deferred, 0, len(byPath))
	for _, d := range byPath {
		slices.Sort(d.Tests)
		slices.Sort(d.Features)
		d.Tests, d.Features = slices.Compact(d.Tests), slices.Compact(d.Features)
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b Deferred) int { return strings.Compare(a.ImportPath, b.ImportPath) })
	return out, nil
}

func readReport(r io.Reader, byPath map[string]*Deferred) error {
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		f := strings.Split(lines.Text(), "\t")
		if len(f) != 4 || f[0] == "" || f[1] == "" || f[2] == "" {
			return fmt.Errorf("line %d: want kind, import path, test and feature with tabs between, not %q", n, lines.Text())
		}
		if f[0] != "guest" {
			continue
		}
		d := byPath[f[1]]
		if d == nil {
			d = &Deferred{ImportPath: f[1]}
			byPath[f[1]] = d
		}
		d.Tests = append(d.Tests, f[2])
		d.Features = append(d.Features, f[3])
	}
	return lines.Err()
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
