// The overlay example joins the pods of two nodes into one flat network and checks the four conditions of the Kubernetes
// network model on it, one by one, with packets, in IPv4 and IPv6.
//
//	sudo go run ./examples/overlay
//
// The nodes are network namespaces. Each has a bridge with two pods and a VXLAN device whose peer is the other node; a
// third namespace is the wire between them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/podplumb/podplumb/examples/internal/conditions"
	"github.com/podplumb/podplumb/examples/internal/report"
	"github.com/podplumb/podplumb/examples/internal/run"
)

func main() { run.Main(Run) }

// errCondition says that the network was built and is not what a cluster needs.
var errCondition = errors.New("not every condition of the network model holds")

// Run is the example.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	out := report.New(stdout)
	flags := flag.NewFlagSet("overlay", flag.ContinueOnError)
	run.Verbosity(flags, &out.Verbose, "print what is changed in the kernel")
	name := flags.String("name", "overlay", "name of this run, part of the names of its namespaces")
	if code, ok := run.Parse(flags, args, stderr); !ok {
		return code
	}
	traces, stale, err := run.Start(*name)
	if err != nil {
		return run.Explain(ctx, stderr, "overlay", err)
	}
	if stale.Any() {
		out.Line("removed what a killed run had left: %s", stale)
	}
	n := &network{run: traces, out: out}
	defer func() {
		removed, err := traces.End()
		n.close()
		if err != nil {
			fmt.Fprintln(stderr, "overlay: clean up:", err)
			code = run.Failed
			return
		}
		out.Line("taken down: %s", removed)
	}()
	if err := n.show(ctx); err != nil {
		return run.Explain(ctx, stderr, "overlay", err)
	}
	return run.Proved
}

func (n *network) show(ctx context.Context) error {
	var results []conditions.Result
	err := n.out.Steps(ctx,
		report.Step{Title: "namespaces for two nodes and four pods", Do: n.makeNamespaces},
		report.Step{Title: "wire between the nodes", Do: n.layUnderlay},
		report.Step{Title: "bridges and pods", Do: n.attachPods},
		report.Step{Title: "VXLAN", Do: n.joinNodes},
		report.Step{Title: "a server in every pod", Do: n.startServers},
		report.Step{Title: "everybody asks everybody", Do: func(ctx context.Context) (outcome string, err error) {
			results, outcome, err = conditions.Check(ctx, n.podHosts(), n.nodeHosts())
			return outcome, err
		}},
	)
	if err != nil {
		return err
	}
	n.out.Line("")
	const everyLine = 1000
	if !n.out.Conditions(results, everyLine) {
		return errCondition
	}
	n.out.Summary("all four conditions hold")
	return nil
}
