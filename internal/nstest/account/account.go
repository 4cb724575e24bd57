package account

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Test names one test or subtest.
type Test struct {
	Package string // import path
	Name    string // as testing.T.Name gives it
}

func (t Test) String() string { return t.Package + " " + t.Name }

func (t Test) compare(u Test) int {
	return cmp.Or(cmp.Compare(t.Package, u.Package), cmp.Compare(t.Name, u.Name))
}

// Evidence is what is known about the kernel tests of one run of all stages.
type Evidence struct {
	Declared []Test  // by the sources
	Report   Report  // written by nstest.Require on the host
	Host     Results // of go test on the host
	Guest    Report  // written by nstest.Require in the guest
}

// Verdict says where each kernel test ran. The lists are sorted and share no test.
type Verdict struct {
	Host    []Test
	Guest   []Test
	TooNew  []Test // the kernel is of a release before what they test
	Nowhere []Test
}

// Settle holds the lists against each other. A kernel test is one that the sources declare or that asked for a kernel feature on the host. It ran on the
// host if go test says so, and in the guest if all that it asked for there was to be had; what then became of it, the guest's exit status tells.
func Settle(e Evidence) Verdict {
	tests := slices.Clone(e.Declared)
	for t := range e.Report {
		tests = append(tests, t)
	}
	slices.SortFunc(tests, Test.compare)
	var v Verdict
	for _, t := range slices.Compact(tests) {
		switch {
		case e.Host[t].ran():
			v.Host = append(v.Host, t)
		case e.Guest[t].ran():
			v.Guest = append(v.Guest, t)
		case len(e.Report[t].TooOld()) > 0:
			v.TooNew = append(v.TooNew, t)
		default:
			v.Nowhere = append(v.Nowhere, t)
		}
	}
	return v
}

// Print writes the summary line and, above it, each test that ran nowhere with what is known about it.
func (v Verdict) Print(w io.Writer, e Evidence) error {
	var b strings.Builder
	for _, t := range v.TooNew {
		fmt.Fprintf(&b, "too new for this kernel: %s, needs %s\n", t, strings.Join(e.Report[t].TooOld(), ", "))
	}
	for _, t := range v.Nowhere {
		fmt.Fprintf(&b, "ran nowhere: %s (host: %s, guest: %s", t, e.Host[t], e.Guest[t])
		if missing := e.Report[t].missing(); len(missing) > 0 {
			fmt.Fprintf(&b, "; needs %s", strings.Join(missing, ", "))
		}
		b.WriteString(")\n")
	}
	fmt.Fprintf(&b, "kernel tests: %d on the host, %d in the guest, %d nowhere", len(v.Host), len(v.Guest), len(v.Nowhere))
	if len(v.TooNew) > 0 {
		fmt.Fprintf(&b, ", %d too new", len(v.TooNew))
	}
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}
