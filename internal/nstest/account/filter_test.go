package account_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/golden"
	"github.com/podplumb/podplumb/internal/nstest/account"
)

// TestFilter has the go tool test small modules and compares what comes out of the filter.
func TestFilter(t *testing.T) {
	t.Parallel()
	golden.Cases(t, "testdata/*.txtar", func(t *testing.T, c *golden.Case) {
		t.Parallel()
		dir := t.TempDir()
		for _, name := range c.Names() {
			if filepath.Ext(name) == ".go" {
				path := filepath.Join(dir, name)
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
				require.NoError(t, os.WriteFile(path, []byte(c.File(name)), 0o600))
			}
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module m\n\ngo 1.25\n"), 0o600))
		cmd := exec.Command("go", "test", "-json", "-p=1", "-vet=off", "./...")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		stream, err := cmd.Output()
		if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) { // a failing test is what some cases are about
			require.NoError(t, err)
		}

		var shown strings.Builder
		results, err := account.Filter(&shown, bytes.NewReader(stream))
		require.NoError(t, err)
		c.Want("shown", steady(shown.String()))
		var lines bytes.Buffer
		require.NoError(t, results.Write(&lines))
		c.Want("results", sorted(lines.String()))
	})
}

func TestFilterStopsAtWhatIsNotJSON(t *testing.T) {
	t.Parallel()
	_, err := account.Filter(&strings.Builder{}, strings.NewReader("ok m 0.1s\n"))
	require.ErrorContains(t, err, "account: read go test -json")
}

// TestFilterOfACutStream: go test was killed while a test ran.
func TestFilterOfACutStream(t *testing.T) {
	t.Parallel()
	var shown strings.Builder
	results, err := account.Filter(&shown, strings.NewReader(`{"Action":"output","Package":"m","Test":"TestA","Output":"half a line"}`+"\n"))
	require.NoError(t, err)
	require.Equal(t, account.Results{test("m", "TestA"): account.Fail}, results)
	require.Equal(t, "half a line", shown.String())
}

// steady takes out what differs from run to run: times, addresses and the stack below a panic.
func steady(s string) string {
	s = regexp.MustCompile(`\d+\.\d+s`).ReplaceAllString(s, "TIME")
	s = regexp.MustCompile(`(?s)goroutine \d+ .*?(FAIL\tm)`).ReplaceAllString(s, "STACK\n$1")
	return s
}

func sorted(lines string) string {
	return strings.Join(slices.Sorted(strings.SplitAfterSeq(lines, "\n")), "")
}
