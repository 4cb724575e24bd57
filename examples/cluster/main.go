// The cluster example runs ordinary Kubernetes manifests on a cluster made of network namespaces: nodes joined by VXLAN,
// pods behind a bridge on each, masquerading to the outside, and Services and network policies on every node. It starts a small server for each
// container port, proves with packets that the network is the one Kubernetes asks for, and takes everything down.
//
//	sudo go run ./examples/cluster              the scenario that is shipped: two nodes, four pods, one Service
//	sudo go run ./examples/cluster -f ./examples/cluster/shop
//	sudo go run ./examples/cluster -keep        leave it running and look around
//	sudo go run ./examples/cluster -down        remove what was kept
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/podplumb/podplumb/examples/cluster/layout"
	"github.com/podplumb/podplumb/examples/internal/manifest"
	"github.com/podplumb/podplumb/examples/internal/report"
	"github.com/podplumb/podplumb/examples/internal/run"
)

func main() { run.Main(Run) }

//go:embed manifests
var shipped embed.FS

type options struct {
	manifests string
	name      string
	nodes     int
	backend   string
	dns       bool
	keep      bool
	down      bool
}

// Run is the example.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == dnsCommand {
		return runDNS(ctx, args[1:], stdout, stderr)
	}
	var o options
	out := report.New(stdout)
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.StringVar(&o.manifests, "f", "", "`directory` (or file) of manifests; empty: the scenario that is shipped")
	flags.StringVar(&o.name, "name", "demo", "name of the cluster, part of the names of its namespaces")
	flags.IntVar(&o.nodes, "nodes", 2, "number of nodes when the manifests declare none")
	flags.StringVar(&o.backend, "backend", "nat", "what serves the Services on each node: nat or ipvs")
	flags.BoolVar(&o.dns, "dns", true, "run the cluster's DNS server, unless the manifests have one")
	flags.BoolVar(&o.keep, "keep", false, "leave the cluster running")
	flags.BoolVar(&o.down, "down", false, "remove the cluster that was kept, or that a killed run has left")
	run.Verbosity(flags, &out.Verbose, "print what is changed in the kernel and all evidence")
	if code, ok := run.Parse(flags, args, stderr); !ok {
		return code
	}
	if o.nodes < 1 {
		fmt.Fprintf(stderr, "cluster: -nodes %d: a cluster has at least one\n", o.nodes)
		return run.Usage
	}
	if o.backend != "nat" && o.backend != "ipvs" {
		fmt.Fprintf(stderr, "cluster: -backend %s: there are nat and ipvs\n", o.backend)
		return run.Usage
	}
	if o.down {
		return down(ctx, o, out, stderr)
	}
	plan, code := read(o, out, stderr)
	if code != run.Proved {
		return code
	}
	return up(ctx, o, plan, out, stderr)
}

// read turns the manifests into the layout of a cluster. Nothing is touched yet.
func read(o options, out *report.Printer, stderr io.Writer) (layout.Cluster, int) {
	fsys, root, where := fs.FS(shipped), "manifests", "the shipped manifests"
	if o.manifests != "" {
		dir, file := filepath.Split(filepath.Clean(o.manifests))
		if info, err := os.Stat(o.manifests); err == nil && info.IsDir() {
			dir, file = o.manifests, "."
		}
		if dir == "" {
			dir = "."
		}
		fsys, root, where = os.DirFS(dir), file, o.manifests
	}
	set, err := manifest.Read(fsys, root)
	if err == nil && o.dns {
		err = addDNS(&set)
	}
	var plan layout.Cluster
	if err == nil {
		plan, err = layout.Arrange(set, o.nodes)
	}
	if err != nil {
		fmt.Fprintf(stderr, "cluster: %s:\n%v\n", where, err)
		return layout.Cluster{}, run.Usage
	}
	for _, warning := range plan.Warnings {
		fmt.Fprintln(stderr, "warning:", warning)
	}
	out.Line("%s: %s, %s, %s", where, count(len(plan.Nodes), "node"), count(len(plan.Pods), "pod"), count(len(plan.Services), "Service"))
	return plan, run.Proved
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// up builds the cluster, proves that it works and, unless it is to be kept, takes it down. Whatever happens on the way,
// nothing is left behind.
func up(ctx context.Context, o options, plan layout.Cluster, out *report.Printer, stderr io.Writer) (code int) {
	traces, stale, err := run.Start(o.name)
	if errors.Is(err, run.ErrKept) {
		fmt.Fprintf(stderr, "cluster: %v: remove it with -down%s\n", err, nameFlag(o))
		return run.Failed
	}
	if err != nil {
		return run.Explain(ctx, stderr, "cluster", err)
	}
	if stale.Any() {
		out.Line("removed what a killed run had left: %s", stale)
	}
	c := &cluster{layout: plan, run: traces, out: out, detach: o.keep, backend: o.backend}
	kept := false
	defer func() {
		if !kept {
			c.stopCommands()
		}
		removed, err := traces.End()
		c.close()
		if err != nil {
			fmt.Fprintln(stderr, "cluster: take down:", err)
			code = run.Failed
		} else if removed.Any() {
			out.Line("taken down: %s", removed)
		}
	}()
	if err := c.build(ctx); err != nil {
		return run.Explain(ctx, stderr, "cluster", err)
	}
	c.describe()
	if err := c.prove(ctx); err != nil {
		return run.Explain(ctx, stderr, "cluster", err)
	}
	if err := c.enforce(ctx); err != nil {
		return run.Explain(ctx, stderr, "cluster", err)
	}
	if err := c.mesh(ctx); err != nil {
		return run.Explain(ctx, stderr, "cluster", err)
	}
	if err := c.showServers(ctx); err != nil {
		return run.Explain(ctx, stderr, "cluster", err)
	}
	out.Summary("everything holds")
	if o.keep {
		if err := traces.Keep(); err != nil {
			return run.Explain(ctx, stderr, "cluster", err)
		}
		kept = true
		c.guide(o)
	}
	return run.Proved
}

// down removes a cluster by what it finds on the machine.
func down(ctx context.Context, o options, out *report.Printer, stderr io.Writer) int {
	removed, err := run.Down(o.name)
	if err != nil {
		return run.Explain(ctx, stderr, "cluster", err)
	}
	if !removed.Any() {
		out.Line("nothing to remove: no cluster %q is here", o.name)
		return run.Proved
	}
	out.Line("taken down: %s", removed)
	for _, process := range removed.Inside {
		out.Line("still there: %s; its namespace goes when it ends", process)
	}
	return run.Proved
}

func nameFlag(o options) string {
	if o.name == "demo" {
		return ""
	}
	return " -name " + o.name
}
