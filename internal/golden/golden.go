package golden

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the expected files of golden tests with what the code gives now")

// Updating reports whether the test runs with -update, for tests that keep an expected file of their own kind.
func Updating() bool { return *update }

// Case is one archive while a test runs on it.
type Case struct {
	Name    string // the archive's file name without folder and extension
	Comment string // the text before its first file, trimmed

	t       *testing.T
	path    string
	archive Archive
	used    map[string]bool
	changed bool
}

// Cases runs f as a subtest for every archive that the pattern (as in filepath.Glob) matches, in the order of their names. No match at all is a
// failure. f may call t.Parallel.
func Cases(t *testing.T, pattern string, f func(t *testing.T, c *Case)) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.NotEmpty(t, paths, "no golden file matches %s", pattern)
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			c := &Case{Name: name, t: t, path: path, archive: Parse(data), used: map[string]bool{}}
			c.Comment = strings.TrimSpace(c.archive.Comment)
			t.Cleanup(c.finish)
			f(t, c)
		})
	}
}

// File returns the content of an input file and fails the test when the archive has none of that name.
func (c *Case) File(name string) string {
	c.t.Helper()
	f := c.archive.Lookup(name)
	require.NotNil(c.t, f, "%s has no file %q", c.path, name)
	c.used[name] = true
	return f.Data
}

// Has reports whether the archive has a file of that name: an input that a case may leave out.
func (c *Case) Has(name string) bool { return c.archive.Lookup(name) != nil }

// Names returns the names of all files in their order.
func (c *Case) Names() []string {
	var names []string
	for _, f := range c.archive.Files {
		names = append(names, f.Name)
	}
	return names
}

// Want compares what the code gives with the archive's file of that name and fails the test when they differ or when there is no such file. With
// -update it records got instead.
func (c *Case) Want(name, got string) {
	c.t.Helper()
	got = normalise(got)
	require.Zero(c.t, markerLine(got), "%s: output %q has a line that reads as a file marker", c.path, name)
	c.used[name] = true
	f := c.archive.Lookup(name)
	switch {
	case *update && f == nil:
		c.archive.Files = append(c.archive.Files, File{Name: name, Data: got})
		c.changed = true
	case *update:
		c.changed = c.changed || f.Data != got
		f.Data = got
	case f == nil:
		require.Fail(c.t, "no expected output", "%s has no file %q; go test -update adds it:\n%s", c.path, name, got)
	default:
		require.Equal(c.t, f.Data, got, "%s: %s differs; if that is intended: go test -update", c.path, name)
	}
}

// finish writes an updated archive back, or fails the test for files that it never looked at.
func (c *Case) finish() {
	if c.t.Failed() || c.t.Skipped() {
		return
	}
	if idle := slices.DeleteFunc(c.Names(), func(n string) bool { return c.used[n] }); len(idle) > 0 {
		c.t.Errorf("%s: the test never looks at %s", c.path, strings.Join(idle, ", "))
		return
	}
	if !c.changed {
		return
	}
	data, err := c.archive.Format()
	require.NoError(c.t, err)
	require.NoError(c.t, os.WriteFile(c.path, data, 0o644))
}
