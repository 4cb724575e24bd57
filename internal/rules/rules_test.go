package rules_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/golden"
)

// rules are checked on the tree. Each also has a case testdata/NAME.txtar, a small tree that breaks it: a rule that finds nothing proves nothing.
var rules = map[string]func([]file) faults{
	"imports-inside":  importsInside,
	"imports-outside": importsOutside,
	"root-module":     rootModule,
	"netlink-files":   netlinkFiles,
	"calls":           calls,
	"declarations":    declarations,
	"test-packages":   testPackages,
	"kernel-tests":    kernelTests,
	"top-level":       topLevel,
	"file-names":      fileNames,
	"room-files":      roomFiles,
	"file-length":     fileLength,
	"package-docs":    packageDocs,
	"words":           words,
	"readme":          readmeNames,
}

func TestTree(t *testing.T) {
	t.Parallel()
	files, err := readTree("../..")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for name, check := range rules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Empty(t, strings.Join(check(files), "\n"))
		})
	}
}

func TestRulesFindFaults(t *testing.T) {
	t.Parallel()
	var cases []string
	golden.Cases(t, "testdata/*.txtar", func(t *testing.T, c *golden.Case) {
		cases = append(cases, c.Name)
		check := rules[c.Name]
		require.NotNil(t, check, "no rule of that name")
		var files []file
		for _, name := range c.Names() {
			if name == "faults" {
				continue
			}
			f, err := parse(name, c.File(name))
			require.NoError(t, err)
			files = append(files, f)
		}
		found := check(files)
		require.NotEmpty(t, found)
		slices.Sort(found)
		c.Want("faults", strings.Join(found, "\n"))
	})
	if t.Failed() {
		return
	}
	for name := range rules {
		require.Contains(t, cases, name, "the rule has no case")
	}
}
