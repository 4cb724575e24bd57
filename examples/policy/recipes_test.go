package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRecipes tries policies as people write and copy them. What each is to allow and deny stands above it.
func TestRecipes(t *testing.T) {
	t.Parallel()
	const dir = "testdata/recipes"
	pods, err := os.ReadFile(filepath.Join(dir, "pods.yaml"))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(dir, "[0-9]*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			world := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(world, "pods.yaml"), pods, 0o644))
			require.NoError(t, os.WriteFile(filepath.Join(world, "recipe.yaml"), text, 0o644))
			asked := map[string]int{}
			for line := range strings.Lines(string(text)) {
				words := strings.Fields(strings.TrimPrefix(line, "#"))
				if !strings.HasPrefix(line, "# ") || len(words) != 3 || words[0] != "yes" && words[0] != "no" {
					continue
				}
				asked[words[0]]++
				code, stdout, stderr := ask(t, "-f", world, "explain", words[1], words[2])
				require.Equal(t, map[string]int{"yes": 0, "no": 1}[words[0]], code, "%s\n%s%s", line, stdout, stderr)
			}
			require.Positive(t, asked["yes"])
			require.Positive(t, asked["no"])
			code, stdout, stderr := ask(t, "-f", world, "lint")
			require.Zero(t, code, "%s%s", stdout, stderr)
		})
	}
}
