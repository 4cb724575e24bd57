package golden_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/golden"
)

func TestCases(t *testing.T) {
	t.Parallel()
	var names []string
	golden.Cases(t, "testdata/*.txtar", func(t *testing.T, c *golden.Case) {
		names = append(names, c.Name)
		require.NotEmpty(t, c.Comment)
		out := strings.ToUpper(c.File("in"))
		if c.Has("suffix") {
			out += strings.TrimSpace(c.File("suffix"))
		}
		c.Want("upper", out)
	})
	if len(names) > 0 { // none with -run of a single case
		require.IsIncreasing(t, names)
	}
}

// TestChild is also what TestUpdate runs in a process of its own, on a folder where it fails or rewrites files.
func TestChild(t *testing.T) {
	dir := os.Getenv("GOLDEN_TEST_DIR")
	if dir == "" {
		dir = "testdata/child"
	}
	golden.Cases(t, filepath.Join(dir, "*.txtar"), func(t *testing.T, c *golden.Case) {
		t.Parallel()
		c.Want("out", strings.ToUpper(c.File("in")))
	})
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		in      string
		check   string // what a run without -update prints; empty: it passes
		updated string // the archive after a run with -update
		refused string // what a run with -update prints; empty: it passes
	}{
		{name: "same", in: "-- in --\na\n-- out --\nA\n", updated: "-- in --\na\n-- out --\nA\n"},
		{name: "differs", in: "c\n-- in --\na\n-- out --\nB\n", check: "out differs", updated: "c\n-- in --\na\n-- out --\nA\n"},
		{name: "absent", in: "-- in --\na\n", check: `has no file "out"`, updated: "-- in --\na\n-- out --\nA\n"},
		{name: "no input", in: "-- out --\nA\n", check: `has no file "in"`, updated: "-- out --\nA\n", refused: `has no file "in"`},
		{
			name: "idle file", in: "-- in --\na\n-- out --\nA\n-- ouch --\n", check: "never looks at ouch",
			updated: "-- in --\na\n-- out --\nA\n-- ouch --\n", refused: "never looks at ouch",
		},
		{name: "no case", check: "no golden file matches", refused: "no golden file matches"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "case.txtar")
			if tt.in != "" {
				require.NoError(t, os.WriteFile(path, []byte(tt.in), 0o600))
			}
			child := func(message string, args ...string) {
				cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestChild$"}, args...)...)
				cmd.Env = append(os.Environ(), "GOLDEN_TEST_DIR="+dir)
				out, err := cmd.CombinedOutput()
				if message == "" {
					require.NoError(t, err, string(out))
					return
				}
				require.Error(t, err)
				require.Contains(t, string(out), message)
			}
			child(tt.check)
			child(tt.refused, "-update")
			if tt.in == "" {
				return
			}
			got, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, tt.updated, string(got))
		})
	}
}
