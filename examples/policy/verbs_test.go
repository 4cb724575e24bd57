package main_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	main "github.com/podplumb/podplumb/examples/policy"
)

// ask runs a verb in the directory above the examples, as the README does.
func ask(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, complaints bytes.Buffer
	for i, arg := range args {
		args[i] = strings.TrimPrefix(arg, "examples/policy/") // the test runs here
	}
	code = main.Run(context.Background(), args, &out, &complaints)
	return code, out.String(), complaints.String()
}

// TestVerbs holds the README to what the verbs print.
func TestVerbs(t *testing.T) {
	for command, want := range map[string]int{
		"explain web database:5432":                                      1,
		"explain web api:http":                                           0,
		"-f examples/policy/testdata/mistakes lint":                      1,
		"diff examples/policy/manifests examples/policy/testdata/change": 0,
	} {
		t.Run(command, func(t *testing.T) {
			code, stdout, stderr := ask(t, strings.Fields(command)...)
			require.Equal(t, want, code, stdout+stderr)
			require.Empty(t, stderr)
			text, err := os.ReadFile("README.md") // other tests may have brought it up to date
			require.NoError(t, err)
			heading := "```console\n$ go run ./examples/policy " + command + "\n"
			before, rest, ok := strings.Cut(string(text), heading)
			require.True(t, ok, "README.md has no block that begins with: %s", command)
			shown, after, _ := strings.Cut(rest, "```\n")
			if os.Getenv("PODPLUMB_README") == "update" {
				require.NoError(t, os.WriteFile("README.md", []byte(before+heading+stdout+"```\n"+after), 0o644))
				return
			}
			require.Equal(t, shown, stdout, "PODPLUMB_README=update go test writes the new output")
		})
	}
}

func TestExplainEnds(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"explain monitoring/prometheus api:metrics", 0, "allowed: NetworkPolicy policy default/allow-metrics, ingress[0]"},
		{"explain default/web dns:dns", 0, "UDP 10.244.1.2 -> 10.244.2.3:53"},
		{"explain outside api:8080", 1, "denied: default/api is isolated for ingress"},
		{"explain node-a database:sql", 0, "its own node"},
		{"explain node-b database:sql", 1, "isolated"},
		{"explain 192.0.2.9 web:80", 0, "default/web-policy, ingress[0]"},
		{"explain api 10.244.1.3:SCTP/5432", 1, "no rule of default/api-policy matches SCTP port 5432"},
		{"explain database database:5432", 0, "always reaches itself"},
	} {
		code, stdout, stderr := ask(t, strings.Fields(tt.args)...)
		require.Equal(t, tt.code, code, tt.args+"\n"+stdout+stderr)
		require.Contains(t, stdout, tt.want, tt.args)
	}
}

func TestUsage(t *testing.T) {
	empty := t.TempDir()
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: x\nspec:\n  podSelector: {}\n  ingress:\n  - from:\n    - ipBlock: {cidr: 10.0.0.0/8, excpet: [10.1.0.0/16]}\n    ports:\n    - port: 70000\n"), 0o644))
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"explain", "web"}, "unexpected arguments"},
		{[]string{"no-such-verb"}, "unexpected arguments"},
		{[]string{"-no-such-flag"}, "not defined"},
		{[]string{"explain", "web", "database"}, "no port"},
		{[]string{"explain", "web", "database:nosuch"}, `database has no port "nosuch"`},
		{[]string{"explain", "web", "database:ICMP/1"}, "none of TCP"},
		{[]string{"explain", "nobody", "database:1"}, `there is no "nobody"`},
		{[]string{"explain", "10.0.0.9", "2001:db8::1:80"}, "no address of one family"},
		{[]string{"-f", empty, "lint"}, "no .yaml"},
		{[]string{"diff", "manifests", filepath.Join(empty, "none")}, "none"},
		{[]string{"-f", bad, "lint"}, "spec.ingress[0].from[0].ipBlock.excpet: unknown field"},
		{[]string{"-f", bad}, "spec.ingress[0].ports[0].port: 70000 is no port"},
	} {
		code, stdout, stderr := ask(t, tt.args...)
		require.Equal(t, 2, code, "%v\n%s%s", tt.args, stdout, stderr)
		require.Contains(t, stderr, tt.want, "%v", tt.args)
	}
	code, _, _ := ask(t, "-h")
	require.Zero(t, code)
}
