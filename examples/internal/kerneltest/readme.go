package kerneltest

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// changing is what differs from run to run in the output of an example.
var changing = []struct {
	pattern *regexp.Regexp
	mask    string
}{
	{regexp.MustCompile(`\((\d+ ms|\d+\.\d s)\)`), "(TIME)"},
	{regexp.MustCompile(`:\d{4,5}\b`), ":PORT"},
	{regexp.MustCompile(`net:\[\d+\]`), "net:[ID]"},
	{regexp.MustCompile(`process(es)? \d+( and \d+ are)?( in place of \d+)?`), "PROCESSES"},
	{regexp.MustCompile(`\d+ requests`), "N requests"},
	{regexp.MustCompile(` +\d+(\.\d+)?(ms|µs)\b`), " TIME"},
	{regexp.MustCompile(`\d+\.\d %`), "N %"},
	{regexp.MustCompile(`(pod-\d|coredns-[0-9a-z]+-[0-9a-z]+) \d+(,|\n)`), "$1 N$2"},
}

// Masked is the output of an example without what differs from run to run.
func Masked(output string) string {
	for _, change := range changing {
		output = change.pattern.ReplaceAllString(output, change.mask)
	}
	return output
}

// Readme requires that the text of this directory's README shows the output of a run (under its usual name), in a block that
// begins with the command. With PODPLUMB_README=update it writes it there.
func (m *Machine) Readme(t testing.TB, text, command, usualName, output string) {
	t.Helper()
	output = strings.ReplaceAll(output, m.Name, usualName)
	before, rest, ok := strings.Cut(text, "```console\n$ "+command+"\n")
	require.Truef(t, ok, "README.md has no block that begins with: $ %s", command)
	shown, after, ok := strings.Cut(rest, "```\n")
	require.True(t, ok)
	if os.Getenv("PODPLUMB_README") == "update" {
		require.NoError(t, os.WriteFile("README.md", []byte(before+"```console\n$ "+command+"\n"+output+"```\n"+after), 0o644))
		return
	}
	require.Equal(t, Masked(output), Masked(shown), "PODPLUMB_README=update go test writes the new output")
}
