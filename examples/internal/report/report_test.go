package report_test

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/conditions"
	"github.com/podplumb/podplumb/examples/internal/report"
)

// text is what was printed, with all times alike.
func text(out *bytes.Buffer) string {
	return regexp.MustCompile(`\(\d+ ms\)`).ReplaceAllString(out.String(), "(0 ms)")
}

func TestSteps(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := report.New(&out)
	p.Verbose = 1
	failure := errors.New("no room")
	err := p.Steps(context.Background(),
		report.Step{Title: "one", Do: func(context.Context) (string, error) {
			require.Equal(t, "one ........................................... ", out.String(), "shown before the work begins")
			return "fine", nil
		}},
		report.Step{Title: "two", Do: func(context.Context) (string, error) {
			p.Detail(1, "node-a", "+ link a\n+ link b\n")
			p.Detail(1, "node-b", "")
			p.Detail(2, "node-b", "too much detail")
			return "done", nil
		}},
		report.Step{Title: "three", Do: func(context.Context) (string, error) { return "", failure }},
		report.Step{Title: "four", Do: func(context.Context) (string, error) { panic("after a failure") }},
	)
	require.ErrorIs(t, err, failure)
	require.EqualError(t, err, "three: no room")
	require.Equal(t, `one ........................................... fine (0 ms)
two ........................................... 
  on node-a:
    + link a
    + link b
  two: done (0 ms)
three ......................................... FAILED
`, text(&out))
}

func TestStepsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	err := report.New(&bytes.Buffer{}).Steps(ctx,
		report.Step{Title: "one", Do: func(context.Context) (string, error) { cancel(); return "", nil }},
		report.Step{Title: "two", Do: func(context.Context) (string, error) { panic("after ^C") }},
	)
	require.ErrorIs(t, err, context.Canceled)
}

func TestConditions(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := report.New(&out)
	require.False(t, p.Conditions([]conditions.Result{
		{Number: 1, Title: "first", Summary: "tried", Evidence: []string{"a", "b", "c", "d"}},
		{Number: 2, Title: "second", Summary: "tried", Faults: []error{errors.New("broken")}},
	}, 2))
	require.Equal(t, `ok      1. first: tried
          a
          b
          ... 2 more lines with -v
FAILED  2. second: tried
          but: broken
`, out.String())
	require.True(t, p.Conditions([]conditions.Result{{Number: 1, Title: "first", Summary: "tried", Evidence: []string{"a", "b", "c"}}}, 2), "one line more costs no more than to say so")
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	report.New(&out).Table([]string{"A", "B", "C"}, []string{"naïvely", "x", ""}, []string{"s", "", "z"})
	require.Equal(t, "  A        B  C\n  naïvely  x\n  s           z\n", out.String())
}
