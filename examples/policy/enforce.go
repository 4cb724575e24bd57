package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/podplumb/podplumb/examples/internal/report"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/policy"
)

// errDisagree says that the kernel does something else than Evaluate says.
var errDisagree = errors.New("packets and Evaluate do not agree")

// enforce builds the network, asks, enforces the policies, and asks again.
func enforce(ctx context.Context, o *options, stderr io.Writer) (code int) {
	w, err := load(o.manifests)
	if err != nil {
		fmt.Fprintf(stderr, "policy: %v\n", err)
		return run.Usage
	}
	traces, stale, err := run.Start(o.name)
	if err != nil {
		return run.Explain(ctx, stderr, "policy", err)
	}
	if stale.Any() {
		o.out.Line("removed what a killed run had left: %s", stale)
	}
	n := &network{world: w, run: traces, out: o.out}
	defer func() {
		removed, err := traces.End()
		n.close()
		if err != nil {
			fmt.Fprintln(stderr, "policy: clean up:", err)
			code = run.Failed
			return
		}
		o.out.Line("taken down: %s", removed)
	}()
	if err := n.show(ctx); err != nil {
		return run.Explain(ctx, stderr, "policy", err)
	}
	return run.Proved
}

func (n *network) show(ctx context.Context) error {
	err := n.out.Steps(ctx,
		report.Step{Title: "network namespaces", Do: n.makeNamespaces},
		report.Step{Title: "wire between the nodes", Do: n.layWire},
		report.Step{Title: "bridges and pods", Do: n.attachPods},
		report.Step{Title: "a server at every port", Do: n.startServers},
	)
	if err != nil {
		return err
	}
	open := n.state
	open.Policies, open.ClusterPolicies = nil, nil
	if err := n.matrix(ctx, "without policies", open); err != nil {
		return err
	}
	n.out.Line("")
	if err := n.out.Steps(ctx, report.Step{Title: "policies on every node", Do: n.applyPolicies}); err != nil {
		return err
	}
	if err := n.matrix(ctx, "with policies", n.state); err != nil {
		return err
	}
	n.out.Summary("packets and Evaluate agree")
	return nil
}

// applyPolicies enforces the policies on each node for its own pods. What is denied is refused at once, so that nobody has to wait.
func (n *network) applyPolicies(ctx context.Context) (string, error) {
	for _, at := range n.nodes {
		var err error
		if at.client, err = policy.New(policy.Config{NetNS: at.ns, Node: at.Name(), Reject: true}); err != nil {
			return "", err
		}
		plan, err := at.client.Sync(ctx, n.state)
		if err != nil {
			return "", fmt.Errorf("%s: %w", at.Name(), err)
		}
		n.out.Detail(1, at.Name(), plan.String())
	}
	return fmt.Sprintf("%d policies, %d nodes", len(n.state.Policies)+len(n.state.ClusterPolicies), len(n.nodes)), nil
}
