package main

import (
	"embed"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

//go:embed README.md
var readme string

//go:embed demo
var demo embed.FS

// The README shows what the program prints.
func TestReadme(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	ns := newNS(t)
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, demo))
	shows := func(arguments string, rest ...string) {
		t.Helper()
		text := readme
		if updated, err := os.ReadFile("README.md"); err == nil { // an update of one block is the text for the next
			text = string(updated)
		}
		args := strings.Fields(strings.ReplaceAll(arguments, "examples/serviceproxy", dir))
		e := kerneltest.StartIn(t, ns, append(args, rest...)...)
		require.Equal(t, 0, e.Wait(t), e.Stderr())
		machine.Readme(t, text, "sudo go run ./examples/serviceproxy "+arguments, "demo", e.Stdout())
	}
	shows("--manifests examples/serviceproxy/demo --hostname-override node-1 --dry-run")
	start(t, &lab{node: ns}, "--manifests", filepath.Join(dir, "demo")).end(t)
	shows("explain 198.51.100.7 203.0.113.20:80")
	shows("explain 10.244.1.9 10.96.0.20:443/tcp")
	machine.NothingLeft(t)
}

// The README names every flag.
func TestReadmeNamesFlags(t *testing.T) {
	t.Parallel()
	o := defaults()
	flags := flag.NewFlagSet("serviceproxy", flag.ContinueOnError)
	var config string
	o.define(flags, &config, io.Discard)
	flags.VisitAll(func(f *flag.Flag) {
		_, passed := tolerated[f.Name]
		_, passedSwitch := toleratedSwitches[f.Name]
		if !passed && !passedSwitch {
			require.Contains(t, readme, "-"+f.Name)
		}
	})
}

// The files that the README links to are there.
func TestReadmeLinks(t *testing.T) {
	t.Parallel()
	for _, part := range strings.Split(readme, "](")[1:] {
		name, _, _ := strings.Cut(part, ")")
		_, err := os.Stat(filepath.FromSlash(name))
		require.NoError(t, err)
	}
}

// The DaemonSet is one that an API server takes, and its arguments are some that the program takes.
func TestDaemonSet(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("daemonset.yaml")
	require.NoError(t, err)
	documents := strings.Split(string(data), "\n---\n")
	require.Len(t, documents, 4)
	var set appsv1.DaemonSet
	require.NoError(t, sigsyaml.UnmarshalStrict([]byte(documents[3]), &set))
	require.Equal(t, set.Spec.Selector.MatchLabels, set.Spec.Template.Labels)
	var args []string
	for _, arg := range set.Spec.Template.Spec.Containers[0].Args {
		args = append(args, strings.ReplaceAll(arg, "$(NODE_NAME)", "node-1"))
	}
	var stderr strings.Builder
	o, _, ok := parse(args, &stderr)
	require.True(t, ok, stderr.String())
	require.Empty(t, stderr.String())
	require.Equal(t, "node-1", o.node)
	require.Len(t, o.clusterCIDRs, 2)
}
